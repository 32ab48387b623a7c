"""Evaluation: the figures must be right, and nothing may flatter a bad model."""

import io
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from command_line import refused
from command_line import run as command
from seed_hf.evaluation.captioning import evaluate_captions, exact_match
from seed_hf.evaluation.codebook import codebook_use
from seed_hf.evaluation.judge import Judge, candidate_index, first_rank_share, judge_pictures, train_heads
from seed_hf.evaluation.reconstruction import codes_for_captions, compare_reconstructions, draw_codes
from seed_hf.evaluation.report import EvaluationSettings, evaluate
from seed_hf.evaluation.report_table import markdown
from seed_hf.evaluation.retrieval import caption_ranks, evaluate_retrieval, image_ranks, retrieval_recalls
from seed_hf.evaluation.sets import batches, distinct_captions, open_picture, read_rows
from seed_hf.evaluation.vqa import collect_questions, evaluate_vqa
from tiny_diffusion import tiny_model_and_processor, tiny_pipeline


# --- retrieval


def angles(*degrees: float) -> torch.Tensor:
    """Unit vectors of the plane at the given angles: the nearer the angles, the higher the cosine."""
    radians = torch.tensor(degrees).deg2rad()
    return torch.stack([radians.cos(), radians.sin()], dim=1)


def test_recalls_of_a_case_counted_by_hand():
    # Captions at 0, 40 and 90 degrees. Pictures 0 and 1 belong to caption 0, picture 2 to caption 1, picture 3 to 2.
    texts, images = angles(0, 40, 90), angles(5, 30, 80, 85)
    caption_of_image = torch.tensor([0, 0, 1, 2])
    # 5 is nearest to 0: rank 1. 30 is nearest to 40, then 0: rank 2. 80 is nearest to 90: rank 2. 85: rank 1.
    assert caption_ranks(images, texts, caption_of_image).tolist() == [1, 2, 2, 1]
    # 0 finds 5 first. 40 sees 30, 5, then its own 80: rank 3. 90 finds 85 before 80.
    assert image_ranks(images, texts, caption_of_image).tolist() == [1, 3, 1]
    result = retrieval_recalls(images, texts, caption_of_image)
    assert result.text_recalls == pytest.approx((50, 100, 100))
    assert result.image_recalls == pytest.approx((200 / 3, 100, 100))
    assert result.mean_recall == pytest.approx((50 + 200 / 3 + 400) / 6)
    assert result.to_dict()["R@m"] == result.mean_recall
    assert (result.num_images, result.num_captions) == (4, 3)


def brute_force_recalls(images, texts, caption_of_image):
    cosine = torch.nn.functional.cosine_similarity
    to_text, to_image = [], []
    for i, own in enumerate(caption_of_image.tolist()):
        scores = [cosine(images[i], text, dim=0).item() for text in texts]
        to_text.append(sorted(range(len(texts)), key=lambda j: -scores[j]).index(own))
    for j in range(len(texts)):
        scores = [cosine(image, texts[j], dim=0).item() for image in images]
        order = sorted(range(len(images)), key=lambda i: -scores[i])
        to_image.append(min(order.index(i) for i in range(len(images)) if caption_of_image[i] == j))
    return [
        100.0 * sum(place < k for place in places) / len(places) for places in (to_text, to_image) for k in (1, 5, 10)
    ]


def test_recalls_equal_a_brute_force_loop():
    captions, images = 17, 40
    caption_of_image = torch.cat([torch.arange(captions), torch.randint(captions, (images - captions,))])
    texts = torch.randn(captions, 6, dtype=torch.float64)
    features = texts[caption_of_image] + 1.2 * torch.randn(images, 6, dtype=torch.float64)
    result = retrieval_recalls(features, texts, caption_of_image)
    expected = brute_force_recalls(features, texts, caption_of_image)
    assert list(result.text_recalls + result.image_recalls) == pytest.approx(expected)
    assert 10 < result.mean_recall < 95  # else the case could not tell a wrong count from a right one


def test_length_of_features_does_not_matter():
    texts, images, owners = torch.randn(9, 4), torch.randn(9, 4), torch.arange(9)
    stretched = images * torch.rand(9, 1).add(0.1) * 50
    assert retrieval_recalls(images, texts, owners) == retrieval_recalls(stretched, texts, owners)


@pytest.mark.parametrize("size", [12, 1030])  # the second needs more than one chunk
def test_a_model_that_says_the_same_of_everything_finds_nothing(size):
    same = torch.nn.functional.normalize(torch.randn(1, 16), dim=-1)
    # The noise stands for what the place in a batch does to equal features.
    images = same.expand(size, -1) + 1e-8 * torch.randn(size, 16)
    result = retrieval_recalls(images, torch.randn(size, 16), torch.arange(size))
    assert result.image_recalls == (0.0, 0.0, 0.0)
    result = retrieval_recalls(torch.randn(size, 16), images, torch.arange(size))
    assert result.text_recalls == (0.0, 0.0, 0.0)


def test_ties_count_against_but_not_among_the_pictures_of_one_caption():
    texts = angles(0, 90)
    images = angles(0, 0, 90)  # the two first are the same picture
    assert image_ranks(images, texts, torch.tensor([0, 0, 1])).tolist() == [1, 1]
    assert image_ranks(images, texts, torch.tensor([0, 1, 1])).tolist() == [2, 1]


def test_chunks_do_not_change_ranks(monkeypatch):
    texts, images = torch.randn(30, 5), torch.randn(50, 5)
    owners = torch.cat([torch.arange(30), torch.randint(30, (20,))])
    whole = caption_ranks(images, texts, owners), image_ranks(images, texts, owners)
    monkeypatch.setattr("seed_hf.evaluation.retrieval._CHUNK", 7)
    assert torch.equal(caption_ranks(images, texts, owners), whole[0])
    assert torch.equal(image_ranks(images, texts, owners), whole[1])


@pytest.mark.parametrize(
    ("images", "texts", "owners", "said"),
    [
        (torch.ones(3, 4), torch.ones(2, 5), torch.zeros(3, dtype=torch.long), "same dim"),
        (torch.ones(3, 4), torch.ones(2, 4), torch.zeros(2, dtype=torch.long), "one integer for each of the 3"),
        (torch.ones(3, 4), torch.ones(2, 4), torch.zeros(3), "one integer"),
        (torch.ones(3, 4), torch.ones(2, 4), torch.tensor([0, 1, 2]), r"in \[0, 2\)"),
        (torch.ones(3, 4), torch.ones(2, 4), torch.tensor([0, 0, 0]), "Caption 1 has no image"),
        (torch.full((3, 4), torch.nan), torch.ones(2, 4), torch.tensor([0, 1, 1]), "image_features holds NaN"),
        (torch.ones(3, 4), torch.full((2, 4), torch.inf), torch.tensor([0, 1, 1]), "text_features holds NaN"),
        (torch.ones(0, 4), torch.ones(2, 4), torch.zeros(0, dtype=torch.long), "at least one image"),
    ],
)
def test_unsound_input_is_refused(images, texts, owners, said):
    with pytest.raises(ValueError, match=said):
        retrieval_recalls(images, texts, owners)


def test_distinct_captions_and_batches():
    captions, owners = distinct_captions(["a dog", "a cat", "a dog", "a bee"])
    assert captions == ["a dog", "a cat", "a bee"]
    assert owners.tolist() == [0, 1, 0, 2]
    assert list(batches(range(5), 2)) == [[0, 1], [2, 3], [4]]


# --- codebook


def test_codebook_use_of_known_distributions():
    one = codebook_use(torch.full((3, 32), 5), 64)
    assert (one.used_codes, one.perplexity, one.distinct_per_image) == (1, pytest.approx(1.0), 1.0)
    every = codebook_use(torch.arange(64).view(2, 32), 64)
    assert (every.used_codes, every.usage, every.perplexity) == (64, 100.0, pytest.approx(64.0))
    assert every.distinct_per_image == 32.0
    # Shares 1/2, 1/4, 1/4: entropy 1.5 bits.
    uneven = codebook_use(torch.tensor([[7, 7, 1, 3]]), 8)
    assert uneven.distinct_per_image == 3.0
    assert uneven.usage == pytest.approx(37.5)
    assert uneven.perplexity == pytest.approx(2**1.5)


@pytest.mark.parametrize("codes", [torch.tensor([[0, 8]]), torch.tensor([[-1, 2]]), torch.zeros(0, 32).long()])
def test_codebook_use_refuses_what_are_no_codes(codes):
    with pytest.raises(ValueError, match="codes must"):
        codebook_use(codes, 8)


# --- judge


def synthetic_pairs(noise: float, seed: int):
    """Features of 12 captions with 8 pictures each, that two linear maps of the same hidden vectors give."""
    generator = torch.Generator().manual_seed(seed)
    world = torch.Generator().manual_seed(99)
    hidden = torch.randn(12, 6, generator=world)
    to_image, to_text = torch.randn(6, 20, generator=world), torch.randn(6, 10, generator=world)
    owners = torch.arange(12).repeat(8)
    seen = hidden[owners] + noise * torch.randn(len(owners), 6, generator=generator)
    return seen @ to_image, hidden @ to_text, owners


def tiny_heads(seed: int = 3, epochs: int = 40):
    images, texts, owners = synthetic_pairs(0.2, seed=0)
    return train_heads(images, texts, owners, seed=seed, epochs=epochs, batch_size=24, dim=8, learning_rate=1e-2)


class TinyReferences:
    """In the place of the reference models: a picture's features are its mean colour, a caption's its words."""

    def pictures(self, pictures):
        return torch.tensor([picture.resize((1, 1)).getpixel((0, 0)) for picture in pictures]) / 255

    def captions(self, captions):
        return torch.tensor([[float(word in caption) for word in ("red", "green", "blue")] for caption in captions])

    def split(self, data_dir, split):
        return self.pictures([open_picture(row) for row in read_rows(data_dir, split)])


def colour_judge() -> Judge:
    colours, owners = torch.eye(3), torch.arange(3).repeat(8)
    heads = train_heads(colours[owners], colours, owners, epochs=60, batch_size=6, dim=4, learning_rate=1e-2)
    return Judge(heads, TinyReferences())


def test_heads_learn_pairs_and_judge_unseen_pictures():
    images, texts, owners = synthetic_pairs(0.2, seed=1)
    heads = tiny_heads()
    share = first_rank_share(heads.embed_images(images), heads.embed_captions(texts), owners)
    shuffled = first_rank_share(heads.embed_images(images), heads.embed_captions(texts), owners.roll(1))
    assert share > 85
    assert shuffled < 15
    assert not heads.training


def test_heads_depend_on_their_seed_alone():
    torch.manual_seed(1)
    first = tiny_heads(epochs=2)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    again, other = tiny_heads(epochs=2), tiny_heads(seed=4, epochs=2)
    assert torch.equal(torch.get_rng_state(), before)
    features = torch.randn(5, 20)
    assert torch.equal(first.embed_images(features), again.embed_images(features))
    assert not torch.allclose(first.embed_images(features), other.embed_images(features))


def test_judge_saves_and_loads(tmp_path):
    judge = Judge(tiny_heads(epochs=1), seed=3, epochs=1)
    judge.save(tmp_path / "judge.safetensors")
    loaded = Judge.load(tmp_path / "judge.safetensors")
    vectors = torch.randn(4, 10)
    assert torch.equal(loaded.heads.embed_captions(vectors), judge.heads.embed_captions(vectors))
    assert (loaded.seed, loaded.epochs, loaded.heads.settings) == (3, 1, judge.heads.settings)
    assert [path.name for path in tmp_path.iterdir()] == ["judge.safetensors"]


def test_judge_pictures_gives_the_share_of_right_ones():
    judge = colour_judge()
    red, green, blue = (Image.new("RGB", (8, 8), colour) for colour in ("#ff0000", "#00ff00", "#0000ff"))
    captions = ["a red thing", "a green thing", "a blue thing", "a red thing"]
    assert judge_pictures(judge, [red, green, blue, red], captions) == 100.0
    assert judge_pictures(judge, [red, green, blue, green], captions) == 75.0
    assert judge_pictures(judge, [red], captions[:1]) == 100.0  # the only candidate
    assert judge_pictures(judge, [green], captions[:1], candidates=captions) == 0.0
    with pytest.raises(ValueError, match="One caption for each image"):
        judge_pictures(judge, [red], captions)
    with pytest.raises(ValueError, match="not among the candidates"):
        judge_pictures(judge, [red], ["a cat"], candidates=captions)


def test_reconstructions_are_read_against_those_of_other_pictures():
    pictures = [Image.new("RGB", (8, 8), colour) for colour in ("#ff0000", "#00ff00", "#0000ff", "#ff1000")]
    captions = ["a red thing", "a green thing", "a blue thing", "a red thing"]
    judge = colour_judge()
    features = judge.references.pictures(pictures)
    same = compare_reconstructions(judge, features, [p.resize((4, 4)) for p in pictures], captions)
    assert same.similarity == pytest.approx(1.0)
    assert same.judge_similarity == pytest.approx(1.0)
    assert (same.caption_first, same.real_caption_first) == (100.0, 100.0)
    assert same.chance_similarity < 0.2
    wrong = compare_reconstructions(judge, features, pictures[1:] + pictures[:1], captions)
    assert wrong.similarity < 0.3
    assert (wrong.caption_first, wrong.real_caption_first) == (25.0, 100.0)  # only the last became red again


def test_candidate_index_keeps_order_and_drops_repetitions():
    distinct, owners = candidate_index(["b", "a"], ["a", "b", "a", "c"])
    assert distinct == ["a", "b", "c"]
    assert owners.tolist() == [1, 0]


# --- texts


def test_exact_match_ignores_case_spaces_and_a_full_stop():
    assert exact_match([" A  red Apple.", "a dog", "a cat"], ["a red apple", "a dog face", "a cat"]) == pytest.approx(
        200 / 3
    )
    with pytest.raises(ValueError, match="One prediction for each reference"):
        exact_match(["a"], [])


# --- with models


COLOURS = {"red": (220, 30, 30), "green": (40, 170, 60), "blue": (40, 80, 210)}


def pictogram_rows(count: int, seed: int = 0) -> list[dict]:
    """Rows as the pictograms have them: noisy pictures of one colour, three captions."""
    noise = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        colour = list(COLOURS)[number % 3]
        pixels = np.array(COLOURS[colour]) + noise.integers(-90, 90, (24, 24, 3))
        file = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "PNG")
        rows.append(
            {
                "id": f"noto/{number}",
                "image": {"bytes": file.getvalue(), "path": None},
                "caption": f"a {colour} apple",
                "style": "noto",
                "style_phrase": "a Noto emoji",
                "category": "food-drink",
                "subcategory": "food-fruit",
                "colours": [colour],
            }
        )
    return rows


@pytest.fixture(scope="module")
def model_and_processor():
    return tiny_model_and_processor()


@pytest.mark.parametrize("use_codes", [True, False])
def test_retrieval_of_a_model_is_that_of_its_features(model_and_processor, use_codes):
    model, processor = model_and_processor
    tokenizer, rows = model.visual_tokenizer, pictogram_rows(9)
    captions = ["a red apple", "a green apple", "a blue apple"]
    with torch.no_grad():
        pictures = [open_picture(row) for row in rows]
        given = {"pixel_values": processor.image_processor(pictures, return_tensors="pt")["pixel_values"]}
        if use_codes:
            given = {"codes": tokenizer.encode(given["pixel_values"])}
        images = tokenizer.get_image_features(**given)
        texts = [tokenizer.get_text_features(torch.tensor([processor.tokenizer(c)["input_ids"]])) for c in captions]
    expected = retrieval_recalls(images, torch.cat(texts), torch.arange(3).repeat(3))
    for batch_size in (2, 64):
        assert evaluate_retrieval(tokenizer, processor, rows, use_codes, batch_size) == expected


def test_captions_match_themselves_and_nothing_else(model_and_processor):
    model, processor = model_and_processor
    rows = pictogram_rows(5)
    said = evaluate_captions(model, processor, rows, batch_size=2, max_new_tokens=6)
    assert len(said.captions) == 5
    assert said.exact_match == 0.0  # a random model
    assert said == evaluate_captions(model, processor, rows, batch_size=5, max_new_tokens=6)
    own = [{**row, "caption": caption} for row, caption in zip(rows, said.captions, strict=True)]
    own[0]["caption"] = "something else"
    again = evaluate_captions(model, processor, own, max_new_tokens=6)
    assert again.exact_match == pytest.approx(80.0)


def test_answers_do_not_depend_on_the_batch_and_are_counted_by_topic(model_and_processor):
    model, processor = model_and_processor
    rows = pictogram_rows(3)
    asked = collect_questions(rows)
    assert [q.answer for q in asked["main colour"]] == ["red", "green", "blue"]
    one, many = (evaluate_vqa(model, processor, rows, batch_size=size, max_new_tokens=4) for size in (1, 16))
    assert one == many
    assert set(many.topics) == set(asked)
    assert many.topics["main colour"].num_questions == 3
    assert many.topics["main colour"].majority == pytest.approx(100 / 3)
    assert many.topics["food"].majority == 100.0
    assert many.mean_exact_match < 20  # a random model
    assert {topic: len(found) for topic, found in collect_questions(rows, 2).items()} == {
        topic: min(2, len(found)) for topic, found in asked.items()
    }
    with pytest.raises(ValueError, match="max_per_topic"):
        collect_questions(rows, 0)


def test_drawing_does_not_depend_on_the_batch(model_and_processor):
    model, processor = model_and_processor
    pipeline = tiny_pipeline(model, processor=processor)
    captions = ["a red apple", "a blue fire engine", "the apple"]
    best = codes_for_captions(pipeline, captions, num_candidates=3, seed=4)
    assert torch.equal(best[:2], codes_for_captions(pipeline, captions[:2], num_candidates=3, seed=4))
    codes = codes_for_captions(pipeline, captions, batch_size=2)
    assert torch.equal(codes, codes_for_captions(pipeline, captions, batch_size=1))
    assert not torch.equal(codes, best)
    assert codes.shape == (3, 32)
    two, three = (draw_codes(pipeline, codes, seed=5, batch_size=size, num_inference_steps=2) for size in (2, 3))
    for a, b in zip(two, three, strict=True):
        assert np.abs(np.asarray(a, int) - np.asarray(b, int)).max() <= 1
    other = draw_codes(pipeline, codes[:1], seed=6, num_inference_steps=2)[0]
    assert np.abs(np.asarray(other, int) - np.asarray(two[0], int)).max() > 1


@pytest.fixture(scope="module")
def saved(tmp_path_factory, model_and_processor):
    """Folders of a tiny model, pipeline and data set."""
    pq, datasets = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("datasets")
    folder = tmp_path_factory.mktemp("evaluation")
    model, processor = model_and_processor
    model.save_pretrained(folder / "model")
    processor.save_pretrained(folder / "model")
    tiny_pipeline(model, processor=processor).save_pretrained(folder / "pipeline")
    (folder / "data").mkdir()
    for number, split in enumerate(("train", "validation", "test_concept", "test_style")):
        rows = datasets.Dataset.from_list(pictogram_rows(6 + number, seed=number))
        rows.cast_column("image", datasets.Image()).to_parquet(folder / "data" / f"{split}.parquet")
        assert pq.read_metadata(folder / "data" / f"{split}.parquet").num_rows == 6 + number
    return folder


def run(saved, out, **settings):
    settings = EvaluationSettings(num_inference_steps=1, batch_size=4, **settings)
    folders = saved / "model", saved / "pipeline", saved / "data"
    return evaluate(*folders, out, settings, device="cpu", judge=colour_judge())


def test_report_holds_every_figure_and_goes_on_where_it_stopped(saved, tmp_path):
    out = tmp_path / "evaluation.json"
    first = run(saved, out, sections=("codebook", "judge", "drawing"), sets=("validation",), max_questions_per_topic=1)
    assert set(first["sets"]) == {"validation", "train"}
    result = run(saved, out, max_questions_per_topic=1)
    assert json.loads(out.read_text(encoding="utf-8")) == result
    assert set(result["sets"]["train"]) == {"counts", "codebook"}
    every = {"counts", "codebook", "retrieval", "captions", "questions", "judge", "drawing", "reconstruction"}
    for number, split in enumerate(("validation", "test_concept", "test_style"), start=7):
        found = result["sets"][split]
        assert set(found) == every
        assert found["counts"] == {"pictures": number, "captions": 3}
        assert found["drawing"]["num_images"] == 3
        assert found["drawing"]["num_new_captions"] == 0
        assert found["reconstruction"]["num_images"] == number
        assert found["judge"]["real_caption_first"] == 100.0
        assert found["judge"]["retrieval"]["TR@1"] == 100.0
    assert result["settings"]["judge_seed"] == 7919
    assert len(result["fingerprints"]["model"]) == 64
    assert [line["figure"] for line in result["floor"]] == [
        "validation: retrieval codes R@m",
        "test_concept: retrieval codes R@m",
        "train: codebook usage",
        "validation: captions exact_match",
        "validation: drawing caption_first",
    ]
    table = out.with_suffix(".md").read_text(encoding="utf-8")
    assert table == markdown(result)
    assert "| Images / distinct captions | 7 / 3 | 8 / 3 | 9 / 3 | 6 / 3 |" in table

    # As if it had been stopped in the last section: that one alone is done again.
    del result["sets"]["test_style"]["reconstruction"]
    result["sets"]["validation"]["captions"]["exact_match"] = 12.5
    out.write_text(json.dumps(result), encoding="utf-8")
    again = run(saved, out, max_questions_per_topic=1)
    assert set(again["sets"]["test_style"]) == every
    assert again["sets"]["validation"]["captions"]["exact_match"] == 12.5
    assert {path.name for path in tmp_path.iterdir()} == {"evaluation.json", "evaluation.md"}


@pytest.mark.parametrize("kept, new", [(["a red apple"], 2), ([], 3)])
def test_drawings_of_captions_that_were_never_trained_on_are_counted_apart(saved, tmp_path, kept, new):
    datasets = pytest.importorskip("datasets")
    folder = shutil.copytree(saved, tmp_path / "saved")
    rows = [row for row in pictogram_rows(6) if row["caption"] in kept] or [pictogram_rows(1)[0] | {"caption": "tea"}]
    rows = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())
    rows.to_parquet(folder / "data" / "train.parquet")
    options = {"sections": ("drawing",), "sets": ("validation",), "codebook_sets": ()}
    drawn = run(folder, tmp_path / "new.json", **options)["sets"]["validation"]["drawing"]
    assert drawn["num_new_captions"] == new
    first, first_of_new = round(drawn["caption_first"] * 3 / 100), round(drawn["new_caption_first"] * new / 100)
    assert first - first_of_new in range(3 - new + 1)
    assert f" ({new}) |" in (tmp_path / "new.md").read_text(encoding="utf-8")


def test_a_limited_report_says_so_and_keeps_no_figures_of_other_settings(saved, tmp_path):
    out = tmp_path / "quick.json"
    options = {"sections": ("codebook", "captions"), "sets": ("validation",), "codebook_sets": ()}
    full = run(saved, out, **options)
    quick = run(saved, out, limit=2, **options)
    assert full["sets"]["validation"]["counts"]["pictures"] == 7
    assert quick["sets"]["validation"]["counts"]["pictures"] == 2
    assert quick["sets"]["validation"]["captions"]["num_images"] == 2
    assert quick["floor"] is None
    assert "not comparable" in out.with_suffix(".md").read_text(encoding="utf-8")
    assert "not comparable" not in markdown(full)


def test_the_command_hands_every_option_to_the_report(saved, tmp_path):
    folders = ["--model", saved / "model", "--pipeline", saved / "pipeline", "--data", saved / "data"]
    given = ["--sets", "validation,test_style", "--codebook-sets", "", "--sections", "codebook, captions"]
    numbers = {"limit": 2, "max_questions_per_topic": 3, "batch_size": 4, "seed": 5, "judge_seed": 6}
    numbers |= {"num_inference_steps": 7, "guidance_scale": 8.5, "num_candidates": 9}
    given += [part for name, value in numbers.items() for part in (f"--{name.replace('_', '-')}", value)]
    out = tmp_path / "report.json"
    status, text, _ = command("evaluate", "report", *folders, *given, "--out", out, "--device", "cpu")
    result = json.loads(out.read_text(encoding="utf-8"))
    assert status == 0 and text == markdown(result) + "\n"
    names = {"sets": ["validation", "test_style"], "codebook_sets": [], "sections": ["codebook", "captions"]}
    assert result["settings"] == {**names, **numbers}
    assert {split: set(found) for split, found in result["sets"].items()} == {
        split: {"counts", "codebook", "captions"} for split in ("validation", "test_style")
    }
    assert set(names) | set(numbers) == set(vars(EvaluationSettings()))


def test_mistakes_of_the_command_are_one_line(saved, tmp_path):
    report = ["evaluate", "report", "--data", saved / "data", "--out", tmp_path / "report.json"]
    refused(*report, "--sections", "captioning", words="sections must be some of")
    refused(*report, "--limit", 0, words="limit must be at least 1, got 0")
    refused(*report[:2], "--out", tmp_path / "report.json", words="--data")
    assert not list(tmp_path.iterdir())


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="sections must be some of"):
        EvaluationSettings(sections=("captioning",))
    with pytest.raises(ValueError, match="limit must be at least 1"):
        EvaluationSettings(limit=0)
