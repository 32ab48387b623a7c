"""The Space on another artifact than the bundled one: `SEED_ARTIFACT` names a pipeline's folder."""

import importlib
import importlib.util
import sys
from pathlib import Path

import pytest
from PIL import Image

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


def test_another_artifact_is_shown_under_its_own_name(space, artifact, folder):
    page = str(space("app").build(artifact).get_config_file())
    assert str(folder) in page and "seed-tiny" not in page


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
