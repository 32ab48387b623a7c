"""`to_plain`: a plain OPT with the same logits, whose folder has no code of this package."""

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoProcessor, AutoTokenizer, OPTForCausalLM

from seed_hf.modeling.modeling_seed_text import SeedForCausalLM
from seed_hf.modeling.processing_seed import SeedProcessor, code_token
from tiny_language import CODEBOOK_SIZE, TEXT_VOCAB_SIZE, tiny_language_model, tiny_processor, tiny_seed_model


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


def untied(language_model):
    """The configuration still says "tied", as after peft has trained the output rows of a whole model."""
    head = language_model.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach() + torch.randn_like(head.weight))
    assert language_model.config.tie_word_embeddings


def test_output_rows_of_their_own_are_kept_whatever_the_configuration_says(tmp_path):
    model = tiny_language_model(tie_word_embeddings=True)
    untied(model)
    ids = torch.arange(3, 90)[None]
    with torch.no_grad():
        plain = model.to_plain()
        assert not plain.config.tie_word_embeddings and torch.equal(plain(ids).logits, model(ids).logits)
        untied_plain = tiny_language_model(tie_word_embeddings=True).to_plain()
        untied(untied_plain)
        untied_plain.save_pretrained(tmp_path)
        config = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
        sizes = {"text_vocab_size": TEXT_VOCAB_SIZE, "codebook_size": CODEBOOK_SIZE, "code_dim": 8}
        extended = SeedForCausalLM.from_language_model(tmp_path, **sizes)
        rows = slice(0, TEXT_VOCAB_SIZE)
        assert torch.equal(extended(ids).logits[..., rows], untied_plain(ids).logits[..., rows])


def test_peft_unties_a_whole_model_in_one_place():
    whole = get_peft_model(tiny_seed_model(tie_word_embeddings=True), LoraConfig(modules_to_save=["lm_head"]))
    with torch.no_grad():
        for name, weight in whole.named_parameters():
            if "modules_to_save.default" in name:
                weight.add_(torch.randn_like(weight))
    merged = whole.merge_and_unload()
    ids = torch.arange(3, 90)[None]
    assert not merged.config.tie_word_embeddings and not merged.config.text_config.tie_word_embeddings
    with torch.no_grad():
        plain = merged.language_model.to_plain()
        torch.testing.assert_close(plain(ids).logits, merged(input_ids=ids).logits, rtol=0, atol=1e-5)
