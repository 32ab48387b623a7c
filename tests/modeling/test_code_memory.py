"""The code memory beside the Reverse Q-Former: off by default, zero before training, saved and trained."""

import pytest
import torch

from seed_hf import SeedTokenizer
from tiny import tiny_tokenizer


@pytest.fixture
def codes():
    return torch.randint(0, 64, (3, 32), generator=torch.Generator().manual_seed(0))


def test_a_tokenizer_of_the_paper_has_none():
    assert not any("memory" in name for name in tiny_tokenizer().state_dict())


def test_untrained_it_adds_nothing_and_trained_it_does(codes):
    model = tiny_tokenizer(generation_memory_dim=24, generation_memory_rank=8).eval()
    alone = model.generation_decoder(model.code_decoder(model.quantizer.lookup(codes)))
    assert torch.equal(model.decode(codes), alone)
    with torch.no_grad():
        model.generation_memory.projection.normal_(std=0.1)
    assert not torch.allclose(model.decode(codes), alone)


def test_save_and_load_are_bit_equal_and_a_batch_of_one_is_a_batch_of_many(codes, tmp_path):
    model = tiny_tokenizer(generation_memory_dim=24).eval()
    with torch.no_grad():
        model.generation_memory.projection.normal_(std=0.1)
    model.save_pretrained(tmp_path)
    loaded = SeedTokenizer.from_pretrained(tmp_path)
    assert torch.equal(loaded.decode(codes), model.decode(codes))
    torch.testing.assert_close(torch.cat([model.decode(row[None]) for row in codes]), model.decode(codes))


def test_stage_two_trains_it_and_stage_one_does_not():
    model = tiny_tokenizer(generation_memory_dim=24, text_tower=True)
    model.freeze_for("contrastive")
    assert not any(p.requires_grad for p in model.generation_memory.parameters())
    model.freeze_for("quantization")
    config = model.config
    pixels = torch.randn(2, 3, config.vision_config.image_size, config.vision_config.image_size)
    target = torch.randn(2, config.num_generation_tokens, config.generation_dim)
    model(pixels, target_embeddings=target, stage="quantization").loss.backward()
    assert model.generation_memory.projection.grad.abs().sum() > 0


def test_it_is_for_the_text_target():
    with pytest.raises(ValueError, match="generation_memory_dim"):
        tiny_tokenizer(generation_memory_dim=24, generation_target="image", num_generation_tokens=1)
