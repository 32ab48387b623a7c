"""peft on language models and whole models: what its methods do with the plain model of the family, they do here."""

import copy

import peft
import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from tiny_families import FAMILIES, plain_model, visual_model, whole_model
from tiny_language import TEXT_VOCAB_SIZE


families = pytest.mark.parametrize("name", ["opt", "llama", "qwen3"])
TASK = {"task_type": "CAUSAL_LM"}
LAYERS = {
    "lora": lambda: peft.LoraConfig(**TASK),
    "all-linear": lambda: peft.LoraConfig(target_modules="all-linear", **TASK),
    "ia3": lambda: peft.IA3Config(**TASK),
    "adalora": lambda: peft.AdaLoraConfig(total_step=10, **TASK),
    "vera": lambda: peft.VeraConfig(**TASK),
}
PROMPTS = {
    "prompt": lambda: peft.PromptTuningConfig(num_virtual_tokens=4, **TASK),
    "p-tuning": lambda: peft.PromptEncoderConfig(num_virtual_tokens=4, encoder_hidden_size=8, **TASK),
    "prefix": lambda: peft.PrefixTuningConfig(num_virtual_tokens=4, **TASK),
}


def text_prompt():
    ids = torch.randint(3, TEXT_VOCAB_SIZE, (2, 6), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, :2] = 0
    return {"input_ids": ids, "attention_mask": mask}


def image_prompt(config):
    span = [config.boi_token_id, *[config.image_token_id] * 32, config.eoi_token_id]
    ids = torch.tensor([[0, 5, *span, 7, 9]] * 2)
    pixels = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}


def adapted(model, config, **options):
    """With adapter weights that matter, the same in every model that has the same layers."""
    torch.manual_seed(0)
    model = get_peft_model(model, config, **options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


def adapted_layers(model, make) -> set[str]:
    return set(get_peft_model(model, make()).base_model.targeted_module_names)


@families
@pytest.mark.parametrize("kind", LAYERS)
def test_the_layers_are_those_of_the_plain_model(name, kind):
    plain = adapted_layers(plain_model(name), LAYERS[kind])
    assert plain and adapted_layers(visual_model(name), LAYERS[kind]) == plain
    whole = adapted_layers(whole_model(name), LAYERS[kind])
    assert whole == {f"language_model.{layer}" for layer in plain}


@families
def test_adapters_of_transformers_itself_have_the_same_default(name):
    model = whole_model(name)
    model.add_adapter(peft.LoraConfig())
    model.add_adapter(peft.LoraConfig(target_modules="all-linear"), "all")
    trained = {key for key, _ in model.named_parameters() if "lora_A" in key}
    assert {key.rpartition(".lora_A")[0] for key in trained if "default" in key} == {
        f"language_model.{layer}" for layer in adapted_layers(plain_model(name), LAYERS["lora"])
    }
    assert all(key.startswith("language_model.") for key in trained)
    assert sum(".all." in key for key in trained) > sum(".default." in key for key in trained) > 0


@families
@pytest.mark.parametrize("kind", PROMPTS)
@torch.no_grad()
def test_virtual_tokens_come_before_the_prompt_of_a_whole_model_too(name, kind, tmp_path):
    options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 1}
    free = {**options, "generation_mode": None}
    models = [visual_model(name).to_plain().eval(), visual_model(name), whole_model(name)]
    without = models[0].generate(**text_prompt(), **options)
    plain, language_model, whole = (adapted(model, PROMPTS[kind]()) for model in models)
    expected = plain.generate(**text_prompt(), **options)
    assert not torch.equal(expected, without)
    for model in (language_model, whole):
        assert torch.equal(model.generate(**text_prompt(), **free), expected)
        torch.testing.assert_close(model(**text_prompt()).logits, plain(**text_prompt()).logits)
    assert torch.equal(models[2].generate(**text_prompt(), **free), without)  # taken off again
    inputs = image_prompt(models[1].config)
    drawn = whole.generate(**inputs, generation_mode="image")
    filled = models[2].fill_placeholders(inputs["input_ids"], inputs["pixel_values"])
    mask = inputs["attention_mask"]
    assert torch.equal(drawn, language_model.generate(input_ids=filled, attention_mask=mask, generation_mode="image"))
    whole.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(whole_model(name), tmp_path).eval()
    assert torch.equal(loaded.generate(**inputs, generation_mode="image"), drawn)


@pytest.mark.parametrize("kind", PROMPTS)
@pytest.mark.parametrize("embedding", ["learned", "projected"])
def test_virtual_tokens_learn_from_images(kind, embedding):
    model = whole_model("opt", embedding)
    inputs = image_prompt(model.config.text_config)
    labels = inputs["input_ids"].masked_fill(inputs["input_ids"] < 4, -100)
    filled = model.fill_placeholders(inputs["input_ids"], inputs["pixel_values"])
    of_codes = torch.where(labels == model.config.image_token_id, filled, labels)
    with_codes = {"input_ids": filled, "attention_mask": inputs["attention_mask"], "labels": of_codes}
    expected = adapted(visual_model("opt", embedding), PROMPTS[kind]())(**with_codes).loss
    whole = adapted(model, PROMPTS[kind]())
    loss = whole(**inputs, labels=labels).loss
    torch.testing.assert_close(loss, expected)
    loss.backward()
    trained = {key: value.grad for key, value in whole.named_parameters() if value.requires_grad}
    assert trained and all("prompt_encoder" in key for key in trained)
    assert sum(grad.abs().sum() for grad in trained.values() if grad is not None) > 0


@pytest.mark.parametrize("make", [visual_model, whole_model])
@pytest.mark.parametrize("kind", PROMPTS)
def test_what_virtual_tokens_do_not_go_with_is_refused(kind, make):
    """They ended in a KeyError of peft, an AttributeError of the cache, or "model_kwargs are not used"."""
    model = adapted(make("opt"), PROMPTS[kind]())
    ids = text_prompt()["input_ids"]
    guided = {"generation_mode": "image", "code_guidance_scale": 3.0}
    for wrong in (guided, {"cache_implementation": "static"}, {"inputs_embeds": torch.zeros(len(ids), 3, 16)}):
        with pytest.raises(ValueError, match=f"{list(wrong)[-1]}.* cannot go with virtual tokens"):
            model.generate(input_ids=ids, **wrong)
    config = copy.deepcopy(model.generation_config)
    config.cache_implementation = "static"
    with pytest.raises(ValueError, match="cannot go with virtual tokens"):
        model.generate(input_ids=ids, generation_config=config, generation_mode="text")
    guided["code_guidance_scale"] = 1.0  # none
    assert model.generate(input_ids=ids, **guided).shape[1] > ids.shape[1] + 32


def test_lora_goes_with_guidance():
    """peft replaces the same method for LoRA, which has no virtual tokens."""
    model = adapted(visual_model("opt"), peft.LoraConfig(**TASK))
    ids = text_prompt()["input_ids"]
    plain, guided = (
        model.generate(input_ids=ids, generation_mode="image", code_guidance_scale=s) for s in (1.0, 30.0)
    )
    assert plain.shape == guided.shape and not torch.equal(plain, guided)


def test_a_placeholder_without_a_row_is_named():
    model = whole_model("llama")
    model.config.text_config.image_token_id = model.config.vocab_size  # as SEED-LLaMA's
    inputs = image_prompt(model.config.text_config)
    whole = get_peft_model(model, PROMPTS["prompt"]())
    with pytest.raises(ValueError, match="no row among"):
        whole(**inputs)
    whole.generate(**inputs, max_new_tokens=2)  # its codes are filled in first


@pytest.mark.parametrize(("name", "kind"), [("opt", "ia3"), ("llama", "lora"), ("qwen3", "all-linear")])
@torch.no_grad()
def test_adapters_are_saved_and_merged(name, kind, tmp_path):
    plain, whole = whole_model(name), adapted(whole_model(name), LAYERS[kind]())
    inputs = image_prompt(plain.config.text_config)
    expected = whole(**inputs).logits
    assert not torch.allclose(plain(**inputs).logits, expected, atol=1e-2)
    assert not torch.equal(whole.generate(**inputs, max_new_tokens=8), plain.generate(**inputs, max_new_tokens=8))
    whole.save_pretrained(tmp_path)
    assert torch.equal(PeftModel.from_pretrained(whole_model(name), tmp_path)(**inputs).logits, expected)
    merged = whole.merge_and_unload()
    assert type(merged) is type(plain) and merged.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(merged(**inputs).logits, expected, atol=1e-4, rtol=1e-4)


KEPT_APART = {
    "adalora": LAYERS["adalora"],  # its ranks are not saved
    "shira": lambda: peft.ShiraConfig(r=2, **TASK),  # its places are saved, but are no weights
    "randlora": lambda: peft.RandLoraConfig(r=4, **TASK),  # the other three save once what all layers share
    "vblora": lambda: peft.VBLoRAConfig(r=2, num_vectors=5, vector_length=8, **TASK),
    "tinylora": lambda: peft.TinyLoraConfig(**TASK),
}


@pytest.mark.parametrize("kind", KEPT_APART)
@torch.no_grad()
def test_an_adapter_comes_back_whatever_its_method_saves(kind, tmp_path):
    """They were "not the weights of this adapter", because names in the file are not those of the model's weights."""
    whole = adapted(whole_model("llama"), KEPT_APART[kind]())
    inputs = image_prompt(whole.config.text_config)
    expected = whole(**inputs).logits
    assert not torch.allclose(whole_model("llama")(**inputs).logits, expected, atol=1e-3)
    whole.save_pretrained(tmp_path)
    loaded = [PeftModel.from_pretrained(whole_model("llama"), tmp_path)]
    if kind not in ("vblora", "tinylora"):  # transformers refuses what layers share
        loaded.append(whole_model("llama"))
        loaded[1].load_adapter(tmp_path)
    for model in loaded:
        torch.testing.assert_close(model.eval()(**inputs).logits, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["adalora", "vblora"])
def test_an_adapter_with_a_layer_left_out_is_refused(kind, tmp_path):
    whole = adapted(whole_model("llama"), KEPT_APART[kind]())
    whole.save_pretrained(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if "layers.1" in name)
    save_file({key: value for key, value in weights.items() if key != name}, file)
    layer = name.removeprefix("base_model.model.").split("_proj")[0]
    with pytest.raises(ValueError, match=rf"Missing \(1\): {layer}"):
        PeftModel.from_pretrained(whole_model("llama"), tmp_path)


@families
def test_tokens_are_trained_without_naming_a_layer(name):
    """It ended in "'TrainableTokensModel' object has no attribute 'model'"."""
    config = visual_model(name).config
    tokens = [5, config.boi_token_id]
    for model in (visual_model(name), whole_model(name)):
        rows = model.get_input_embeddings().weight.detach().clone()
        tuned = adapted(model, peft.TrainableTokensConfig(token_indices=tokens, **TASK))
        assert sum(value.numel() for value in tuned.parameters() if value.requires_grad) == 2 * rows.shape[1]
        found = tuned.merge_and_unload().get_input_embeddings().weight
        changed = (found != rows).any(dim=1).nonzero().flatten().tolist()
        assert changed == tokens


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_mixed_adapters_work_and_merge(name):
    whole = adapted(whole_model(name), peft.LoraConfig(), mixed=True)
    whole.add_adapter("second", peft.LoHaConfig(init_weights=False))
    layers = {f"language_model.{layer}" for layer in adapted_layers(plain_model(name), LAYERS["lora"])}
    for adapter in ("lora_A", "hada_w1_a"):
        names = (key for key, _ in whole.named_parameters() if adapter in key)
        found = {key.split(f".{adapter}")[0].removeprefix("base_model.model.") for key in names}
        assert {layer.removesuffix(".base_layer") for layer in found} == layers
    inputs = image_prompt(whole.config.text_config)
    alone = whole(**inputs).logits
    whole.set_adapter(["default", "second"])
    both = whole(**inputs).logits
    assert not torch.allclose(alone, both, atol=1e-2)
    drawn = whole.generate(**inputs, generation_mode="image")
    merged = whole.merge_and_unload()
    torch.testing.assert_close(merged(**inputs).logits, both, atol=1e-4, rtol=1e-4)
    assert torch.equal(merged.generate(**inputs, generation_mode="image"), drawn)


@pytest.mark.parametrize(
    ("part", "embedding"),
    [("lm_head", "learned"), ("visual_projection", "projected"), ("visual_tokenizer.code_decoder", "learned")],
)
def test_whole_modules_are_trained_and_saved(part, embedding, tmp_path):
    # The matrices of this family are not tied; see docs/ecosystem.md for those that are.
    config = peft.LoraConfig(modules_to_save=[part], **TASK)
    whole = adapted(whole_model("llama", embedding), config)
    assert any(f"{part}.modules_to_save" in key for key, value in whole.named_parameters() if value.requires_grad)
    inputs = image_prompt(whole.config.text_config)
    expected = whole(**inputs).logits.detach()
    whole.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(whole_model("llama", embedding), tmp_path)
    assert torch.equal(loaded(**inputs).logits, expected)
    found = dict(loaded.merge_and_unload().named_parameters())
    for key, value in whole.named_parameters():
        if ".modules_to_save.default" in key:
            own = key.removeprefix("base_model.model.").replace(".modules_to_save.default", "")
            assert torch.equal(found[own], value)
