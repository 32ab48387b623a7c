"""`seed-hf evaluate --paper-table`: whole tables, the paper's figures beside the measured ones."""

import json

import pytest

from benchmark_files import gqa_file, karpathy_coco, vqa_files, write_images
from command_line import refused, run
from seed_hf.evaluation.paper_tables import TABLES
from tiny_artifacts import save_artifact
from tiny_clip import save_clip


@pytest.fixture
def folder(tmp_path):
    """Files of COCO, Flickr30K, VQAv2 and GQA where a table looks for them."""
    said = {f"{i}.jpg": [f"a red apple {i}", "an apple"] for i in range(2)}
    for name in ("coco", "flickr30k", "vqav2", "gqa/images"):
        (tmp_path / name).mkdir(parents=True)
    karpathy_coco(tmp_path / "coco", said)
    karpathy_coco(tmp_path / "flickr30k", said).rename(tmp_path / "flickr30k/dataset_flickr30k.json")
    write_images(tmp_path / "coco/val2014", *said, "COCO_val2014_000000000042.jpg")
    write_images(tmp_path / "flickr30k/images", *said)
    questions, annotations = vqa_files(tmp_path / "vqav2", [(42, "What?", ["red"] * 10, "other")])
    questions.rename(tmp_path / "vqav2/v2_OpenEnded_mscoco_val2014_questions.json")
    annotations.rename(tmp_path / "vqav2/v2_mscoco_val2014_annotations.json")
    gqa_file(tmp_path / "gqa")
    write_images(tmp_path / "gqa/images", "n161313.jpg")
    return tmp_path


def test_tables_one_and_three(folder, saved_model, tmp_path):
    out = tmp_path / "out"
    command = ("evaluate", "--model", saved_model, "--data-dir", folder, "--out", out)
    status, printed, error = run(*command, "--paper-table", 1)
    assert status == 0, error
    page = (out / "table1.md").read_text()
    assert page in printed and page.count("| coco |") == page.count("| flickr30k |") == 14
    measured = json.loads((out / "table1_coco.json").read_text())["figures"]["codes"]["R@m"]
    assert f"| coco | codes, R@m | 77.4 | {measured:.2f} | {measured - 77.4:+.2f} |" in page
    status, printed, error = run(*command, "--paper-table", 3, "--rows", "coco,vqav2,gqa", "--num-beams", 2)
    assert status == 0, error
    page = (out / "table3.md").read_text()
    assert "| coco | CIDEr-D | 119.0 |" in page and "| vqav2 | accuracy | 42.8 |" in page and "| gqa |" in page
    assert "METEOR and SPICE are not measured" in page
    assert json.loads((out / "table3_coco.json").read_text())["settings"]["num_beams"] == 2


def test_table_two(folder, tmp_path):
    out, encoder = tmp_path / "out", save_clip(tmp_path / "clip")
    pipeline = save_artifact("pipeline", tmp_path / "pipeline")
    command = ("evaluate", "--model", pipeline, "--data-dir", folder, "--out", out, "--paper-table", 2)
    status, printed, error = run(*command, "--encoder", encoder)
    assert status == 0, error
    page = (out / "table2.md").read_text()
    assert page in printed and "Which CLIP is not said." in page
    for name, published in (("coco", 68.23), ("flickr30k", 65.22)):
        found = json.loads((out / f"table2_{name}.json").read_text())
        measured = found["figures"]["all"]["similarity"]
        assert f"| {name} | similarity | {published} | {measured:.2f} | {measured - published:+.2f} |" in page
        assert found["settings"]["source"] == "images" and found["settings"]["encoder"]["class"] == "CLIPModel"


def test_what_is_missing_is_said_before_the_work(folder, saved_model, tmp_path):
    common = ("evaluate", "--data-dir", folder, "--out", tmp_path / "out", "--model", saved_model)
    refused(*common, "--paper-table", 3, words="Table 3 needs files that are not there:")
    refused(*common, "--paper-table", 1, "--rows", "gqa", words="Table 1 has the rows flickr30k, coco; got gqa")
    refused(*common, "--paper-table", 4, words="tables are 1, 2, 3; got 4")
    refused(*common, "--paper-table", 2, words="Table 2 compares images by a CLIP: --encoder FOLDER")
    refused(*common, words="Give the name of a task, or --paper-table")
    refused(
        "evaluate", "--model", saved_model, "caption", "--data", "x", "--out", "y", words="Options of a task follow"
    )
    for option in (("--batch-size", 3), ("--on-error", "skip"), ("--dtype", "float32")):
        refused("evaluate", *option, "caption", "--data", "x", "--out", "y", words="Options of a task follow its name")
    refused(*common, "--paper-table", 1, "--num-beams", 5, words="--num-beams is for table 3; table 1 would not")
    refused(*common, "--paper-table", 1, "--encoder", folder, words="--encoder is for table 2; table 1 would not use")
    refused(*common, "--paper-table", 1, "--rows", "", words="has the rows flickr30k, coco; got none of them")
    assert not (tmp_path / "out").exists()


def test_mean_recalls_of_table_one_are_those_of_its_columns():
    for row in TABLES[1]:
        for recalls in row.published.values():
            *six, mean = recalls.values()
            assert sum(six) / 6 == pytest.approx(mean, abs=0.06)
