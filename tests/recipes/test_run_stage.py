"""`run_stage`: whole runs of every stage from YAML files, and errors that name the mistake in the file."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, GPT2Config, OPTForCausalLM

from command_line import refused, run
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from seed_hf.modeling.modeling_seed_text import SeedForCausalLM
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from seed_hf.modeling.processing_seed import SeedProcessor
from seed_hf.recipes.checking import check_recipe
from seed_hf.recipes.reading import read_recipe
from seed_hf.recipes.running import run_stage
from stage_recipes import CAPTIONS, OPT, TRAINER, contrastive, folder, write  # noqa: F401  folder is a fixture
from tiny import tiny_text_encoder, tiny_text_tokenizer, tiny_tokenizer, tiny_tokenizer_config


def test_contrastive_and_going_on_after_an_interruption(folder):
    recipe = contrastive(output_dir="whole")
    recipe["data"].update(validation="images.parquet", augment=True, caption_column="words")
    assert run_stage("contrastive", write(recipe)).name == "whole"
    whole = SeedTokenizer.from_pretrained("whole").state_dict()
    assert SeedImageProcessor.from_pretrained("whole").size == {"height": 28, "width": 28}
    assert not (folder / "whole" / "saving").exists()
    # a run that was killed after checkpoint-2, in the middle of writing a later one
    (folder / "whole").rename(folder / "out")
    for name in ("model.safetensors", "checkpoint-3/trainer_state.json"):
        (folder / "out" / name).unlink()
    recipe["trainer"]["output_dir"] = "out"
    run_stage("contrastive", write(recipe))
    for name, value in SeedTokenizer.from_pretrained("out").state_dict().items():
        assert torch.equal(value, whole[name]), name
    # a complete run is not changed
    weights = (folder / "out" / "model.safetensors").read_bytes()
    run_stage("contrastive", write(recipe))
    assert (folder / "out" / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize("streaming", [False, True])
def test_a_folder_of_images_is_a_validation_set(folder, streaming):
    (folder / "held_out").mkdir()
    for i in range(3):
        Image.new("RGB", (20, 30), (80 * i, 0, 0)).save(folder / "held_out" / f"{i}.png")
    lines = [{"file_name": f"{i}.png", "caption": CAPTIONS[i]} for i in range(3)]
    (folder / "held_out" / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    recipe = contrastive(eval_strategy="steps", eval_steps=3)
    recipe["data"] |= {"validation": "held_out", "streaming": streaming}
    run_stage("contrastive", write(recipe))
    state = json.loads((folder / "out" / "trainer_state.json").read_text())
    assert [line["eval_image_to_text_accuracy"] >= 0 for line in state["log_history"] if "eval_loss" in line] == [True]
    recipe["data"]["validation"] = "nowhere/at/all"
    recipe["trainer"]["output_dir"] = "another"
    with pytest.raises(FileNotFoundError, match="data.validation: nowhere/at/all"):
        run_stage("contrastive", write(recipe))


def test_contrastive_from_random_weights(folder):
    recipe = contrastive()
    config = tiny_tokenizer_config().to_dict()
    recipe["model"] = {"config": config, "text_tokenizer": "text_tokenizer"}
    run_stage("contrastive", write(json.loads(json.dumps(recipe))))
    assert SeedTokenizer.from_pretrained("out").config.codebook_size == 64


def test_the_text_tokenizer_is_saved_where_the_text_tower_is(folder):
    """Retrieval reads captions with it: from stage I's folder, and from that of a stage II that begins there."""
    rows = ("--data", "images.parquet", "--caption-column", "words")
    evaluate = ["evaluate", "retrieval", *rows, "--out", "found.json"]
    refused(*evaluate, "--model", "tokenizer", words="holds no text tokenizer")
    run_stage("contrastive", write(contrastive(output_dir="one")))
    status, _, said = run(*evaluate, "--model", "one", "--use", "embeddings")
    assert status == 0, said
    recipe = {
        "model": {"stage_one": "one"},
        "data": {"train": "images.parquet"},
        "trainer": {**TRAINER, "output_dir": "two"},
    }
    run_stage("quantization", write(recipe))
    words = [AutoTokenizer.from_pretrained(name).get_vocab() for name in ("text_tokenizer", "one", "two")]
    assert words[0] == words[1] == words[2]
    status, _, said = run(*evaluate[:-1], "of_codes.json", "--model", "two")
    assert status == 0, said
    bare = {"tokenizer": "tokenizer"}
    run_stage("quantization", write({**recipe, "model": bare, "trainer": {**TRAINER, "output_dir": "bare"}}))
    assert not Path("bare/tokenizer.json").exists()


def test_quantization_with_a_text_encoder(folder):
    tiny_text_encoder().save_pretrained("text_encoder")
    model = {"tokenizer": "tokenizer", "text_encoder": "text_encoder", "text_tokenizer": "text_tokenizer"}
    trainer = {**TRAINER, "output_dir": "out", "codebook_init": "kmeans", "revive_dead_codes_every": 2}
    run_stage("quantization", write({"model": model, "data": {"train": "images.parquet"}, "trainer": trainer}))
    state = json.loads((folder / "out" / "trainer_state.json").read_text())
    assert {"vq_loss", "generation_loss", "used_codes", "perplexity"} <= set(state["log_history"][0])
    before, after = SeedTokenizer.from_pretrained("tokenizer"), SeedTokenizer.from_pretrained("out")
    assert torch.equal(before.query_tokens, after.query_tokens)
    assert not torch.equal(before.quantizer.embedding.weight, after.quantizer.embedding.weight)


def test_quantization_with_a_qformer_that_learns_along(folder):
    tiny_tokenizer(contrastive_loss_weight=0.5).save_pretrained("tokenizer")
    model = {"tokenizer": "tokenizer", "text_tokenizer": "text_tokenizer"}
    recipe = {"model": model, "data": {"train": "images.parquet"}, "trainer": {**TRAINER, "output_dir": "out"}}
    with pytest.raises(ValueError, match="model.text_tokenizer is not used"):
        run_stage("quantization", write(recipe))
    recipe["trainer"]["train_qformer"] = True
    for change, words in (
        ({"model": {"tokenizer": "tokenizer"}}, "it needs model.text_tokenizer"),
        ({"data": {"features": "features.safetensors"}}, "causal embeddings change"),
        ({"model": {"config": json.loads(json.dumps(tiny_tokenizer_config(text_tower=False).to_dict())),
                    "text_tokenizer": "text_tokenizer"}}, "the tokenizer has no text tower"),
    ):  # fmt: skip
        save_file({"causal_embeddings": torch.zeros(2, 32, 24)}, "features.safetensors")
        with pytest.raises(ValueError, match=words):
            check_recipe(read_recipe("quantization", write(recipe | change)))
        with pytest.raises(ValueError, match=words):
            run_stage("quantization", write(recipe | change))
    run_stage("quantization", write(recipe))
    assert "contrastive_loss" in json.loads((folder / "out" / "trainer_state.json").read_text())["log_history"][0]
    before, after = SeedTokenizer.from_pretrained("tokenizer"), SeedTokenizer.from_pretrained("out")
    assert not torch.equal(before.query_tokens, after.query_tokens)


def test_weights_in_fp16_train_in_fp32_on_a_cpu(folder, caplog):
    """Hardly any CPU has hardware for fp16. The trained model is saved in fp32."""
    tiny_tokenizer().half().save_pretrained("tokenizer")
    tiny_text_encoder().half().save_pretrained("text_encoder")
    model = {"tokenizer": "tokenizer", "text_encoder": "text_encoder", "text_tokenizer": "text_tokenizer"}
    trainer = {**TRAINER, "output_dir": "out", "fp16": True}
    run_stage("quantization", write({"model": model, "data": {"train": "images.parquet"}, "trainer": trainer}))
    assert SeedTokenizer.from_pretrained("out").dtype == torch.float32
    said = [record.getMessage() for record in caplog.records if record.name == "seed_hf.devices"]
    beginnings = ("trainer.fp16: ", "SeedTokenizer: its weights", "CLIPTextModel: its weights")
    assert len(said) == 3 and all(map(str.startswith, said, beginnings)), said


def test_quantization_on_cached_features(folder):
    features = {"causal_embeddings": torch.randn(8, 32, 24).half(), "target_embeddings": torch.randn(8, 6, 20).half()}
    save_file(features, "features.safetensors")
    recipe = {
        "model": {"tokenizer": "tokenizer"},
        "data": {"features": "features.safetensors"},
        "trainer": {**TRAINER, "output_dir": "out"},
    }
    run_stage("quantization", write(recipe))
    assert SeedTokenizer.from_pretrained("out").config.codebook_size == 64
    save_file({"causal": torch.zeros(8, 2)}, "features.safetensors")
    recipe["trainer"]["output_dir"] = "another"
    with pytest.raises(ValueError, match="causal_embeddings"):
        run_stage("quantization", write(recipe))


def test_a_run_reads_images_as_the_tokenizer_that_it_goes_on_from(folder):
    """Pixels of another filter than those of the codes in use would be trained on, and saved beside the result."""
    processor = SeedImageProcessor.for_tokenizer(tiny_tokenizer_config())
    processor.resample = 2  # bilinear; the default is bicubic
    processor.save_pretrained("tokenizer")
    recipe = {"model": {"tokenizer": "tokenizer"}, "data": {"train": "images.parquet"}}
    recipe["trainer"] = {**TRAINER, "output_dir": "out"}
    run_stage("quantization", write(recipe))
    assert SeedImageProcessor.from_pretrained("out").resample == 2
    processor.size = {"height": 56, "width": 56}
    processor.save_pretrained("tokenizer")
    with pytest.raises(ValueError, match="begun with something else: model.image_processor has another content"):
        run_stage("quantization", write(recipe))
    recipe["trainer"]["output_dir"] = "another"
    with pytest.raises(ValueError, match="model.tokenizer: tokenizer makes images of .* sees 28 x 28 pixels"):
        check_recipe(read_recipe("quantization", write(recipe)))


def test_a_text_tokenizer_with_several_chat_templates_is_saved(folder):
    """The library saves the further ones in a folder of their own."""
    words = tiny_text_tokenizer()
    words.chat_template = {"default": "{{ messages }}", "tool_use": "{{ tools }}"}
    words.save_pretrained("text_tokenizer")
    text = {
        "model": {"config": OPT, "text_tokenizer": "text_tokenizer"},
        "data": {"train": "texts.parquet"},
        "trainer": {**TRAINER, "output_dir": "opt", "lora_r": 0, "max_steps": 1},
    }
    for _ in range(2):  # the second time it is finished, and whole
        run_stage("lm", write(text))
        assert set(AutoTokenizer.from_pretrained("opt").chat_template) == {"default", "tool_use"}
    assert not Path("opt/saving").exists()
    text["trainer"]["max_steps"] = 2
    run_stage("lm", write(text))
    assert json.loads(Path("opt/trainer_state.json").read_text())["global_step"] == 2


def test_a_loss_that_is_no_number_is_one_line_on_the_command_line(folder):
    recipe = contrastive(learning_rate=1e30, max_steps=6, max_grad_norm=0)
    status, _, error = run("train", "contrastive", "--config", write(recipe))
    assert status == 2 and "The loss of step" in error and "Traceback" not in error


def test_text_then_codes_in_a_language_model(folder):
    text = {
        "model": {"config": OPT, "text_tokenizer": "text_tokenizer"},
        "data": {"train": "texts.parquet"},
        "trainer": {**TRAINER, "output_dir": "opt", "lora_r": 0},
    }
    run_stage("lm", write(text))
    opt = OPTForCausalLM.from_pretrained("opt")
    assert len(AutoTokenizer.from_pretrained("opt")) == opt.config.vocab_size
    lm = {
        "model": {"language_model": "opt", "visual_tokenizer": "tokenizer"},
        "data": {"train": "codes.parquet", "directions": {"image_to_text": 1, "text_to_image": 1, "question": 1}},
        "trainer": {**TRAINER, "output_dir": "lm", "lora_r": 2},
    }
    run_stage("lm", write(lm))
    model = SeedForCausalLM.from_pretrained("lm")
    size = opt.config.vocab_size
    assert model.config.codebook_size == 64 and model.config.text_vocab_size == size
    ids = SeedProcessor(SeedImageProcessor(), AutoTokenizer.from_pretrained("lm")).vocabulary  # a processor takes it
    assert ids.visual_token_offset == model.config.visual_token_offset and ids.codebook_size == 64
    assert torch.equal(model.get_input_embeddings().weight[:size], opt.get_input_embeddings().weight)
    assert not (folder / "lm" / "adapter_model.safetensors").exists()
    # on from the SEED model, with a folder as data and a list of captions
    (folder / "data").mkdir()
    table = pq.read_table("codes.parquet").append_column("words", [[CAPTIONS] * 8])
    pq.write_table(table, "data/train-0.parquet")
    pq.write_table(table.slice(0, 2), "data/validation.parquet")
    before = OPTForCausalLM.from_pretrained("opt").state_dict()
    status, _, error = run(
        "train", "lm", "--config", write({**lm, "trainer": {**lm["trainer"], "output_dir": "all"}}), "--full"
    )
    assert status == 0, error
    after = SeedForCausalLM.from_pretrained("all").state_dict()
    assert not torch.equal(after["model.decoder.layers.0.fc1.weight"], before["model.decoder.layers.0.fc1.weight"])
    assert not torch.equal(
        after["model.decoder.embed_tokens.weight"][:size], before["model.decoder.embed_tokens.weight"]
    )
    more = {
        "model": {"language_model": "lm"},
        "data": {"train": "data", "validation": "data", "caption_column": "words"},
        "trainer": {**TRAINER, "output_dir": "more", "lora_r": 0, "eval_strategy": "steps", "eval_steps": 3},
    }
    run_stage("lm", write(more))
    logged = json.loads((folder / "more" / "trainer_state.json").read_text())["log_history"]
    assert any("eval_code_loss" in line or "eval_caption_loss" in line for line in logged)
    assert load_file("more/model.safetensors").keys() == load_file("lm/model.safetensors").keys()


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"trainer": {"learning_rat": 1}}, ValueError, "unknown keys: learning_rat. Allowed.*learning_rate"),
        ({"data": {"image_colum": "image"}}, ValueError, "data has unknown keys: image_colum.*image_column"),
        ({"model": {"tokeniser": "x"}}, ValueError, "model has unknown keys: tokeniser.*tokenizer"),
        ({"modle": {}}, ValueError, "unknown sections.*modle.*model, data, trainer"),
        ({"trainer": {"output_dir": None}}, ValueError, "trainer lacks output_dir"),
        ({"trainer": {"learning_rate": "fast"}}, ValueError, "trainer.learning_rate must be a number, got 'fast'"),
        ({"trainer": {"per_device_train_batch_size": 2.5}}, ValueError, "per_device_train_batch_size must be int"),
        ({"trainer": {"use_cpu": "maybe"}}, ValueError, "trainer.use_cpu must be bool"),
        ({"model": {"config": {"hidden": 1}}}, ValueError, "exactly one of tokenizer, config"),
        ({"model": {"text_tokenizer": None}}, ValueError, "model.text_tokenizer"),
        ({"data": {"train": None}}, ValueError, "exactly one of train, features; got none"),
        ({"data": {"train": "nowhere.parquet"}}, FileNotFoundError, "nowhere.parquet"),
        ({"data": {"caption_column": "text"}}, ValueError, "no column text; it has image, caption, words"),
        ({"model": {"tokenizer": "nowhere"}}, FileNotFoundError, "model.tokenizer: nowhere: no such folder"),
        ({"model": "tokenizer"}, ValueError, "model must be a mapping"),
    ],
)  # fmt: skip
def test_errors_name_the_key_and_what_is_allowed(folder, change, error, message):
    recipe = contrastive()
    for name, value in change.items():
        recipe[name] = {**recipe.get(name, {}), **value} if isinstance(value, dict) else value
    with pytest.raises(error, match=message):
        run_stage("contrastive", write(recipe))


def test_wrong_files_and_stages(folder):
    with pytest.raises(ValueError, match="contrastive, quantization, lm, instruct, got 'pretrain'"):
        run_stage("pretrain", write(contrastive()))
    with pytest.raises(FileNotFoundError, match="nothing.yaml"):
        run_stage("lm", "nothing.yaml")
    (folder / "broken.yaml").write_text("model: [")
    with pytest.raises(ValueError, match="not valid YAML"):
        run_stage("lm", "broken.yaml")
    lm = {"model": {"config": OPT, "text_tokenizer": "text_tokenizer"}, "data": {"train": "texts.parquet"}}
    with pytest.raises(ValueError, match="lora_r: 0"):
        run_stage("lm", write({**lm, "trainer": {**TRAINER, "output_dir": "out"}}))
    lm["data"] = {"train": "codes.parquet"}
    with pytest.raises(ValueError, match="visual_tokenizer"):
        run_stage("lm", write({**lm, "trainer": {**TRAINER, "output_dir": "out", "lora_r": 0}}))


def test_a_language_model_of_another_family_is_refused(folder):
    GPT2Config().save_pretrained("gpt2")
    recipe = {
        "model": {"language_model": "gpt2", "text_tokenizer": "text_tokenizer"},
        "data": {"train": "texts.parquet"},
        "trainer": {**TRAINER, "output_dir": "out"},
    }
    with pytest.raises(
        ValueError, match="model.language_model: gpt2 is .* type 'gpt2'.* seed_text, .* .with visual tokens. and opt, "
    ):
        run_stage("lm", write(recipe))
    tiny_tokenizer().save_pretrained("gpt2")
    with pytest.raises(ValueError, match="type 'seed_tokenizer'"):
        run_stage("lm", write(recipe))
    for content, words in (("{", "gpt2: cannot be loaded"), ("{}", "gpt2 has no config.json with a model_type")):
        (folder / "gpt2" / "config.json").write_text(content)
        with pytest.raises(ValueError, match=f"model.language_model: {words}"):
            run_stage("lm", write(recipe))


def test_the_package_is_light_until_a_name_is_used():
    code = "import sys, seed_hf.training; print(sorted({'torch', 'peft', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
