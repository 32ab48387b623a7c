"""The Space on another artifact than the bundled one: `SEED_ARTIFACT` names a pipeline's folder."""

import importlib
import importlib.util
import sys
from pathlib import Path

import pytest
from PIL import Image

from seed_hf.artifacts.known_words import KnownWords
from seed_hf.pictograms.scene_things import read_things
from seed_hf.pictograms.scenes import World, held_out_colour, held_out_pair
from tiny_diffusion import tiny_model_and_processor, tiny_pipeline


if importlib.util.find_spec("gradio") is None:
    pytest.skip("The Space needs gradio: pip install .[demo]", allow_module_level=True)

SPACE = Path(__file__).parents[2] / "spaces" / "see-and-draw"


@pytest.fixture(scope="module")
def space():
    """Imports one of the Space's modules, which are no package."""
    sys.path.insert(0, str(SPACE))
    yield importlib.import_module
    sys.path.remove(str(SPACE))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    model, processor = tiny_model_and_processor()
    folder = tmp_path_factory.mktemp("pipeline")
    tiny_pipeline(model, processor=processor).save_pretrained(folder)
    return folder


@pytest.fixture
def artifact(space, folder, monkeypatch):
    monkeypatch.setenv("SEED_ARTIFACT", str(folder))
    return space("artifact").Artifact.from_environment()


@pytest.fixture(scope="module")
def knowing(space, folder):
    """The same artifact with a list of words, and never sure."""
    known = KnownWords.of([thing.name for thing in read_things()], ["a red apple", "make it blue"], sure=1.0)
    path = folder / "processor" / "known_words.json"
    known.save(path.parent)
    artifact = space("artifact").Artifact(str(folder))
    path.unlink()
    return artifact


@pytest.fixture(scope="module")
def pages(space, folder, knowing):
    """The page of an artifact without a list of words, and of the same with one."""
    return [space("app").build(each) for each in (space("artifact").Artifact(str(folder)), knowing)]


def blocks(page, elem_id):
    return [block for block in page.blocks.values() if block.elem_id == elem_id]


def test_another_artifact_is_shown_under_its_own_name(pages, folder):
    page = str(pages[0].get_config_file())
    assert f"**{folder.name}**" in page and "seed-tiny" not in page
    assert str(folder) not in page  # where it lies on this machine


def test_a_small_model_names_what_it_does_not_know_and_has_its_list_at_hand(space, artifact, knowing, pages):
    assert "'wizard' is not one of them" in knowing.note("a red wizard") and knowing.note("a red apple") == ""
    assert artifact.note("a red wizard") == ""
    other, page = pages
    assert blocks(page, "known") and "fire engine" in str(page.get_config_file()) and not blocks(other, "known")
    tab = space("chat_tab").Conversation(knowing)
    *_, (turns, messages, _, _) = tab.reply({"text": "a wizard"}, "Words", [], [])
    assert "'wizard'" in messages[1]["content"] and "'wizard'" not in str(turns)  # it is no part of the conversation


def test_a_caption_that_it_is_not_sure_of_becomes_a_guess(artifact, knowing):
    codes = artifact.encode(Image.new("RGB", (9, 9), "red"))
    *_, guess = knowing.caption(codes)
    assert guess.startswith("not sure: ") and guess.count("%)") == 3
    assert [*knowing.caption(codes)][:-1] == [*artifact.caption(codes)]


def test_surprise_me_is_there_for_models_of_the_small_world(space, pages):
    other, page = pages
    (button,) = blocks(page, "draw-surprise")
    assert button.visible and not blocks(other, "draw-surprise")[0].visible
    (event,) = [event for event in page.fns.values() if (button._id, "click") in event.targets]
    prompt, seed, new = event.fn()
    assert space("surprise").surprise(seed) == (prompt, new)


def test_surprises_are_the_same_for_the_same_seed_and_new_where_they_say_so(space):
    world, surprise = World(), space("surprise").surprise
    prompts = [surprise(seed) for seed in range(30)]
    assert prompts == [surprise(seed) for seed in range(30)] and len({prompt for prompt, _ in prompts}) == 30
    for prompt, new in prompts:
        words = f" {prompt} "
        if "in this colour" in new:
            colour = prompt.split()[1]
            assert held_out_colour(world.things[prompt.split(maxsplit=2)[2]], colour) == "test"
        if "together" in new:
            found = [name for name in world.things if f" {name} " in words]
            assert any(held_out_pair(a, b) for a in found for b in found if a != b)


def test_several_images_have_codes_of_their_own_and_each_depends_on_its_seed_alone(artifact):
    images, codes = artifact.draw("a red apple", images=3, steps=2, seed=5)
    alone = [artifact.draw("a red apple", steps=2, seed=seed, sample=True) for seed in (5, 6, 7)]
    assert codes == [own for _, (own,) in alone] and len({*map(tuple, codes)}) == 3
    likeliest = [artifact.draw("a red apple", steps=1, seed=seed)[1] for seed in (5, 6)]
    assert likeliest[0] == likeliest[1]


def test_a_drawing_in_a_chat_is_asked_for_anew_and_a_change_as_it_was_taught(space, artifact):
    """Turns before would be a prompt that the model never had in training."""
    codes = artifact.encode(Image.new("RGB", (9, 9), "red"))
    tab, processor = space("chat_tab").Conversation(artifact), artifact.processor
    turns = [{"role": "user", "parts": ["a cat"]}, {"role": "assistant", "parts": [codes]}]
    text, images, shortened = tab.as_prompt(turns, ["a red apple"], "image")
    assert processor(text=text).input_ids[0].tolist() == processor.draw("a red apple").input_ids[0].tolist()
    assert images == [] and not shortened
    text, images, _ = tab.as_prompt(turns, [codes, "make it blue"], "image")
    ((taught, _),) = processor.sequences.turns([("user", [codes, "make it blue"]), ("assistant", [codes])])
    assert processor(text=text, codes=[codes]).input_ids[0].tolist() == taught and images == [codes]
    text, images, _ = tab.as_prompt(turns, ["what is it?"], "text")
    assert images == [codes]  # words go on with what was said


STRICT = """\
{%- for message in messages -%}
{%- if (message.role == "user") != (loop.index0 is even) -%}{{ raise_exception("roles must take turns") }}{%- endif -%}
{%- for part in message.content -%}{{ part.text if part.type == "text" else "<image>" }}{%- endfor -%}
{%- endfor -%}"""


def test_a_conversation_goes_on_with_templates_whose_roles_take_turns(space, artifact, monkeypatch):
    """When it is longer than the model reads, and after a message that was not answered."""
    tab = space("chat_tab").Conversation(artifact)
    monkeypatch.setattr(artifact.processor, "chat_template", STRICT)
    turns, shortened = [], False
    while not shortened:
        assert len(turns) < 40, "it never became too long"
        left = tab.reply({"text": "a cat"}, "Words", turns, [])
        turns, *_ = next(left)  # what the page keeps of a visitor who leaves
        left.close()
        *_, (turns, _, _, _) = tab.reply({"text": "a red cat " * 4}, "Words", turns, [])
        *_, shortened = tab.as_prompt(turns, ["a dog"], "text")


def test_a_reply_is_streamed_and_its_images_are_whole(artifact):
    codes = artifact.encode(Image.new("RGB", (9, 9), "red"))
    *unfinished, last = artifact.reply("a cat <image>", [codes], "image")
    counts = [parts[-1] for parts in unfinished if parts and isinstance(parts[-1], int)]
    assert counts == sorted(counts) and len(counts) >= artifact.places
    image = next(part for part in last if isinstance(part, list))
    assert len(image) == artifact.places and max(image) < artifact.codebook_size
    assert artifact.redraw(image)[0].size[0] > 0


def test_who_stops_listening_stops_the_model(artifact, monkeypatch):
    ended = []
    generate = artifact.model.generate
    monkeypatch.setattr(artifact.model, "generate", lambda **settings: ended.append(generate(**settings)))
    stream = artifact.reply("a cat", [], "image")
    next(stream)
    stream.close()
    assert len(ended) == 1  # the thread is over when close() returns


def test_errors_of_the_model_reach_the_page(artifact):
    with pytest.raises(ValueError, match="generation_mode"):
        list(artifact.reply("a cat", [], "song"))


def test_codes_that_are_not_used_are_those_of_a_white_image(artifact):
    codes = artifact.encode(Image.new("RGB", (9, 9), "red"))
    white = artifact.encode(Image.new("RGB", (64, 64), "white"))
    assert artifact.first(codes, 5) == codes[:5] + white[5:]
    assert artifact.first(codes, artifact.places) == codes


def test_near_codes_are_others_and_the_nearest_first(artifact):
    near = artifact.nearest_codes(3, 8)
    vectors = artifact.pipe.visual_tokenizer.quantizer.embedding.weight
    far = [(vectors[code] - vectors[3]).norm().item() for code in near]
    assert len(near) == 8 and 3 not in near and far == sorted(far)


def test_what_has_too_many_tokens_is_refused_before_the_model_reads_it(space, artifact):
    """200 characters may be 800 tokens."""
    limits = space("limits")
    for what, fault in (("prompt", artifact.prompt_fault), ("question", artifact.question_fault)):
        assert limits.checked_text("a red apple", what, fault) == "a red apple"
        with pytest.raises(limits.Refusal, match=f"The {what} is too long: .* tokens.* Shorten it."):
            limits.checked_text("\N{RED APPLE}" * 150, what, fault)


def test_an_image_that_was_deleted_is_named_in_a_conversation(space, tmp_path):
    chat = space("chat_tab")
    path = tmp_path / "mine.png"
    path.write_bytes(b"image")
    messages = [chat.said("user", {"path": str(path)}), chat.said("user", "what is it?")]
    assert [*map(chat.still_there, messages)] == messages
    path.unlink()
    assert [*map(chat.still_there, messages)] == [chat.said("user", chat.DELETED), messages[1]]


def test_a_pipeline_without_a_language_model_is_refused(space, tmp_path):
    tiny_pipeline().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="language model|SeedForConditionalGeneration"):
        space("artifact").Artifact(str(tmp_path))


def test_sessions_stay_small_are_forgotten_and_are_bounded(space, artifact, monkeypatch):
    from gradio import Blocks, State, state_holder

    monkeypatch.setattr(state_holder, "SessionState", state_holder.SessionState)  # put back after the test
    monkeypatch.setattr(space("page_memory").ctypes, "CDLL", lambda name: None)  # this process allocates as before
    monkeypatch.setattr(space("guard"), "install", lambda: None)
    launched = []
    monkeypatch.setattr(Blocks, "launch", lambda page, **settings: launched.append((page, settings)))
    space("app").main()
    ((page, settings),) = launched
    assert settings["state_session_capacity"] == space("page_memory").SESSIONS <= 1000
    turns = next(block for block in page.blocks.values() if isinstance(block, State) and block.value == [])
    chat = next(block for block in page.blocks.values() if block.elem_id == "chat")
    page.state_session_capacity = 3
    sessions = state_holder.StateHolder()
    sessions.set_blocks(page)
    for number in range(5):
        session = sessions[f"visitor {number}"]
        session[turns._id] = [{"role": "user", "parts": ["a"]}]
        session[chat._id] = chat
        session._update_value_in_config(chat._id, ["x" * 100_000])
        assert session[turns._id] and session.config_values == {}  # no copy of the page for each visitor
    assert [*sessions.session_data] == ["visitor 2", "visitor 3", "visitor 4"]
    session.is_closed, session.STATE_TTL_WHEN_CLOSED = True, -1  # as an hour after the page was closed
    sessions.delete_all_expired_state()
    assert session.state_data == {} and sessions["visitor 3"][turns._id]
