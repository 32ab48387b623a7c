"""The shipped recipes are valid and start; errors name the field and what it takes."""

from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from transformers import OPTConfig, OPTForCausalLM

from seed_hf.devices import has_native_bf16
from seed_hf.modeling.configuration_seed import SeedTokenizerConfig
from seed_hf.modeling.modeling_seed_text import SeedForCausalLM, SeedLlamaForCausalLM
from seed_hf.recipes.mixture import entries_of
from seed_hf.recipes.reading import read_recipe
from seed_hf.recipes.running import run_stage
from tiny import tiny_text_tokenizer, tiny_tokenizer
from yaml_bomb import bomb


FULL_SIZE = Path(__file__).parents[2] / "examples" / "seed_opt_2.7b"
SEED_LLAMA = FULL_SIZE.parent / "seed_llama_8b"
SHIPPED = {
    FULL_SIZE / "contrastive.yaml": "contrastive",
    FULL_SIZE / "quantization.yaml": "quantization",
    FULL_SIZE / "lm_image_to_text.yaml": "lm",
    FULL_SIZE / "lm.yaml": "lm",
    SEED_LLAMA / "pretrain.yaml": "lm",
    SEED_LLAMA / "instruct.yaml": "instruct",
}
ON_CPU = ("trainer.use_cpu=true",)


def test_every_shipped_recipe_is_listed_here():
    assert {path for folder in (FULL_SIZE, SEED_LLAMA) for path in folder.glob("*.yaml")} == set(SHIPPED)


@pytest.mark.parametrize(
    ("path", "stage"), SHIPPED.items(), ids=[f"{path.parent.name}-{path.stem}" for path in SHIPPED]
)
def test_the_shipped_recipes_are_valid(path, stage):
    recipe = read_recipe(stage, path, ON_CPU)
    assert recipe.trainer.max_steps > 0 and recipe.trainer.weight_decay == 0.05
    assert yaml.safe_load(path.read_text())["trainer"]["bf16"] is True
    assert recipe.trainer.bf16 == has_native_bf16()


def test_the_shipped_recipes_have_the_published_values():
    first, second, lm = (
        read_recipe(stage, FULL_SIZE / f"{stage}.yaml", ON_CPU) for stage in ("contrastive", "quantization", "lm")
    )
    assert (first.trainer.learning_rate, first.trainer.per_device_train_batch_size) == (3e-5, 64)
    assert (second.trainer.learning_rate, second.trainer.per_device_train_batch_size) == (1e-4, 256)
    assert second.trainer.warmup_steps == 2000
    config = SeedTokenizerConfig(**second.model.settings)
    assert (config.codebook_size, config.code_dim, config.num_generation_tokens) == (8192, 32, 77)
    assert (config.vq_loss_weight, config.reconstruction_loss_weight, config.generation_loss_weight) == (5, 2, 0.5)
    assert (lm.trainer.lora_r, lm.trainer.lora_alpha, lm.trainer.learning_rate) == (16, 32, 1.5e-4)
    assert lm.data.directions == {"image_to_text": 0.5, "text_to_image": 0.5}


def test_the_recipes_of_seed_llama_have_the_published_values():
    first, second = (read_recipe(SHIPPED[path], path, ON_CPU) for path in list(SHIPPED)[-2:])
    for recipe, rate, steps, least, warmup in ((first, 1.5e-4, 30_000, 0.05, 0.03), (second, 1e-4, 50_000, 0.1, 0.07)):
        args = recipe.trainer
        assert (args.learning_rate, args.max_steps, args.lr_scheduler_kwargs["min_lr_rate"]) == (rate, steps, least)
        assert (args.warmup_steps, args.adam_beta2, args.adam_epsilon, args.max_grad_norm) == (warmup, 0.95, 1e-5, 1.0)
        assert (args.lora_r, args.lora_alpha, args.lora_dropout) == (16, 32, 0.05)
        assert set(args.lora_target_modules) == set(SeedLlamaForCausalLM.family.linear_layers)
        assert args.lora_norms and args.lora_embeddings
        entries = entries_of(recipe.data.train, "data.train")
        assert all(entry.settings["max_length"] <= recipe.data.max_length for entry in entries)
    assert len(entries_of(first.data.train, "")) == 6 and len(entries_of(second.data.train, "")) == 18
    assert (first.data.loss_on, first.data.max_images, first.model.prompt_format) == ("all", 7, "plain")
    assert second.data.loss_on is None and second.model.prompt_format == "vicuna"


@pytest.mark.slow
def test_the_full_size_language_model_recipe_starts(tmp_path, monkeypatch):
    """Two steps at the width of OPT-2.7B, from random weights, with two layers and a small vocabulary."""
    monkeypatch.chdir(tmp_path)
    words = tiny_text_tokenizer()
    config = OPTConfig(
        vocab_size=len(words),
        hidden_size=2560,
        word_embed_proj_dim=2560,
        ffn_dim=10240,
        num_hidden_layers=2,
        num_attention_heads=32,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    )
    OPTForCausalLM(config).save_pretrained("opt")
    words.save_pretrained("opt")
    tiny_tokenizer(codebook_size=8192, code_dim=32).save_pretrained("tokenizer")
    codes = torch.randint(0, 8192, (8, 32), generator=torch.Generator().manual_seed(0)).tolist()
    pq.write_table(pa.table({"codes": codes, "caption": ["a red apple", "an answer"] * 4}), "codes.parquet")
    changes = {
        "model.language_model": "opt",
        "model.visual_tokenizer": "tokenizer",
        "data.train": "codes.parquet",
        "data.max_length": 96,
        "data.pack_length": 192,
        "trainer.max_steps": 2,
        "trainer.per_device_train_batch_size": 4,
        "trainer.output_dir": "out",
        "trainer.save_strategy": '"no"',
        "trainer.logging_steps": 1,
        "trainer.dataloader_num_workers": 0,
        "trainer.use_cpu": "true",
    }
    run_stage("lm", FULL_SIZE / "lm_image_to_text.yaml", [f"{key}={value}" for key, value in changes.items()])
    trained = SeedForCausalLM.from_pretrained("out")
    assert trained.config.visual_embedding == "projected" and trained.config.hidden_size == 2560
    base = OPTForCausalLM.from_pretrained("opt")
    rows = len(words)
    assert torch.equal(trained.get_input_embeddings().weight[:rows], base.get_input_embeddings().weight)
    weight = trained.model.decoder.layers[0].fc1.weight
    assert not torch.equal(weight, base.model.decoder.layers[0].fc1.weight)  # LoRA has been merged


RECIPES = {
    "contrastive": {
        "model": {"tokenizer": "tokenizer", "text_tokenizer": "text_tokenizer"},
        "data": {"train": "images.parquet"},
        "trainer": {"output_dir": "out", "use_cpu": True},
    },
    "quantization": {
        "model": {"stage_one": "tokenizer", "settings": {"codebook_size": 64}},
        "data": {"features": "features"},
        "trainer": {"output_dir": "out", "use_cpu": True},
    },
    "lm": {
        "model": {"language_model": "opt"},
        "data": {"train": "codes.parquet"},
        "trainer": {"output_dir": "out", "use_cpu": True},
    },
}


@pytest.fixture
def write(tmp_path):
    def write(stage):
        path = tmp_path / f"{stage}.yaml"
        path.write_text(yaml.safe_dump(RECIPES[stage]))
        return path

    return write


@pytest.mark.parametrize("stage", RECIPES)
def test_changes_replace_values_of_the_file(write, stage):
    source = "data.features=x" if stage == "quantization" else "data.train=x"
    recipe = read_recipe(stage, write(stage), ["trainer.max_steps=7", "trainer.learning_rate=1e-3", source])
    assert recipe.trainer.max_steps == 7 and recipe.trainer.learning_rate == 1e-3
    assert (recipe.data.features if stage == "quantization" else recipe.data.train) == "x"


def test_changes_reach_any_depth(write):
    changes = [
        "model.settings.codebook_size=128",
        "model.settings.decoder_config.num_hidden_layers=1",
        "model.settings.decoder_config.hidden_size=24",
        "trainer.lr_scheduler_kwargs.min_lr_rate=0.2",
    ]
    recipe = read_recipe("quantization", write("quantization"), changes)
    assert recipe.model.settings == {
        "codebook_size": 128,
        "decoder_config": {"num_hidden_layers": 1, "hidden_size": 24},
    }
    assert recipe.trainer.lr_scheduler_kwargs == {"min_lr_rate": 0.2}
    recipe = read_recipe("lm", write("lm"), ["data.directions.image_to_text=1", "data.directions.text_to_image=0.5"])
    assert recipe.data.directions == {"image_to_text": 1, "text_to_image": 0.5}


@pytest.mark.parametrize(
    ("stage", "change", "message"),
    [
        ("contrastive", "trainer.max_step=1", "trainer has unknown keys: max_step. Allowed keys: .*max_steps"),
        ("contrastive", "data.max_text_tokens=many", "data.max_text_tokens must be int, got 'many'"),
        ("contrastive", "data.max_text_tokens=0", "data.max_text_tokens must be a positive"),
        ("contrastive", "data.augment=3", "data.augment must be bool, got 3"),
        ("contrastive", "model.config=[]", "model.config must be dict"),
        ("contrastive", "model.blip2=a/b", "exactly one of tokenizer, config, blip2, stage_one; got tokenizer, blip2"),
        ("contrastive", "data.shuffle_buffer=180", "data.shuffle_buffer goes with data.streaming: true"),
        ("contrastive", "data.train=[a.tar, b.tar]", "A list of sources goes with data.streaming"),
        ("contrastive", "data.streaming=true", "data.streaming needs trainer.max_steps"),
        ("contrastive", "trainer.save_strategy=often", "save_strategy must be one of no, .*; got 'often'"),
        ("quantization", "model.settings={code_dims: 3}", "model.settings has unknown keys: code_dims. .*code_dim"),
        ("quantization", "model.text_encoder=a/b/c", "model.text_encoder needs model.text_tokenizer"),
        ("quantization", "data.augment=true", "data.augment changes images"),
        ("quantization", "trainer.codebook_init=zeros", "codebook_init must be 'none' or 'kmeans', got 'zeros'"),
        ("lm", "model.visual_embedding=sum", "model.visual_embedding must be one of learned, projected; got 'sum'"),
        ("lm", "data.pack_length=-3", "data.pack_length must be a positive"),
        ("lm", "trainer.lora_r=-1", "lora_r must be 0"),
        ("lm", "trainer.max_steps", "section.key=value"),
        ("lm", "optimizer.lr=1", "section.key=value"),
        ("lm", "data..train=x", "section.key=value"),
        ("lm", "data.train=[x", r"data.train: '\[x' cannot be read: not valid YAML"),
        ("lm", "trainer.max_steps.more=1", "trainer.max_steps holds one value, so there is no trainer.max_steps.more"),
        ("lm", "data.direction.question=1", "data has unknown keys: direction"),
        ("quantization", "model.settings.code_dims=8", "model.settings has unknown keys: code_dims"),
        ("quantization", "model.settings.vision_config.size=8", "vision_config has unknown keys: size. .*image_size"),
        ("quantization", "model.settings.vision_config=8", "model.settings.vision_config must be a mapping"),
        ("quantization", "model.settings.codebook_size.more=8", "model.settings.codebook_size is 64, so there is no"),
        ("quantization", "model.settings.decoder_config.depth=8", "decoder_config has unknown keys: depth"),
        ("quantization", "model.stage_one.settings=8", "model.stage_one holds one value"),
    ],
)
def test_errors_name_the_field(write, stage, change, message):
    with pytest.raises(ValueError, match=message):
        read_recipe(stage, write(stage), [change])


@pytest.mark.parametrize(
    ("stage", "model", "message"),
    [
        ("quantization", {"blip2": "a/b"}, "model.blip2 is where stage I begins"),
        ("contrastive", {"stage_one": "x", "text_tokenizer": "y"}, "model.stage_one is where stage II begins"),
        ("contrastive", {"tokenizer": "x", "text_tokenizer": "y", "settings": {}}, None),
        (
            "contrastive",
            {"tokenizer": "x", "text_tokenizer": "y", "settings": {"code_dim": 8}},
            "goes with model.blip2",
        ),
        ("contrastive", {"config": {"hidden": 1}, "text_tokenizer": "y"}, "model.config has unknown keys: hidden"),
        ("lm", {"config": {"hidden_sizes": 8}, "text_tokenizer": "y"}, "model.config has unknown keys: hidden_sizes"),
        ("lm", {"config": {"hidden_size": 8}}, "give model.text_tokenizer"),
        ("lm", {"config": {"model_type": "gpt2"}}, "model_type must be one of opt, llama, qwen3; got 'gpt2'"),
    ],
)
def test_impossible_combinations(tmp_path, stage, model, message):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**RECIPES[stage], "model": model, "data": {"train": "x.parquet"}}))
    if message is None:
        read_recipe(stage, path)
    else:
        with pytest.raises(ValueError, match=message):
            read_recipe(stage, path)


@pytest.mark.parametrize(
    "text", [bomb(), "model: {}\ndata: {}\ntrainer: {bf16: yes}", "model: {}\nmodel: {}", "- " * 999]
)
def test_yaml_that_grows_or_means_two_things_is_refused(tmp_path, text):
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(ValueError, match="recipe.yaml: line") as caught:
        read_recipe("lm", tmp_path / "recipe.yaml")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("value", ["[", "no", "&a [*a]", "!!python/name:os.system"])
def test_a_change_is_read_as_carefully_as_the_file(write, value):
    with pytest.raises(ValueError, match="trainer.bf16: .* cannot be read"):
        read_recipe("lm", write("lm"), [f"trainer.bf16={value}"])


@pytest.mark.parametrize(
    ("stage", "changes", "message"),
    [
        ("contrastive", ["trainer.do_predict=true"], "trainer.do_predict is not supported"),
        ("contrastive", ["trainer.do_eval=true"], "trainer.do_eval is not supported: set trainer.eval_strategy"),
        ("contrastive", ["trainer.resume_from_checkpoint=x"], "resume_from_checkpoint is not supported: a run"),
        ("lm", ["trainer.push_to_hub=true"], "push_to_hub=True is not supported: .*seed-hf push"),
        ("contrastive", ["trainer.label_smoothing_factor=0.1"], "label_smoothing_factor=0.1 is not supported"),
        ("contrastive", ["trainer.eval_strategy=steps"], "eval_strategy: steps needs data.validation"),
        ("lm", ["trainer.eval_on_start=true"], "trainer.eval_on_start needs data.validation"),
        ("lm", ["trainer.metric_for_best_model=bleu"], "metric_for_best_model must be one of loss"),
        ("lm", ["trainer.report_to=nobody"], "trainer.report_to: nobody is not installed here"),
        ("lm", ["trainer.optim=stable_adamw"], "trainer.optim: stable_adamw needs a package that is not installed"),
        ("lm", ["trainer.max_steps="], "trainer.max_steps must be int, got nothing"),
        ("lm", ["trainer.warmup_ratio=0.1"], "trainer.warmup_ratio is not supported: `warmup_steps` below 1"),
        ("lm", ["trainer.group_by_length=true"], "trainer.group_by_length is not supported: rows get their length"),
        ("lm", ["trainer.dataloader_num_workers=-1"], "dataloader_num_workers must be at least 0, got -1"),
        ("lm", ["trainer.lr_scheduler_type=linear", "trainer.lr_scheduler_kwargs={a: 1}"], "do not fit"),
        ("lm", ["model.language_model=null", "model.config={hidden_size: 16}", "model.text_tokenizer=t",
                "model.visual_tokenizer=v", "trainer.lora_r=0"], "model.visual_tokenizer is not used"),
        ("quantization", ["data.max_text_tokens=3"], "data.max_text_tokens is not used: data.features hold"),
        ("quantization", ["model.text_encoder=x", "model.text_tokenizer=x"], "model.text_encoder is not used"),
        ("quantization", ["data.features=null", "data.train=x", "data.caption_column=c"], "caption_column is not"),
        ("quantization", ["data.features=null", "data.train=x", "model.text_tokenizer=x"], "text_tokenizer is not"),
        ("quantization", ["data.features=null", "data.train=x", "trainer.train_qformer=true",
                          "data.max_text_tokens=3"], "data.max_text_tokens is not used: stage II reads captions"),
        ("contrastive", ["data.streaming=true", "trainer.max_steps=1", "trainer.train_sampling_strategy=sequential"],
         "does not order a stream"),
    ],
)  # fmt: skip
def test_what_a_run_would_ignore_or_end_at_is_refused(write, stage, changes, message):
    with pytest.raises(ValueError, match=message):
        read_recipe(stage, write(stage), changes)


@pytest.mark.skipif(find_spec("deepspeed") is not None, reason="it is installed")
def test_a_missing_deepspeed_is_named(write):
    with pytest.raises(ValueError, match="deepspeed needs the package of that name, which is not installed"):
        read_recipe("lm", write("lm"), ["trainer.deepspeed=x.json"])


def test_an_error_names_its_key_once():
    from seed_hf.recipes.places import naming_the_key

    for message, expected in (("d is no file", "data.train: d is no file"), ("data.train: no", "data.train: no")):
        with pytest.raises(ValueError, match=f"^{expected}$"), naming_the_key("data.train"):
            raise ValueError(message)
