"""Cached features of stage II: the losses of training on the images, and the same files after any interruption."""

import json
import os
import pickle
import random
import shutil
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader

from command_line import refused, run
from jobs import cache, in_a_process, killed, read
from seed_hf.data.batches.augmentation import random_crop_flip
from seed_hf.data.features.cached import CachedFeatures
from seed_hf.data.features.caching import cache_features
from seed_hf.data.features.shards import FeatureFolder
from seed_hf.data.jobs.job_lock import JobLock
from seed_hf.data.jobs.shard_folder import FORMAT, ShardRows
from seed_hf.data.sources.source import open_source
from seed_hf.data.sources.source_row import SourceRow
from seed_hf.devices import has_native_bf16
from seed_hf.images import load_image
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from seed_hf.recipes.running import run_stage
from seed_hf.training.quantization import QuantizationConfig, QuantizationTrainer
from tiny import tiny_image_encoder, tiny_text_encoder, tiny_text_tokenizer, tiny_tokenizer
from tiny_sources import damaged_rows, noise, rows, write_parquet


PROCESSOR = SeedImageProcessor(size={"height": 28, "width": 28})
IMAGE_TARGET = {"generation_target": "image", "num_generation_tokens": 1}
NATIVE_BF16 = pytest.mark.skipif(not has_native_bf16(), reason="training uses bf16 only where the CPU has it")
SMALL = {"batch_size": 5, "rows_per_shard": 8, "workers": 0}


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def text():
    """A text encoder of the tiny tokenizer's generation width, and its tokenizer."""
    return {"text_encoder": tiny_text_encoder(), "text_tokenizer": tiny_text_tokenizer()}


def plain(row) -> torch.Tensor:
    return PROCESSOR([load_image(row["image"])], return_tensors="pt")["pixel_values"][0]


def cropped(row, view: int, part: int, number: int, seed: int = 42) -> torch.Tensor:
    """A view by another way than the job's: the published augmentation, with the global generator seeded."""
    raw = PROCESSOR([load_image(row["image"])], return_tensors="pt", do_rescale=False, do_normalize=False)
    torch.manual_seed(random.Random(f"{seed}/view {view}/{part}/{number}").getrandbits(63))
    values = random_crop_flip(raw["pixel_values"].float() / 255)[0]
    mean, std = torch.tensor(PROCESSOR.image_mean), torch.tensor(PROCESSOR.image_std)
    return (values - mean[:, None, None]) / std[:, None, None]


def input_ids(caption: str) -> torch.Tensor:
    words = tiny_text_tokenizer()
    encoded = words([caption], max_length=6, truncation=True, padding="max_length", return_tensors="pt")
    return encoded["input_ids"][0]


def stack(items):
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


def all_of(folder) -> dict[str, torch.Tensor]:
    features = CachedFeatures(folder)
    return stack([features[i] for i in range(len(features))])


# The features


@pytest.mark.parametrize(
    "dtype, bf16, tolerance",
    [
        (torch.float32, False, 1e-6),
        (torch.float16, False, 2e-4),
        pytest.param(torch.float32, True, 1e-2, marks=NATIVE_BF16),
    ],
)
def test_losses_are_those_of_training_on_the_same_views(text, tmp_path, dtype, bf16, tolerance):
    """The tolerance is relative. Half precision turns over a few codes that were nearly as near as others."""
    made = rows(9)
    source = open_source(write_parquet(tmp_path / "a.parquet", made))
    compute_dtype = torch.bfloat16 if bf16 else None
    settings = {**SMALL, **text, "views": 2, "dtype": dtype, "compute_dtype": compute_dtype}
    cache_features(source, tiny_tokenizer(), tmp_path / "out", **settings)
    cached = CachedFeatures(tmp_path / "out")
    online = [
        {"pixel_values": pixels, "input_ids": input_ids(row["caption"])}
        for number, row in enumerate(made)
        for pixels in (plain(row), cropped(row, 1, 0, number))
    ]
    assert len(cached) == len(online) == 18 and cached[0]["causal_embeddings"].dtype == dtype
    lines = []
    for dataset, more in ((online, {"data_collator": stack, "target_encoder": text["text_encoder"]}), (cached, {})):
        model = tiny_tokenizer()
        if dataset is cached:
            for part in (model.vision_model, model.qformer):
                part.register_forward_pre_hook(lambda *_: pytest.fail("a frozen network ran"))
        args = QuantizationConfig(output_dir=str(tmp_path / "run"), max_steps=3, per_device_train_batch_size=6,
                                  logging_steps=1, learning_rate=1e-3, warmup_steps=0, save_strategy="no",
                                  use_cpu=True, disable_tqdm=True, bf16=bf16,
                                  codebook_init="none" if bf16 else "kmeans")  # fmt: skip  # k-means sees fp32
        trainer = QuantizationTrainer(model, args, train_dataset=dataset, **more)
        trainer.train()
        lines.append([line for line in trainer.state.log_history if "loss" in line])
    for expected, found in zip(*lines, strict=True):
        for name in ("loss", "vq_loss", "reconstruction_loss", "generation_loss"):
            assert found[name] == pytest.approx(expected[name], rel=tolerance), name


def test_image_targets_are_those_of_training_on_the_same_views(tmp_path):
    """Each view has its own, and the losses of training on the cache are those of training on the images."""
    made, image_encoder = rows(9), tiny_image_encoder()
    source = open_source(write_parquet(tmp_path / "a.parquet", made), captions=False)
    settings = {**SMALL, "views": 2, "dtype": torch.float32, "image_encoder": image_encoder}
    settings["image_processor"] = PROCESSOR
    cache_features(source, tiny_tokenizer(**IMAGE_TARGET), tmp_path / "out", **settings)
    cached = CachedFeatures(tmp_path / "out")
    online = [
        {"pixel_values": pixels}
        for number, row in enumerate(made)
        for pixels in (plain(row), cropped(row, 1, 0, number))
    ]
    with torch.no_grad():
        expected = image_encoder(stack(online)["pixel_values"]).image_embeds
    torch.testing.assert_close(all_of(tmp_path / "out")["target_embeddings"], expected)
    assert expected.view(9, 2, 20).std(1).min() > 1e-3  # no view's target is another's
    lines = []
    for dataset, more in ((online, {"data_collator": stack, "target_encoder": image_encoder}), (cached, {})):
        args = QuantizationConfig(output_dir=str(tmp_path / "run"), max_steps=3, per_device_train_batch_size=6,
                                  logging_steps=1, learning_rate=1e-3, warmup_steps=0, save_strategy="no",
                                  use_cpu=True, disable_tqdm=True)  # fmt: skip
        trainer = QuantizationTrainer(tiny_tokenizer(**IMAGE_TARGET), args, train_dataset=dataset, **more)
        trainer.train()
        lines.append([line for line in trainer.state.log_history if "loss" in line])
    for expected, found in zip(*lines, strict=True):
        for name in ("loss", "vq_loss", "reconstruction_loss", "generation_loss"):
            assert found[name] == pytest.approx(expected[name], rel=1e-6), name


def test_views_differ_and_depend_on_nothing_but_seed_view_and_row(tokenizer, tmp_path):
    (tmp_path / "a").mkdir()
    for part in range(2):
        write_parquet(tmp_path / "a" / f"{part}.parquet", rows(7, 7 * part))
    source = open_source(tmp_path / "a", captions=False)
    settings = {**SMALL, "dtype": torch.float32, "views": 3}
    cache_features(source, tokenizer, tmp_path / "one", **settings)
    for rank in (1, 0):
        cache_features(source, tokenizer, tmp_path / "two", **settings, rank=rank, world_size=2)
    assert read(tmp_path / "one") == read(tmp_path / "two")
    views = all_of(tmp_path / "one")["causal_embeddings"].view(14, 3, 32, 24)
    assert views.flatten(2).std(1).sum(1).min() > 1e-2  # no view is another
    with torch.no_grad():
        for number, row in enumerate(rows(14)):
            seen = [plain(row), *(cropped(row, view, number // 7, number % 7) for view in (1, 2))]
            torch.testing.assert_close(views[number], tokenizer.get_causal_embeddings(torch.stack(seen)))
    cache_features(source, tokenizer, tmp_path / "cut", **{**settings, "rows_per_shard": 3, "batch_size": 2})
    torch.testing.assert_close(all_of(tmp_path / "cut")["causal_embeddings"].view(14, 3, 32, 24), views)
    cache_features(source, tokenizer, tmp_path / "seed", **settings, seed=7)
    other = all_of(tmp_path / "seed")["causal_embeddings"].view(14, 3, 32, 24)
    assert torch.equal(other[:, 0], views[:, 0]) and (other[:, 1:] - views[:, 1:]).abs().amax((1, 2, 3)).min() > 1e-3


def test_bad_images_leave_rows_targets_and_ids_in_step(tokenizer, text, tmp_path):
    made, bad = damaged_rows(40)
    source = open_source(write_parquet(tmp_path / "a.parquet", made))
    manifest = cache_features(source, tokenizer, tmp_path / "out", **SMALL, **text, dtype=torch.float32)
    assert manifest["rows"] == {"read": 40, "written": 38, "bad": 2}
    report = (tmp_path / "out" / "bad_images.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in report] == list(bad)
    good = [row for row in made if row["id"] not in bad]
    features = CachedFeatures(tmp_path / "out")
    assert features.ids() == [row["id"] for row in good] and len(features) == 38
    found = all_of(tmp_path / "out")
    with torch.no_grad():
        causal = tokenizer.get_causal_embeddings(torch.stack([plain(row) for row in good]))
        targets = text["text_encoder"](torch.stack([input_ids(row["caption"]) for row in good])).last_hidden_state
    torch.testing.assert_close(found["causal_embeddings"], causal)
    torch.testing.assert_close(found["target_embeddings"], targets)


def test_one_of_several_captions_is_the_target(tokenizer, text, tmp_path):
    captions = ["a red apple", "the blue fire", "a question", "an answer"]
    images = [noise(i) for i in range(12)]
    pq.write_table(pa.table({"image": images, "captions": [captions] * 12}), tmp_path / "a.parquet")
    cache_features(open_source(tmp_path / "a.parquet"), tokenizer, tmp_path / "out", **SMALL, **text)
    found = all_of(tmp_path / "out")["target_embeddings"].float()
    with torch.no_grad():
        four = text["text_encoder"](torch.stack([input_ids(caption) for caption in captions])).last_hidden_state
    nearest = torch.cdist(found.flatten(1), four.flatten(1)).min(1)
    assert nearest.values.max() < 1e-2 and len(nearest.indices.unique()) > 1


# Interruptions


def test_killed_and_resumed_is_the_unbroken_result(tokenizer, text, tmp_path):
    source = open_source(path := write_parquet(tmp_path / "a.parquet", damaged_rows(120)[0]))
    settings = {**SMALL, "views": 2, "rows_per_shard": 6}
    cache_features(source, tokenizer, tmp_path / "unbroken", **settings, **text)
    out, kills = tmp_path / "out", 0
    for target in (3, 11):
        kills += killed(in_a_process(cache, path, out, **settings), out, "*.safetensors", target)
        assert not json.loads((out / "manifest.json").read_text())["complete"]
        with pytest.raises(ValueError, match="not complete"):
            CachedFeatures(out)
    cache_features(source, tokenizer, out, **settings, **text)
    assert kills == 2 and read(out) == read(tmp_path / "unbroken") and not list(out.rglob("*.unfinished"))


def test_two_jobs_and_another_job_are_refused(tokenizer, text, tmp_path):
    source, out = open_source(write_parquet(tmp_path / "a.parquet", rows(4))), tmp_path / "out"
    cache_features(source, tokenizer, out, **SMALL, **text)
    before = read(out)
    with JobLock(out / ".job", 0, 1), pytest.raises(BlockingIOError, match=f"process {os.getpid()} .* as rank 0"):
        cache_features(source, tokenizer, out, **SMALL, **text)
    for words, model, change in (
        ("features.seed is 42 there, 1 here", tokenizer, {"seed": 1}),
        ("features.views is 1 there, 2 here", tokenizer, {"views": 2}),
        ("features.dtype is 'float16' there", tokenizer, {"dtype": torch.float32}),
        ("tokenizer.causal_sha256 is", tiny_tokenizer(seed=1), {}),
        ("text_encoder is {'sha256'.* there, None here", tokenizer, {"text_encoder": None, "text_tokenizer": None}),
    ):
        with pytest.raises(ValueError, match=words):
            cache_features(source, model, out, **{**SMALL, **text, **change})
    assert read(out) == before


def test_impossible_jobs(tokenizer, text, tmp_path):
    source, out = open_source(write_parquet(tmp_path / "a.parquet", rows(4))), tmp_path / "out"
    image, small = tiny_tokenizer(**IMAGE_TARGET), tiny_image_encoder()
    small.config.image_size = 14
    for words, model, settings in (
        ("text encoder's features are no target here: .* generation_target is 'image'", image, text),
        ("image encoder's features are no target here", tokenizer, {"image_encoder": small}),
        ("together", tokenizer, {"text_encoder": text["text_encoder"]}),
        ("views must be at least 1", tokenizer, {"views": 0}),
        ("float16, float32, got bfloat16", tokenizer, {"dtype": torch.bfloat16}),
        ("compute_dtype float64 widens nothing", tokenizer, {"compute_dtype": torch.float64}),
    ):
        with pytest.raises(ValueError, match=words):
            cache_features(source, model, out, **SMALL, **settings)
    assert not out.exists()
    without = open_source(tmp_path / "a.parquet", captions=False)
    with pytest.raises(ValueError, match="sees 14 x 14 pixels, this tokenizer 28"):
        cache_features(without, image, tmp_path / "size", **SMALL, image_encoder=small)
    narrow = tiny_tokenizer(**{**IMAGE_TARGET, "generation_dim": 16})
    with pytest.raises(ValueError, match="gives 20 numbers .* are 16 wide"):
        cache_features(without, narrow, tmp_path / "narrow", **SMALL, image_encoder=tiny_image_encoder())
    with pytest.raises(ValueError, match=r"gives \(6, 20\) .* are \(6, 16\)"):
        cache_features(source, tiny_tokenizer(generation_dim=16), tmp_path / "width", **SMALL, **text)
    huge = pickle.loads(pickle.dumps(text["text_encoder"]))
    huge.requires_grad_(False).get_submodule("final_layer_norm" if hasattr(huge, "final_layer_norm")
                                             else "text_model.final_layer_norm").weight.mul_(1e6)  # fmt: skip
    with pytest.raises(ValueError, match=r"row 0 \(id id0\): target_embeddings are not finite in float16"):
        cache_features(source, tokenizer, out, **SMALL, **{**text, "text_encoder": huge})
    assert not list(out.glob("*.safetensors"))


# Reading


@pytest.fixture
def cached(tokenizer, tmp_path) -> Path:
    source = open_source(write_parquet(tmp_path / "a.parquet", rows(20)), captions=False)
    cache_features(source, tokenizer, tmp_path / "out", **SMALL, views=2)
    return tmp_path / "out"


def test_missing_cut_and_foreign_shards_are_named_and_made_again(tokenizer, cached):
    shard, before = cached / "features-00000-00001.safetensors", read(cached)
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-100])
    with pytest.raises(ValueError, match=f"features-00000-00001.*{len(whole) - 100} bytes instead of {len(whole)}"):
        CachedFeatures(cached)
    shard.unlink()
    with pytest.raises(FileNotFoundError, match="features-00000-00001.* missing. Run the same"):
        CachedFeatures(cached)
    source = open_source(cached.parent / "a.parquet", captions=False)
    cache_features(source, tokenizer, cached, **SMALL, views=2)
    assert read(cached) == before
    features = CachedFeatures(cached)
    features.verify()
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match="features-00000-00001.*damaged"):
        features.verify()
    swapped = load_file(shard)["causal_embeddings"].transpose(2, 3).contiguous()
    metadata = {"rows": json.dumps([[i, f"id{i}"] for i in range(8, 16)])}
    save_file({"causal_embeddings": swapped}, shard, metadata=metadata)
    with pytest.raises(ValueError, match=r"features-00000-00001.*\[8, 2, 24, 32\].*\[8, 2, 32, 24\]"):
        CachedFeatures(cached)[16]
    shard.write_bytes(b"\xff" * len(whole))
    with pytest.raises(ValueError, match="features-00000-00001.*cannot be read"):
        CachedFeatures(cached)[16]
    with pytest.raises(IndexError, match="Item 40 of 40"):
        features[40]


def test_a_damaged_or_foreign_manifest_is_named(cached):
    manifest = json.loads((cached / "manifest.json").read_text())
    for content, words in (
        ("", "manifest.json: damaged"),
        ("[1]", "manifest.json: damaged"),
        (json.dumps(manifest)[:-9], "manifest.json: damaged"),
        (json.dumps({"format": FORMAT, "complete": True, "shards": []}), "does not hold cached features"),
        (json.dumps({**manifest, "features": None}), "manifest.json: damaged: it lacks"),
        (json.dumps({**manifest, "shards": [{}]}), "manifest.json: damaged: it lacks"),
        (json.dumps({**manifest, "complete": False}), "not complete"),
    ):
        (cached / "manifest.json").write_text(content)
        with pytest.raises(ValueError, match=words):
            CachedFeatures(cached)


def test_loader_processes_read_what_this_one_reads(cached):
    features = CachedFeatures(cached)
    expected = stack([features[i] for i in range(40)])["causal_embeddings"]  # its files are open when workers fork
    loader = DataLoader(features, batch_size=5, num_workers=1)
    assert torch.equal(torch.cat([batch["causal_embeddings"] for batch in loader]), expected)
    assert torch.equal(pickle.loads(pickle.dumps(features))[33]["causal_embeddings"], expected[33])


def test_reading_a_few_rows_does_not_load_the_rest(tmp_path):
    folder = FeatureFolder(tmp_path, {"causal_embeddings": (1, 512, 512)}, torch.float32)  # 1 MiB a row
    folder.begin({"format": FORMAT, "features": {"views": 1, "dtype": "float32", "causal_embeddings": [512, 512],
                                                 "target_embeddings": None}})  # fmt: skip
    shard = ShardRows(0, 0, [SourceRow(i, f"id{i}", None, None, "a.parquet") for i in range(64)])
    shard.batches["causal_embeddings"] = [torch.full((1, 1, 512, 512), float(i)) for i in range(64)]
    shard.account = {"part": 0, "rows": [0, 64], "last": True, "dropped": {}, "bad": []}
    folder.write_shard(shard)
    folder.finish(1)
    del shard
    features, before = CachedFeatures(tmp_path), psutil.Process().memory_info().rss
    kept = [features[i]["causal_embeddings"] for i in (50, 3, 17)]
    assert [float(value.mean()) for value in kept] == [50, 3, 17]
    assert psutil.Process().memory_info().rss - before < 24 << 20


# From the command line to a trained tokenizer


def test_command_then_stage_two(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_tokenizer().save_pretrained("tokenizer")
    tiny_tokenizer(seed=3).save_pretrained("other")
    PROCESSOR.save_pretrained("tokenizer")
    text["text_encoder"].save_pretrained("text_encoder")
    text["text_tokenizer"].save_pretrained("text_tokenizer")
    write_parquet(tmp_path / "a.parquet", damaged_rows(20)[0])
    command = ["cache-features", "a.parquet", "--tokenizer", "tokenizer", "--device", "cpu", "--workers", 0]
    words = ["--text-encoder", "text_encoder", "--text-tokenizer", "text_tokenizer"]
    status, out, _ = run(*command, *words, "--out", "features", "--views", 2, "--rows-per-shard", 8)
    assert status == 0
    assert out.startswith("features: 19 of 20 rows in 2 views (0.1 MB), 1 bad rows, listed in ")
    features = CachedFeatures("features")
    assert len(features) == 38 and features[0]["target_embeddings"].dtype == torch.float16
    refused(*command, *words[:2], "--out", "x", words="--text-encoder and --text-tokenizer go together")
    refused(*command, *words, "--out", "features", words="features.views is 2 there, 1 here")
    refused(*command, "--out", "x", "--caption-column", "caption", words="--caption-column needs --text-encoder")
    refused(*command, "--out", "x", "--text-encoder", "y", "--text-tokenizer", "z", words="y: no such folder")

    recipe = {
        "model": {"tokenizer": "tokenizer"},
        "data": {"features": "features", "validation": "features"},
        "trainer": {"output_dir": "out", "max_steps": 3, "per_device_train_batch_size": 4, "logging_steps": 1,
                    "warmup_steps": 0, "use_cpu": True, "disable_tqdm": True, "codebook_init": "kmeans",
                    "dataloader_num_workers": 1, "eval_strategy": "steps", "eval_steps": 3},
    }  # fmt: skip

    def train(**sections):
        Path("recipe.yaml").write_text(yaml.safe_dump({**recipe, **sections}))
        return run_stage("quantization", "recipe.yaml")

    train()
    history = json.loads(Path("out/trainer_state.json").read_text())["log_history"]
    assert "generation_loss" in history[0] and any("eval_generation_loss" in line for line in history)
    before, after = SeedTokenizer.from_pretrained("tokenizer"), SeedTokenizer.from_pretrained("out")
    assert not torch.equal(before.quantizer.embedding.weight, after.quantizer.embedding.weight)
    features.check_tokenizer(after)  # what stage II trains does not change the features
    recipe["trainer"]["output_dir"] = "another"
    with pytest.raises(ValueError, match="features: these features are of another tokenizer"):
        train(model={"tokenizer": "other"})
    SeedImageProcessor(size={"height": 28, "width": 28}, do_normalize=False).save_pretrained("plain")
    with pytest.raises(ValueError, match=r"another image processor: mean is \[.*\] there, None here"):
        train(model={"tokenizer": "tokenizer", "image_processor": "plain"})
    with pytest.raises(ValueError, match="data.augment"):
        train(data={"features": "features", "augment": True})
    with pytest.raises(FileNotFoundError, match="data.features: nowhere"):
        train(data={"features": "nowhere", "validation": "features"})
    after.config.teacher_dropout = True
    with pytest.raises(ValueError, match="teacher_dropout"):
        features.check_tokenizer(after)


def test_command_and_recipe_with_an_image_encoder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_tokenizer(**IMAGE_TARGET).save_pretrained("tokenizer")
    tiny_tokenizer().save_pretrained("text_target")
    PROCESSOR.save_pretrained("tokenizer")
    tiny_image_encoder().save_pretrained("image_encoder")
    write_parquet(tmp_path / "a.parquet", rows(12))
    command = ["cache-features", "a.parquet", "--tokenizer", "tokenizer", "--device", "cpu", "--workers", 0]
    status, _, _ = run(*command, "--image-encoder", "image_encoder", "--out", "features", "--dtype", "float32")
    assert status == 0 and CachedFeatures("features")[0]["target_embeddings"].shape == (20,)
    trainer = {"max_steps": 2, "per_device_train_batch_size": 4, "logging_steps": 1, "use_cpu": True,
               "disable_tqdm": True, "output_dir": "out"}  # fmt: skip

    def losses(model: dict, data: dict) -> float:
        recipe = {"model": model, "data": data, "trainer": trainer}
        Path("recipe.yaml").write_text(yaml.safe_dump(recipe))
        shutil.rmtree("out", ignore_errors=True)
        run_stage("quantization", "recipe.yaml")
        return json.loads(Path("out/trainer_state.json").read_text())["log_history"][0]["generation_loss"]

    online = losses({"tokenizer": "tokenizer", "image_encoder": "image_encoder"}, {"train": "a.parquet"})
    assert losses({"tokenizer": "tokenizer"}, {"features": "features"}) == pytest.approx(online, rel=1e-6)
    with pytest.raises(ValueError, match="model.image_encoder does not go with the tokenizer's generation_target"):
        losses({"tokenizer": "text_target", "image_encoder": "image_encoder"}, {"train": "a.parquet"})
