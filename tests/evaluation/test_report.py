"""The report: complete, resumed where it stopped, honest about limits; and its command."""

import json
import shutil

import pytest

from command_line import refused
from command_line import run as command
from seed_hf.evaluation.report import EvaluationSettings, evaluate
from seed_hf.evaluation.report_table import markdown
from tiny_diffusion import tiny_pipeline
from tiny_evaluation import colour_judge, pictogram_rows


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
