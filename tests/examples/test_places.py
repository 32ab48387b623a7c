"""The recipe's code encoder: each place says something of its own, also where all embeddings say the same."""

import sys
from pathlib import Path

import pytest
import torch

from seed_hf.codes import distinct
from tiny import tiny_tokenizer


PLACES, WIDTH = 32, 160


@pytest.fixture
def places(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2] / "examples" / "seed_tiny"), *sys.path])
    import places

    monkeypatch.setattr(places, "DIRECTIONS", 24)
    return places


def alike(rows: int = 240, views: int = 2):
    """Embeddings that are a long mean of their place plus what all places have in common."""
    generator = torch.Generator().manual_seed(0)
    means = 12 * torch.linalg.qr(torch.randn(WIDTH, PLACES, generator=generator))[0].T
    basis = torch.linalg.qr(torch.randn(WIDTH, 30, generator=generator))[0]
    captions = [f"caption {i % 40}" for i in range(rows)]
    kinds = torch.randn(40, 30, generator=generator).repeat(rows // 40, 1)
    content = 2 * kinds + torch.randn(rows, 30, generator=generator)
    noise = 0.1 * torch.randn(views, rows, PLACES, WIDTH, generator=generator)
    return (means + (content @ basis.T)[None, :, None] + noise).half().numpy(), captions


def model():
    layers = {"hidden_size": WIDTH, "intermediate_size": 32, "num_attention_heads": 2}
    return tiny_tokenizer(
        qformer_config={**layers, "num_hidden_layers": 1, "vocab_size": 331, "max_position_embeddings": 32},
        reverse_qformer_config={**layers, "encoder_hidden_size": WIDTH, "num_hidden_layers": 1},
        decoder_config={**layers, "num_hidden_layers": 1},
        codebook_size=8 * PLACES,
        code_dim=PLACES,
    )


def codes_of(tokenizer, causal):
    return tokenizer.quantizer.encode(tokenizer.code_encoder(torch.from_numpy(causal).float().flatten(0, 1)))


def test_places_do_not_repeat_each_other(places):
    causal, captions = alike()
    tokenizer = model()
    places.give_places_directions(tokenizer, causal, captions)
    codes = codes_of(tokenizer, causal)
    assert (distinct(codes) == PLACES).all()
    assert torch.equal(codes // 8, torch.arange(PLACES).expand(len(codes), -1))
    assert len(codes.unique()) > 0.95 * 8 * PLACES


def test_codes_tell_captions_apart(places):
    """The picture whose codes agree most with a picture's is one of the same caption; by chance in 2 % of cases."""
    causal, captions = alike()
    tokenizer = model()
    places.give_places_directions(tokenizer, causal, captions)
    codes = codes_of(tokenizer, causal[:1])
    agreement = (codes[:, None] == codes[None]).sum(-1).fill_diagonal_(-1)
    hits = [captions[i] == captions[j] for i, j in enumerate(agreement.argmax(1).tolist())]
    assert sum(hits) / len(hits) > 0.3


def test_it_is_decided_by_the_seed(places):
    causal, captions = alike(80)
    first, second, other = model(), model(), model()
    for tokenizer, seed in ((first, 0), (second, 0), (other, 1)):
        places.give_places_directions(tokenizer, causal, captions, seed=seed)
    assert torch.equal(codes_of(first, causal), codes_of(second, causal))
    assert not torch.equal(codes_of(first, causal), codes_of(other, causal))


def test_too_many_places_are_refused(places, monkeypatch):
    causal, captions = alike(80)
    monkeypatch.setattr(places, "PER_PLACE", 5)
    with pytest.raises(ValueError, match="32 places need 192 hidden units, and there are 160"):
        places.give_places_directions(model(), causal, captions)
