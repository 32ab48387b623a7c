"""Auto classes and pipelines of transformers and diffusers open what they open of the libraries' own models."""

import logging
import sys
from importlib.util import find_spec

import pytest
import torch
from diffusers import DiffusionPipeline
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    OPTModel,
    pipeline,
)
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

from seed_hf import SeedForConditionalGeneration, SeedImagePipeline, bundled
from seed_hf.auto import lend_name
from tiny import tiny_text_tokenizer, tiny_tokenizer
from tiny_families import FAMILIES, plain_model
from tiny_language import CODEBOOK_SIZE, picture, tiny_processor, tiny_seed_model


SIZES = {"codebook_size": CODEBOOK_SIZE, "code_dim": 8}


def extended(family: str, folder, **settings):
    plain_model(family).save_pretrained(folder)
    tiny_text_tokenizer().save_pretrained(folder)
    return FAMILIES[family][1].from_language_model(folder, **SIZES, **settings)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A whole SEED-OPT, a whole SEED-LLaMA, a visual tokenizer."""
    root = tmp_path_factory.mktemp("artifacts")
    tokenizer, processor = tiny_tokenizer(), tiny_processor()
    llama = SeedForConditionalGeneration.from_parts(tokenizer, extended("llama", root / "plain"))
    for name, model in (("opt", tiny_seed_model()), ("llama", llama)):
        model.save_pretrained(root / name)
        processor.save_pretrained(root / name)
    tokenizer.save_pretrained(root / "tokenizer")
    processor.image_processor.save_pretrained(root / "tokenizer")
    processor.tokenizer.save_pretrained(root / "tokenizer")
    picture().save(root / "a.png")
    return root


@pytest.mark.parametrize("auto", [AutoModelForImageTextToText, AutoModelForMultimodalLM, AutoModel])
def test_auto_classes_open_a_whole_model(folders, auto):
    for name in ("opt", "llama"):
        model = auto.from_pretrained(folders / name)
        assert type(model) is SeedForConditionalGeneration
        mapped = model.config.to_dict()["auto_map"]
        assert mapped[auto.__name__] == "modeling_seed.SeedForConditionalGeneration"
    assert type(auto.from_config(model.config)) is SeedForConditionalGeneration


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("visual_embedding", ["learned", "projected"])
def test_a_language_model_without_its_output_layer(tmp_path, family, visual_embedding):
    """As `AutoModel` opens the folder of an OPT as an OPTModel: hidden states, of codes too."""
    settings = {"visual_embedding": visual_embedding, "codebook": torch.randn(CODEBOOK_SIZE, 8)}
    whole = extended(family, tmp_path / "plain", **settings).eval()
    whole.save_pretrained(tmp_path / "seed")
    model = AutoModel.from_pretrained(tmp_path / "seed")
    assert type(model) is FAMILIES[family][1].family.headless and isinstance(model, type(whole.model))
    assert MODEL_MAPPING_NAMES[model.config.model_type] == type(model).__name__  # to transformers, one without a loss
    assert model.config.to_dict()["auto_map"]["AutoModel"] == f"modeling_seed_text_model.{type(model).__name__}"
    assert (tmp_path / "seed" / "modeling_seed_text_model.py").is_file()
    ids = torch.tensor([[0, 5, 9, whole.config.boi_token_id, whole.config.visual_token_offset + 3]])
    with torch.no_grad():
        states = model(ids).last_hidden_state
        torch.testing.assert_close(whole.lm_head(states), whole(ids).logits)
        given = model(inputs_embeds=model.embed_ids(ids)).last_hidden_state
    assert torch.equal(states, given)
    model.save_pretrained(tmp_path / "again")
    again = AutoModel.from_pretrained(tmp_path / "again")
    assert type(again) is type(model)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values()))
    if family == "opt":
        plain = AutoModel.from_pretrained(tmp_path / "plain")
        assert type(plain) is OPTModel, "the plain folder stays what it was"


def test_weights_that_a_language_model_lacks_are_missed_without_its_output_layer(tmp_path):
    whole = extended("llama", tmp_path / "plain")
    state = whole.state_dict()
    state.pop("model.norm.weight")
    whole.save_pretrained(tmp_path / "seed", state_dict=state)
    with pytest.raises(ValueError, match=r"Missing \(1\): norm.weight"):
        AutoModel.from_pretrained(tmp_path / "seed")


# Pipelines of transformers


@pytest.fixture
def told(caplog):
    """What transformers says: it calls classes that it does not know "not supported"."""
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    yield lambda: [record.getMessage() for record in caplog.records if "not supported" in record.getMessage()]
    logger.removeHandler(caplog.handler)


@pytest.mark.parametrize("name", ["opt", "llama", "seed-tiny"])
def test_image_text_to_text(folders, name, told):
    folder = bundled("seed-tiny", "model") if name == "seed-tiny" else folders / name
    pipe = pipeline("image-text-to-text", model=str(folder))
    assert type(pipe.model) is SeedForConditionalGeneration and told() == []
    image = str(folders / "a.png")

    def say(*args, **options):
        return pipe(*args, generate_kwargs={"max_new_tokens": 6, "do_sample": False}, **options)

    def alone(inputs) -> str:
        ids = pipe.model.generate(**inputs, max_new_tokens=6, do_sample=False)
        return pipe.processor.post_process_image_text_to_text(ids, input_ids=inputs["input_ids"])[0]

    caption, question = (
        alone(pipe.processor.caption(picture())),
        alone(pipe.processor.ask(picture(), "what is shown ?")),
    )
    (found,) = say(images=image, text="<image> a photo of", return_full_text=False)
    assert found["generated_text"] == caption
    (found,) = say(images=picture(), text="<image> a photo of")
    assert found["generated_text"] == f"<image> a photo of{caption}"
    part = {"type": "image", "url": image}
    short = [{"role": "user", "content": [part]}]
    long = [{"role": "user", "content": [part, {"type": "text", "text": "what is shown ?"}]}]
    (found,) = say(text=long)
    assert found["generated_text"][-1] == {"role": "assistant", "content": question}
    both = say(text=[short, long], batch_size=2, return_full_text=False)
    assert [row[0]["generated_text"] for row in both] == [caption, question]
    (found,) = pipe(text=long, return_tensors=True, max_new_tokens=2)
    assert found["generated_token_ids"].ndim == 1
    with pytest.raises(ValueError, match="would cut an image"):
        say(text=long, processor_kwargs={"truncation": True, "max_length": 20})
    with pytest.raises(TypeError, match="no option temperature.*belong to the model"):
        pipe(images=image, text="<image>", temperature=0.5)


def test_image_feature_extraction(folders, told):
    pipe = pipeline("image-feature-extraction", model=str(folders / "tokenizer"))
    found = pipe(str(folders / "a.png"), return_tensors=True)
    with torch.no_grad():
        expected = pipe.model(**pipe.image_processor(picture(), return_tensors="pt"))[0]
    assert torch.equal(found, expected) and told() == []


def test_feature_extraction(tmp_path, told):
    whole = extended("llama", tmp_path / "plain")
    whole.save_pretrained(tmp_path)
    tiny_processor().plain_tokenizer().save_pretrained(tmp_path)
    pipe = pipeline("feature-extraction", model=str(tmp_path))
    found = pipe("a red apple", return_tensors=True)
    with torch.no_grad():
        expected = whole.eval().model(pipe.tokenizer("a red apple", return_tensors="pt")["input_ids"])[0]
    torch.testing.assert_close(found, expected)
    said = pipeline("text-generation", model=str(tmp_path))("a red apple", max_new_tokens=2, do_sample=False)
    assert said[0]["generated_text"].startswith("a red apple") and told() == []
    assert type(AutoModelForCausalLM.from_pretrained(tmp_path)) is type(whole)


# diffusers


def test_diffusers_opens_a_bundled_pipeline():
    for options in ({}, {"trust_remote_code": True}):
        pipe = DiffusionPipeline.from_pretrained(bundled("seed-tiny"), **options)
        assert type(pipe) is SeedImagePipeline and type(pipe.seed_model) is SeedForConditionalGeneration
        saved = SeedImagePipeline.load_config(bundled("seed-tiny"))
        assert pipe.config.guidance_scale == saved["guidance_scale"] == 4.0
        assert pipe.text_encoder is None and pipe.empty_prompt is not None and pipe.processor.prompt_format == "seed"


@pytest.mark.parametrize("imported", ["before", "after"])
def test_a_name_is_lent_without_an_import(tmp_path, monkeypatch, imported):
    library, ours = f"library_{imported}", f"ours_{imported}"
    (tmp_path / f"{library}.py").write_text("own = 1\n")
    (tmp_path / f"{ours}.py").write_text("own, lent = 2, 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = list(sys.meta_path)
    if imported == "before":
        __import__(library)
    assert find_spec(library)
    for name in ("lent", "own"):
        lend_name(library, name, ours)
        assert find_spec(library)  # whoever only looks for it changes nothing
    module = __import__(library)
    assert sys.meta_path == before and ours not in sys.modules
    assert (module.lent, module.own) == (3, 1) and ours in sys.modules
    with pytest.raises(AttributeError):
        getattr(module, "gone")  # noqa: B009
