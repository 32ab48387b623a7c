"""`seed-hf evaluate caption`, `vqa` and `choice`: controls, the authors' settings, batches, commands."""

import copy
import json

import pytest
import torch

from benchmark_files import (
    coco_captions,
    seed_bench_file,
    vqa_files,
    write_images,
)
from command_line import refused, run
from seed_hf.evaluation.formats.opening import open_benchmark
from seed_hf.evaluation.rows import EvaluationData, EvaluationRow
from seed_hf.evaluation.running import run_task
from seed_hf.evaluation.tasks.caption import Caption
from seed_hf.evaluation.tasks.choice import Choice, letter_in, lettered_question
from seed_hf.evaluation.tasks.vqa import Vqa
from seed_hf.texts import describe
from tiny_language import tiny_processor, tiny_seed_model
from tiny_sources import noise


def rows(count=6):
    questions = ["What is it?", "Is it a very red apple or is it blue?", "Why?"]
    return [
        EvaluationRow(
            f"r{i}",
            noise(i),
            captions=("a red apple", f"an apple {i}"),
            question=questions[i % 3],
            answers=("yes", "red"),
            choices=("a red apple", "blue", "an apple that is very red")[: 2 + i % 2],
            right=i % 2,
            group=f"g{i % 2}",
        )
        for i in range(count)
    ]


DATA = EvaluationData("made", rows())


@pytest.fixture(scope="module")
def roomy_model():
    return tiny_seed_model(max_position_embeddings=400), tiny_processor()


def lines(path):
    found = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    return sorted(found, key=lambda line: line["row"])


@pytest.mark.parametrize(
    "make",
    [
        lambda *parts: Caption(*parts, max_new_tokens=6),
        lambda *parts: Vqa(*parts, max_new_tokens=6),
        Choice,
        lambda *parts: Choice(*parts, by="letter", max_new_tokens=4),
        lambda *parts: Caption(*parts, num_beams=2, max_new_tokens=5),
    ],
    ids=["caption", "vqa", "choice", "letter", "beams"],
)
def test_a_row_does_not_depend_on_batch_and_order(make, roomy_model, tmp_path):
    task = make(*roomy_model)
    one = run_task(task, DATA, tmp_path / "one.json", batch_size=1)
    turned = EvaluationData("made", rows()[::-1])
    other = run_task(task, turned, tmp_path / "all.json", batch_size=4)
    for left, right in zip(lines(tmp_path / "one.rows.jsonl"), lines(tmp_path / "all.rows.jsonl")[::-1], strict=True):
        assert left.pop("losses", []) == pytest.approx(right.pop("losses", []), abs=1e-4)
        assert left.pop("row") == 5 - right.pop("row") and left == right
    assert one["figures"]["all"] == pytest.approx(other["figures"]["all"])
    assert one["settings"] and one["model"]["sha256"] and "Deviations" not in (tmp_path / "one.md").read_text()


def test_captions_are_those_of_the_rest_of_the_package(roomy_model, tmp_path):
    from seed_hf.images import load_image

    run_task(Caption(*roomy_model), DATA, tmp_path / "out.json")
    said = [line["said"] for line in lines(tmp_path / "out.rows.jsonl")]
    assert said == describe(*roomy_model, [load_image(row.image) for row in DATA.rows])


def test_losses_are_those_of_the_model(roomy_model):
    model, processor = roomy_model
    text_generator = Choice(model, processor).text_generator
    codes = torch.randint(64, (3, model.config.tokenizer_config.num_query_tokens)).tolist()
    asked, texts = ["What?", "What is it then?", "Why?"], ["red", "a very red apple", "blue"]
    for number, (loss, tokens) in enumerate(text_generator.losses(codes, asked, texts)):
        prompt = processor.sequences.prompt("question", codes=codes[number], question=asked[number])
        answer = processor.sequences.answer("question", text=texts[number])
        labels = torch.tensor([[-100] * len(prompt) + answer])
        expected = model(input_ids=torch.tensor([prompt + answer]), labels=labels).loss.item()
        assert tokens == len(answer) and loss / tokens == pytest.approx(expected, abs=1e-5)


def test_oracle_and_chance_of_choices():
    task = object.__new__(Choice)
    records = [{"choice": i % 4, "right": i % 4, "choices": 4, "group": f"g{i % 2}"} for i in range(400)]
    perfect = task.figures(records)
    assert perfect["all"] == {"accuracy": 100, "chance": 25, "no_choice": 0, "num_questions": 400}
    assert perfect["g1"]["accuracy"] == 100
    order = torch.randperm(400).tolist()
    shuffled = task.figures([{**record, "right": records[j]["right"]} for record, j in zip(records, order)])
    assert shuffled["all"]["accuracy"] == pytest.approx(25, abs=7)
    none = task.figures([{**record, "choice": None} for record in records])["all"]
    assert none["accuracy"] == 0 and none["no_choice"] == 100


def test_oracle_and_chance_of_captions():
    task = object.__new__(Caption)
    truth = [
        f"a {colour} {thing} on the grass" for colour in ("red", "blue", "old") for thing in ("dog", "cat", "bus")
    ]
    records = [{"said": text, "captions": [text], "group": ""} for text in truth]
    perfect = task.figures(records)["all"]
    assert perfect["CIDEr-D"] == pytest.approx(1000) and perfect["BLEU-4"] == pytest.approx(100)
    assert perfect["exact_match"] == perfect["known_captions"] == perfect["ROUGE-L"] == 100
    turned = [{**record, "said": other} for record, other in zip(records, truth[4:] + truth[:4], strict=True)]
    shuffled = task.figures(turned)["all"]
    assert shuffled["exact_match"] == 0 and shuffled["known_captions"] == 100 and shuffled["CIDEr-D"] < 100


def test_oracle_and_chance_of_answers():
    task = object.__new__(Vqa)
    truth = ["red", "blue", "green", "1"] * 50
    records = [{"accuracy": 1.0, "answers": [said] * 10, "group": "colour"} for said in truth]
    found = task.figures(records)
    assert found == {"all": {"accuracy": 100, "majority": 25, "num_questions": 200}}
    two = task.figures([{**record, "group": record["answers"][0]} for record in records])
    assert two["all"]["mean_accuracy_of_groups"] == 100 and two["red"]["majority"] == 100
    assert two["all"]["majority"] == 25 and two["all"]["mean_majority_of_groups"] == 100  # one answer for all


def test_the_same_choices_tie_in_any_batch(roomy_model, tmp_path):
    """They came into different batches, padded by others, and one of them won by its last bits."""
    choices = ("red", "a very long answer that pads the others in its batch", "red", "blue or green or yellow", "red")
    asked = [EvaluationRow(str(i), noise(i), question="Which?" * (i + 1), choices=choices, right=0) for i in range(3)]
    for size in (1, 2, 3, 64):
        run_task(Choice(*roomy_model), EvaluationData("made", asked), tmp_path / f"{size}.json", batch_size=size)
        for line in lines(tmp_path / f"{size}.rows.jsonl"):
            assert line["losses"][0] == line["losses"][2] == line["losses"][4]


def test_what_decides_the_texts_is_in_the_settings(roomy_model, tmp_path):
    """Also what lies in the model's folder beside the weights: another preparation of images, a penalty."""
    model, processor = copy.deepcopy(roomy_model)
    before = Caption(model, processor).settings
    assert before["image_processor"]["image_mean"] and "generation_config" not in before
    run_task(Caption(model, processor, max_new_tokens=3), DATA, tmp_path / "out.json", limit=1)
    model.generation_config.repetition_penalty = 1.3
    assert Caption(model, processor).settings == {**before, "generation_config": {"repetition_penalty": 1.3}}
    model.generation_config.repetition_penalty = None
    processor.image_processor.image_mean = [0.0, 0.0, 0.0]
    assert Vqa(model, processor).settings["image_processor"]["image_mean"] == [0.0, 0.0, 0.0]
    assert Choice(model, processor).settings["image_processor"]["image_mean"] == [0.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="rows of another evaluation; settings image_processor image_mean was"):
        run_task(Caption(model, processor, max_new_tokens=3), DATA, tmp_path / "out.json", limit=1)


def test_a_length_penalty_without_beams_is_refused(roomy_model):
    for task in (Caption, Vqa):
        with pytest.raises(ValueError, match="greedy decoding has none"):
            task(*roomy_model, length_penalty=2.0)
        assert task(*roomy_model, length_penalty=2.0, num_beams=2).settings["length_penalty"] == 2


@pytest.mark.parametrize("task", [Caption, Vqa, Choice])
def test_weights_that_are_no_numbers_are_refused(task, roomy_model, tmp_path):
    """What they write looks like bad captions and answers."""
    model = copy.deepcopy(roomy_model[0])
    weights = dict(model.language_model.named_parameters())
    name = next(name for name in weights if name.endswith("final_layer_norm.weight"))
    weights[name].data[3] = torch.inf
    said = f"SeedForConditionalGeneration: the weight language_model.{name} holds values that are NaN or infinite"
    with pytest.raises(ValueError, match=said):
        run_task(task(model, roomy_model[1]), DATA, tmp_path / "out.json")
    assert not list(tmp_path.iterdir())


def test_a_tie_is_no_choice(roomy_model, tmp_path):
    made = [EvaluationRow("r", noise(0), question="What?", choices=("red", "red"), right=0)]
    result = run_task(Choice(*roomy_model), EvaluationData("made", made), tmp_path / "out.json")
    assert result["figures"]["all"] == {"accuracy": 0, "chance": 50, "no_choice": 100, "num_questions": 1}


def test_what_the_model_has_no_room_for_is_said_and_never_cut(tmp_path):
    parts = tiny_seed_model(max_position_embeddings=70), tiny_processor()
    made = [
        EvaluationRow("short", noise(0), question="Why?", answers=("red",), choices=("red", "blue"), right=0),
        EvaluationRow("long", noise(0), question="Why? " * 20, answers=("red",), choices=("red", "blue"), right=0),
    ]
    for task in (Vqa(*parts, max_new_tokens=2), Choice(*parts)):
        with pytest.raises(ValueError, match=r"long: a prompt of \d+ tokens and \d+ more do not fit .* 70 positions"):
            run_task(task, EvaluationData("made", made), tmp_path / "out.json")


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("B", 1),
        ("(b)", 1),
        ("C. a cat", 2),
        ("The answer is B.", 1),
        ("A", 0),
        ("A.", 0),
        ("A cat", None),
        ("A is correct.", 0),
        ("B is correct.", 1),
        ("A and B", 0),
        ("A has the most", 0),
        ("A cat, so B", 1),
        ("I think D", 3),
        ("E", None),
        ("a cat", None),
        ("", None),
    ],
)
def test_letters(said, number):
    assert letter_in(said, 4) == number
    assert letter_in("I believe it is B", 12) == 1 and letter_in("I", 12) == 8  # a word, and a letter


def test_lettered_question():
    assert lettered_question("What?", ["red", "blue"]).startswith(
        "What?\nA. red\nB. blue\nAnswer with the option's letter"
    )


def test_the_authors_settings_are_the_default(roomy_model, tmp_path):
    """SEED-LLaMA's evaluation searched five beams; what differs from it stands in the result."""
    model = roomy_model[0]
    plain = tiny_processor(prompt_format="plain")
    task = Caption(model, plain)
    assert task.settings["num_beams"] == 5 and task.settings["max_new_tokens"] == 120
    assert task.settings["caption_prompt"] == "" and task.settings["left_out"]["SPICE"]
    one = EvaluationData("made", rows(1))
    changed = Caption(model, plain, num_beams=1, max_new_tokens=3, prompt="Describe it:")
    deviations = run_task(changed, one, tmp_path / "out.json")["deviations"]
    assert deviations == [
        "caption_prompt is 'Describe it:'; the authors' is ''",
        "num_beams is 1; the authors' is 5",
        "max_new_tokens is 3; the authors' is 120",
    ]
    asked = Vqa(model, plain, max_new_tokens=3)
    assert asked.settings["question_prompt"] == "Question: {}\nAnswer:" and asked.settings["num_beams"] == 5
    assert asked.protocol["do_sample"] and not asked.settings["do_sample"]


@pytest.mark.parametrize("prompt_format", ["vicuna", "llama2"])
def test_tuned_models_are_asked_by_the_instructions_of_the_authors_data(roomy_model, tmp_path, prompt_format):
    model, processor = roomy_model[0], tiny_processor(prompt_format=prompt_format)
    caption, asked = Caption(model, processor), Vqa(model, processor)
    assert caption.settings["caption_prompt"] == (
        "Please provide an accurate and concise description of the given image."
    )
    assert asked.settings["question_prompt"] == (
        "{} Please provide an accurate answer consisting of only one word or phrase."
    )
    # How the authors decoded after instruction tuning, and how they asked for a choice, is not known.
    assert set(caption.protocol) == {"caption_prompt"} and set(asked.protocol) == {"question_prompt"}
    assert Choice(model, processor).protocol == {"by": "loss"}
    assert Choice(model, processor).settings["question_prompt"] == "{}"
    said = EvaluationData("made", rows(1))
    assert run_task(Caption(model, processor, max_new_tokens=3), said, tmp_path / "out.json")["deviations"] == []
    own = tiny_processor(prompt_format=prompt_format, caption_prompt="Describe it.")
    assert Caption(model, own).settings["caption_prompt"] == "Describe it."


def test_nocaps_has_figures_by_domain(roomy_model, tmp_path):
    said = {f"{i}.jpg": [f"an apple {i}", "a red apple"] for i in range(4)}
    domains = ["in-domain", "near-domain", "in-domain", "out-domain"]
    path = coco_captions(tmp_path, said, "nocaps_val_4500_captions.json", domain=domains)
    write_images(tmp_path, *said)
    result = run_task(Caption(*roomy_model), open_benchmark(path), tmp_path / "out.json")
    assert list(result["figures"]) == ["all", "in-domain", "near-domain", "out-domain"]
    assert [group["num_images"] for group in result["figures"].values()] == [4, 2, 1, 1]


def test_the_commands(tmp_path, saved_model):
    common = ("--model", saved_model, "--limit", 2)
    captions = coco_captions(tmp_path, {"a.jpg": ["a red apple"], "b.jpg": ["an apple"]})
    write_images(
        tmp_path, "a.jpg", "b.jpg", "COCO_val2014_000000000042.jpg", "1454426_2591111980", "1454426_2591111981"
    )
    questions, annotations = vqa_files(tmp_path, [(42, "What?", ["red"] * 10, "other")])
    for arguments, metric in (
        (("caption", "--data", captions, "--max-new-tokens", 4), "CIDEr-D"),
        (("vqa", "--data", questions, "--annotations", annotations, "--prompt", "Q: {} A:"), "accuracy"),
        (("choice", "--data", seed_bench_file(tmp_path), "--by", "mean_loss"), "accuracy"),
    ):
        out = tmp_path / f"{arguments[0]}.json"
        status, printed, error = run("evaluate", *arguments, *common, "--out", out)
        assert status == 0, error
        assert f"| {metric} |" in printed and metric in json.loads(out.read_text())["figures"]["all"]
    assert json.loads((tmp_path / "vqa.json").read_text())["settings"]["question_prompt"] == "Q: {} A:"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["vqa", "--data", "FILE"], "2 of 2 rows cannot be used, the first: 391895: no question"),
        (["vqa", "--data", "FOLDER"], "questions are read from the file of a benchmark"),
        (["choice", "--data", "FILE", "--num-beams", "3"], "num_beams: nothing is generated"),
        (["vqa", "--data", "FILE", "--prompt", "Q"], "question_prompt needs {}"),
        (["caption", "--data", "QUESTIONS"], "1 of 1 rows cannot be used, the first: v: no captions"),
    ],
)
def test_mistakes_are_one_line(tmp_path, saved_model, arguments, words):
    places = {"FILE": coco_captions(tmp_path, {"a.jpg": ["a"], "b.jpg": ["b"]}), "FOLDER": tmp_path}
    places["QUESTIONS"] = tmp_path / "rows.jsonl"
    places["QUESTIONS"].write_text('{"image": "a.jpg", "question": "What?", "answer": "b", "id": "v"}\n')
    write_images(tmp_path, "a.jpg", "b.jpg")
    refused(
        *("evaluate", arguments[0], "--model", saved_model, "--out", tmp_path / "out.json"),
        *(places.get(argument, argument) for argument in arguments[1:]),
        words=words,
    )
