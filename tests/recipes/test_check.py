"""`--check` finds what would end a run, all of it at once, and prints what would run."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import OPTConfig, OPTForCausalLM

from command_line import refused, run
from language_stage import tiny_language_model
from seed_hf.modeling.configuration_seed import SeedTokenizerConfig
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from seed_hf.recipes.checking import check_recipe
from seed_hf.recipes.language_model_stage import language_model_trainer
from seed_hf.recipes.reading import read_recipe
from seed_hf.recipes.running import run_stage
from seed_hf.recipes.tokenizer_stages import collator_of, tokenizer_trainer
from stage_recipes import OPT, TRAINER, contrastive, folder, write  # noqa: F401  folder is a fixture
from tiny import tiny_image_encoder, tiny_text_encoder, tiny_tokenizer
from tiny_blip2 import blip2


TEXT = {"text_encoder": "text_encoder", "text_tokenizer": "text_tokenizer"}


@pytest.fixture
def models(folder):
    """The working directory, with one folder of every kind of model."""
    tiny_text_encoder().save_pretrained("text_encoder")
    tiny_image_encoder().save_pretrained("image_encoder")
    tiny_language_model().save_pretrained("lm")
    OPTForCausalLM(OPTConfig(**OPT, vocab_size=340)).save_pretrained("opt")
    start = blip2()
    start.embeddings.word_embeddings = torch.nn.Embedding(331, 24)
    start.config.qformer_config.vocab_size = 331  # of the text tokenizer
    start.save_pretrained("blip2")
    tiny_tokenizer(text_tower=False).save_pretrained("no_text")
    return folder


def recipe_of(stage: str, model: dict, **trainer) -> dict:
    data = {"train": "codes.parquet" if stage == "lm" else "images.parquet"}
    return {"model": model, "data": data, "trainer": {**TRAINER, "output_dir": "out", **trainer}}


STARTS = [
    ("contrastive", {"tokenizer": "tokenizer", "text_tokenizer": "text_tokenizer"}, {}),
    ("contrastive", {"blip2": "blip2", "text_tokenizer": "text_tokenizer"}, {}),
    ("quantization", {"stage_one": "tokenizer", "settings": {"codebook_size": 32}, **TEXT}, {}),
    ("quantization", {"tokenizer": "tokenizer"}, {"optim": "adafactor"}),
    ("lm", {"language_model": "lm", "text_tokenizer": "text_tokenizer"}, {"lora_r": 2}),
    ("lm", {"language_model": "lm", "text_tokenizer": "text_tokenizer"}, {"lora_r": 0}),
    ("lm", {"language_model": "opt", "text_tokenizer": "text_tokenizer", "visual_tokenizer": "tokenizer",
            "visual_embedding": "projected"}, {"lora_r": 2}),
]  # fmt: skip


@pytest.mark.parametrize(("stage", "model", "trainer"), STARTS)
def test_the_counts_are_those_of_the_run(models, stage, model, trainer):
    recipe = read_recipe(stage, write(recipe_of(stage, model, **trainer)))
    plan = check_recipe(recipe)
    assert not Path("out").exists()
    made, _ = (language_model_trainer if stage == "lm" else tokenizer_trainer)(recipe)
    parts = [made.model, getattr(made, "target_encoder", None)]
    weights = [weight for part in parts if part is not None for weight in part.parameters()]
    trained = [weight for weight in weights if weight.requires_grad]
    assert plan.trained == sum(weight.numel() for weight in trained)
    assert plan.trained + plan.frozen == sum(weight.numel() for weight in weights)
    assert (plan.rows, plan.steps, plan.batch) == ({"train": 8}, 3, 4)
    assert plan.weights == 4 * (plan.trained + plan.frozen) and plan.gradients == 4 * plan.trained
    made.train()
    state = [value for weight in made.optimizer.state.values() for value in weight.values() if torch.is_tensor(value)]
    if plan.state is None:
        assert recipe.trainer.optim == "adafactor" and "state of adafactor not known" in "\n".join(plan.lines())
    else:
        assert plan.state == sum(value.numel() * value.itemsize for value in state if value.numel() > 1 or value.ndim)
    assert made.state.max_steps == plan.steps


def test_what_would_run_is_printed(models):
    recipe = contrastive(
        max_steps=-1, num_train_epochs=3, per_device_train_batch_size=2, gradient_accumulation_steps=2
    )
    recipe["data"]["validation"] = "images.parquet"
    status, out, err = run("train", "contrastive", "--config", write(recipe), "--check")
    assert status == 0, err
    for words in (
        "recipe.yaml is a valid recipe of the stage contrastive.",
        "model: SeedTokenizer, ",
        " parameters trained, ",
        "rows: train 8, validation 8",
        "steps: 6 of 4 rows (3 epochs)",
        "state of adamw_torch",
        "output_dir: a new run",
        "note: data.validation is not read: trainer.eval_strategy is no",
    ):
        assert words in out, out
    assert not Path("out").exists()
    run_stage("contrastive", write(recipe))
    assert json.loads(Path("out/trainer_state.json").read_text())["global_step"] == 6
    assert "finished already" in run("train", "contrastive", "--config", "recipe.yaml", "--check")[1]
    refused(
        "train", "contrastive", "--config", "recipe.yaml", "--check", "--set", "trainer.seed=1", words="seed was 42"
    )


def test_rows_of_streams_and_features(models):
    (models / "pictures").mkdir()
    for i in range(3):
        Image.new("RGB", (20, 30)).save(models / "pictures" / f"{i}.png")
    lines = [{"file_name": f"{i}.png", "caption": "a red apple"} for i in range(3)]
    (models / "pictures" / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    recipe = contrastive()
    recipe["data"] = {"train": "images.parquet", "validation": "pictures", "streaming": True}
    assert check_recipe(read_recipe("contrastive", write(recipe))).rows == {"train": 8, "validation": 3}
    features = {"causal_embeddings": torch.randn(8, 32, 24)}
    save_file(features, "features.safetensors")
    recipe = {**recipe_of("quantization", {"tokenizer": "tokenizer"}), "data": {"features": "features.safetensors"}}
    assert check_recipe(read_recipe("quantization", write(recipe))).rows == {"train": 8}
    more = ["trainer.codebook_init=kmeans", "trainer.kmeans_batches=1", "trainer.per_device_train_batch_size=1"]
    with pytest.raises(ValueError, match="kmeans finds 32 outputs of the encoder .* the codebook has 64 codes"):
        check_recipe(read_recipe("quantization", write(recipe), more))
    save_file({"causal_embeddings": torch.randn(8, 32, 12)}, "features.safetensors")
    with pytest.raises(ValueError, match=r"data.features: holds causal_embeddings of \(32, 12\) a row, but the model"):
        check_recipe(read_recipe("quantization", write(recipe)))


def test_files_that_the_metadata_name_are_looked_for(models):
    """Those of a validation set were missed after hours of training, and `on_error` was refused for them."""
    (models / "held_out").mkdir()
    Image.new("RGB", (20, 30)).save(models / "held_out" / "0.png")
    lines = [{"file_name": f"{i}.png", "caption": "a red apple"} for i in range(2)]
    (models / "held_out" / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    recipe = contrastive(eval_strategy="steps", eval_steps=3)
    recipe["data"]["validation"] = "held_out"
    with pytest.raises(ValueError, match="1.png: no such file, of 1 that the metadata name. data.on_error: skip"):
        check_recipe(read_recipe("contrastive", write(recipe)))
    skipping = ["data.on_error=skip", "data.min_side=2"]
    assert check_recipe(read_recipe("contrastive", write(recipe), skipping)).rows == {"train": 8, "validation": 1}
    run_stage("contrastive", write(recipe), skipping)
    logged = json.loads(Path("out/trainer_state.json").read_text())["log_history"]
    assert sum("eval_loss" in line for line in logged) == 1
    save_file({"causal_embeddings": torch.randn(8, 32, 24)}, "a.safetensors")
    cached = recipe_of("quantization", {"tokenizer": "tokenizer"}, output_dir="two")
    for validation in ({}, {"validation": "a.safetensors"}):
        cached["data"] = {"features": "a.safetensors", "min_side": 2, **validation}
        for check in (["--check"], []):
            words = "data.min_side is not used: cached features have no images"
            refused("train", "quantization", "--config", write(cached), *check, words=words)


FAULTS = {
    "contrastive": {
        "model.image_processor=small": "makes images of {'height': 14, 'width': 14}, but the tokenizer sees 28 x 28",
        "data.train=nowhere.parquet": "data.train: nowhere.parquet: no such file or folder",
        "data.caption_column=title": "Name the right one (data.image_column, data.caption_column)",
        "data.validation=held/out": "data.validation: held/out",
        "data.max_text_tokens=9999": "data.max_text_tokens must be at most",
        "model.text_tokenizer=nowhere": "model.text_tokenizer: nowhere: no such folder",
        "model.text_tokenizer=opt": "model.text_tokenizer: opt holds no text tokenizer",
        "model.tokenizer=few_words": "has 331 entries, but the model has 60 rows",
        "model.image_processor=nowhere": "model.image_processor: nowhere: no such folder",
        "model.tokenizer=nowhere": "model.tokenizer: nowhere: no such folder",
        "model.tokenizer=no_text": "Stage I needs the Q-Former's text path",
        "model.tokenizer=opt": "holds a 'opt' model, not a SeedTokenizer",
        "trainer.per_device_train_batch_size=64": "data.train has 8 rows and one batch takes 64",
        "trainer.per_device_train_batch_size=0": "per_device_train_batch_size must be at least 1",
        "trainer.output_dir=recipe.yaml/out": "recipe.yaml is a file",
        "trainer.output_dir=tokenizer": "tokenizer holds model.safetensors, but no record",
        "trainer.report_to=nobody": "trainer.report_to: nobody is not installed",
        "trainer.optim=stable_adamw": "trainer.optim: stable_adamw needs a package",
        "trainer.eval_strategy=epoch": "eval_strategy: epoch needs data.validation",
    },
    "quantization": {
        "model.text_encoder=nowhere": "model.text_encoder: nowhere: no such folder",
        "model.text_encoder=broken": "model.text_encoder: broken",
        "model.stage_one=opt": "holds a 'opt' model, not a SeedTokenizer",
        "model.stage_one=empty": "model.stage_one: empty: there are no weights in this folder",
        "model.settings={generation_target: image}": "text_encoder does not go with",
        "model.settings={num_query_tokens: 3}": "num_query_tokens cannot be set",
    },
    "lm": {
        "model.attn_implementation=flash_attention_2": "doesn't seem to be installed",
        "data.train=other_codes.parquet": "has codes from 0 to 64, but the language model has 64",
        "model.language_model=text_encoder": "text_encoder is a model of type 'clip_text_model'",
        "model.visual_tokenizer=tokenizer": "model.visual_tokenizer is not used: lm has visual tokens already",
        "model.visual_embedding=projected": "model.visual_embedding is not used: lm has visual tokens",
        "model.language_model=opt": "A plain language model has no visual tokens",
        "data.train=images": "data.train: images: no such file or folder",
        "data.train=images.parquet": "images.parquet has images without codes",
        "data.train=only_images.parquet": "only_images.parquet",
        "data.max_length=1000": "max_length",
        "trainer.lora_token_ids=[100000]": "lora_token_ids must lie in",
    },
}


@pytest.mark.parametrize("stage", FAULTS)
def test_what_would_end_a_run_is_found(models, stage):
    tiny_text_encoder().save_pretrained("broken")
    Path("broken/config.json").write_text("{")
    tiny_tokenizer().save_pretrained("empty")
    Path("empty/model.safetensors").unlink()
    config = tiny_tokenizer().config.to_dict()
    config["qformer_config"]["vocab_size"] = 60
    SeedTokenizer(SeedTokenizerConfig(**config)).save_pretrained("few_words")
    pq.write_table(pq.read_table("images.parquet", columns=["image"]), "only_images.parquet")
    SeedImageProcessor(size={"height": 14, "width": 14}).save_pretrained("small")
    codes = pq.read_table("codes.parquet")
    more = [[*row[:-1], 64] for row in codes["codes"].to_pylist()]
    pq.write_table(codes.set_column(0, "codes", [more]), "other_codes.parquet")
    model = {
        "contrastive": {"tokenizer": "tokenizer", "text_tokenizer": "text_tokenizer"},
        "quantization": {"stage_one": "tokenizer", **TEXT},
        "lm": {"language_model": "lm", "text_tokenizer": "text_tokenizer"},
    }
    path = write(recipe_of(stage, model[stage]))
    for change, words in FAULTS[stage].items():
        refused("train", stage, "--config", path, "--check", "--set", change, words=words)


def test_a_run_says_the_same_of_a_missing_text_path(models):
    path = write(recipe_of("contrastive", {"tokenizer": "no_text", "text_tokenizer": "text_tokenizer"}))
    for check in (["--check"], []):
        refused("train", "contrastive", "--config", path, *check, words="text_tower is false. Start from a model with")


@pytest.mark.parametrize("visual", [{}, {"visual_tokenizer": "tokenizer"}])
def test_a_text_tokenizer_with_more_entries_than_rows_is_found(models, visual):
    OPTForCausalLM(OPTConfig(**OPT, vocab_size=300)).save_pretrained("opt")
    for model in ({"language_model": "opt", **visual}, {"config": {**OPT, "vocab_size": 300}}):
        path = write(recipe_of("lm", {**model, "text_tokenizer": "text_tokenizer"}, lora_r=0))
        for check in (["--check"], []):
            words = "The text tokenizer has 331 entries, the language model 300 rows"
            refused("train", "lm", "--config", path, *check, words=words)


def test_a_special_token_that_would_become_a_visual_one_is_found(models):
    OPTConfig.from_pretrained("opt", pad_token_id=331).save_pretrained("opt")
    words = {"text_tokenizer": "text_tokenizer", "visual_tokenizer": "tokenizer"}
    path = write(recipe_of("lm", {"language_model": "opt", **words}))
    refused("train", "lm", "--config", path, "--check", words="pad_token_id=331, but its text tokens are 0 .. 330")
    refused("train", "lm", "--config", path, words="pad_token_id=331, but its text tokens are 0 .. 330")


def test_texts_beside_codes_and_alone(models):
    recipe = recipe_of("lm", {"language_model": "lm", "text_tokenizer": "text_tokenizer"})
    recipe["data"] = {"train": "texts.parquet", "directions": {"image_to_text": 1}}
    with pytest.raises(ValueError, match="data.directions is not used: the rows of texts.parquet are texts"):
        check_recipe(read_recipe("lm", write(recipe)))
    codes = pq.read_table("codes.parquet", columns=["codes", "caption"])
    mixed = codes.append_column("text", [[None] * len(codes)])
    texts = pq.read_table("texts.parquet")
    columns = {"codes": [None] * len(texts), "caption": [None] * len(texts), "text": texts["text"].to_pylist()}
    pq.write_table(pa.concat_tables([mixed, pa.table(columns)], promote_options="permissive"), "both.parquet")
    recipe["data"]["train"] = "both.parquet"
    assert check_recipe(read_recipe("lm", write(recipe))).rows == {"train": 16}


def test_all_problems_are_told_at_once(models):
    recipe = contrastive(output_dir="recipe.yaml/out")
    recipe["model"]["tokenizer"] = recipe["data"]["train"] = "nowhere"
    status, out, err = run("train", "contrastive", "--config", write(recipe), "--check")
    assert (status, out) == (2, "")
    assert [line.split(":")[1].strip() for line in err.splitlines()] == [
        "model.tokenizer",
        "data.train",
        "trainer.output_dir",
    ]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_found(models):
    (models / "closed").mkdir(mode=0o500)
    recipe = write(contrastive(output_dir="closed/out"))
    refused("train", "contrastive", "--config", recipe, "--check", words="closed cannot be written")


def test_captions_that_no_text_encoder_reads_are_as_long_as_in_stage_one(models):
    """With the image target there is one generation embedding, which is no length of a caption."""
    tiny_tokenizer(contrastive_loss_weight=0.5, generation_target="image", num_generation_tokens=1).save_pretrained(
        "image_target"
    )
    parts = {"tokenizer": "image_target", "image_encoder": "image_encoder", "text_tokenizer": "text_tokenizer"}
    recipe = read_recipe("quantization", write(recipe_of("quantization", parts, train_qformer=True)))
    assert check_recipe(recipe).rows == {"train": 8}
    config = SeedTokenizer.from_pretrained("image_target").config
    batches = collator_of(recipe, config, SeedImageProcessor.for_tokenizer(config), tiny_image_encoder())
    rows = [{"image": Image.new("RGB", (28, 28)), "caption": text} for text in ("a red apple", "a blue car")]
    ids = batches(rows)["input_ids"]
    assert ids.shape[1] > 1 and not torch.equal(ids[0], ids[1])
