"""`to_plain`: a plain OPT with the same logits, whose folder has no code of this package."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoProcessor, AutoTokenizer, OPTForCausalLM

from seed_hf.modeling.processing_seed import SeedProcessor, code_token
from tiny_language import CODEBOOK_SIZE, tiny_language_model, tiny_processor


@pytest.mark.parametrize("visual_embedding", ["learned", "projected"])
def test_logits_of_the_saved_folder_are_those_of_the_model(tmp_path, visual_embedding):
    model, processor = tiny_language_model(visual_embedding=visual_embedding), tiny_processor()
    model.to_plain().save_pretrained(tmp_path)
    processor.plain_tokenizer().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["OPTForCausalLM"] and config["model_type"] == "opt"
    assert "auto_map" not in config and "codebook_size" not in config and config["use_cache"]
    assert not list(tmp_path.glob("*.py"))
    served = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(served) is OPTForCausalLM
    ids = torch.arange(3, model.config.visual_token_offset + CODEBOOK_SIZE)[None].split(90, dim=1)
    with torch.no_grad():
        for part in ids:
            assert torch.equal(served(part).logits, model(part).logits)
    greedy = {"max_new_tokens": 12, "do_sample": False}
    assert torch.equal(served.generate(ids[0], **greedy), model.generate(ids[0], **greedy))


def test_codes_in_a_served_prompt_are_tokens(tmp_path):
    processor = tiny_processor()
    processor.plain_tokenizer().save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    text = f"<img>{''.join(map(code_token, range(32)))}</img> a photo of"
    ids = tokenizer(text).input_ids
    layout = processor.vocabulary
    assert ids[:2] == [tokenizer.bos_token_id, layout.boi_token_id] and ids[-1] != tokenizer.eos_token_id
    assert ids[2:34] == list(range(layout.visual_token_offset, layout.visual_token_offset + 32))
    assert tokenizer.decode(ids, skip_special_tokens=True) == text  # a server's reply keeps its codes


def test_the_folder_says_nothing_of_a_processor_that_it_does_not_hold(tmp_path):
    """A processor that was saved by this package names its code: `transformers serve` would look for it here."""
    tiny_processor().save_pretrained(tmp_path / "model")
    tiny_language_model().to_plain().save_pretrained(tmp_path / "plain")
    SeedProcessor.from_pretrained(tmp_path / "model").plain_tokenizer().save_pretrained(tmp_path / "plain")
    saved = json.loads((tmp_path / "plain" / "tokenizer_config.json").read_text())
    assert "auto_map" not in saved and "processor_class" not in saved
    assert AutoProcessor.from_pretrained(tmp_path / "plain")("a red apple").input_ids


def test_the_model_itself_is_left_alone():
    model = tiny_language_model()
    before = model.model.decoder.embed_tokens.weight.clone()
    opt = model.to_plain()
    with torch.no_grad():
        opt.model.decoder.embed_tokens.weight.zero_()
    assert torch.equal(model.model.decoder.embed_tokens.weight, before) and opt.lm_head.weight.abs().sum() == 0
    opt.generation_config.eos_token_id = 77
    assert model.generation_config.eos_token_id != 77
