"""The judge learns what it should and gives the right shares; reconstructions and drawings under it."""

import numpy as np
import pytest
import torch
from PIL import Image

from seed_hf.evaluation.judge import Judge, candidate_index, first_rank_share, judge_pictures, train_heads
from seed_hf.evaluation.reconstruction import codes_for_captions, compare_reconstructions, draw_codes
from tiny_diffusion import tiny_pipeline
from tiny_evaluation import colour_judge


def synthetic_pairs(noise: float, seed: int):
    """Features of 12 captions with 8 pictures each, that two linear maps of the same hidden vectors give."""
    generator = torch.Generator().manual_seed(seed)
    world = torch.Generator().manual_seed(99)
    hidden = torch.randn(12, 6, generator=world)
    to_image, to_text = torch.randn(6, 20, generator=world), torch.randn(6, 10, generator=world)
    owners = torch.arange(12).repeat(8)
    seen = hidden[owners] + noise * torch.randn(len(owners), 6, generator=generator)
    return seen @ to_image, hidden @ to_text, owners


def tiny_heads(seed: int = 3, epochs: int = 40):
    images, texts, owners = synthetic_pairs(0.2, seed=0)
    return train_heads(images, texts, owners, seed=seed, epochs=epochs, batch_size=24, dim=8, learning_rate=1e-2)


def test_heads_learn_pairs_and_judge_unseen_pictures():
    images, texts, owners = synthetic_pairs(0.2, seed=1)
    heads = tiny_heads()
    share = first_rank_share(heads.embed_images(images), heads.embed_captions(texts), owners)
    shuffled = first_rank_share(heads.embed_images(images), heads.embed_captions(texts), owners.roll(1))
    assert share > 85
    assert shuffled < 15
    assert not heads.training


def test_heads_depend_on_their_seed_alone():
    torch.manual_seed(1)
    first = tiny_heads(epochs=2)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    again, other = tiny_heads(epochs=2), tiny_heads(seed=4, epochs=2)
    assert torch.equal(torch.get_rng_state(), before)
    features = torch.randn(5, 20)
    assert torch.equal(first.embed_images(features), again.embed_images(features))
    assert not torch.allclose(first.embed_images(features), other.embed_images(features))


def test_judge_saves_and_loads(tmp_path):
    judge = Judge(tiny_heads(epochs=1), seed=3, epochs=1)
    judge.save(tmp_path / "judge.safetensors")
    loaded = Judge.load(tmp_path / "judge.safetensors")
    vectors = torch.randn(4, 10)
    assert torch.equal(loaded.heads.embed_captions(vectors), judge.heads.embed_captions(vectors))
    assert (loaded.seed, loaded.epochs, loaded.heads.settings) == (3, 1, judge.heads.settings)
    assert [path.name for path in tmp_path.iterdir()] == ["judge.safetensors"]


def test_judge_pictures_gives_the_share_of_right_ones():
    judge = colour_judge()
    red, green, blue = (Image.new("RGB", (8, 8), colour) for colour in ("#ff0000", "#00ff00", "#0000ff"))
    captions = ["a red thing", "a green thing", "a blue thing", "a red thing"]
    assert judge_pictures(judge, [red, green, blue, red], captions) == 100.0
    assert judge_pictures(judge, [red, green, blue, green], captions) == 75.0
    assert judge_pictures(judge, [red], captions[:1]) == 100.0  # the only candidate
    assert judge_pictures(judge, [green], captions[:1], candidates=captions) == 0.0
    with pytest.raises(ValueError, match="One caption for each image"):
        judge_pictures(judge, [red], captions)
    with pytest.raises(ValueError, match="not among the candidates"):
        judge_pictures(judge, [red], ["a cat"], candidates=captions)


def test_reconstructions_are_read_against_those_of_other_pictures():
    pictures = [Image.new("RGB", (8, 8), colour) for colour in ("#ff0000", "#00ff00", "#0000ff", "#ff1000")]
    captions = ["a red thing", "a green thing", "a blue thing", "a red thing"]
    judge = colour_judge()
    features = judge.references.pictures(pictures)
    same = compare_reconstructions(judge, features, [p.resize((4, 4)) for p in pictures], captions)
    assert same.similarity == pytest.approx(1.0)
    assert same.judge_similarity == pytest.approx(1.0)
    assert (same.caption_first, same.real_caption_first) == (100.0, 100.0)
    assert same.chance_similarity < 0.2
    wrong = compare_reconstructions(judge, features, pictures[1:] + pictures[:1], captions)
    assert wrong.similarity < 0.3
    assert (wrong.caption_first, wrong.real_caption_first) == (25.0, 100.0)  # only the last became red again


def test_candidate_index_keeps_order_and_drops_repetitions():
    distinct, owners = candidate_index(["b", "a"], ["a", "b", "a", "c"])
    assert distinct == ["a", "b", "c"]
    assert owners.tolist() == [1, 0]


def test_drawing_does_not_depend_on_the_batch(model_and_processor):
    model, processor = model_and_processor
    pipeline = tiny_pipeline(model, processor=processor)
    captions = ["a red apple", "a blue fire engine", "the apple"]
    best = codes_for_captions(pipeline, captions, num_candidates=3, seed=4)
    assert torch.equal(best[:2], codes_for_captions(pipeline, captions[:2], num_candidates=3, seed=4))
    codes = codes_for_captions(pipeline, captions, batch_size=2)
    assert torch.equal(codes, codes_for_captions(pipeline, captions, batch_size=1))
    assert not torch.equal(codes, best)
    assert codes.shape == (3, 32)
    two, three = (draw_codes(pipeline, codes, seed=5, batch_size=size, num_inference_steps=2) for size in (2, 3))
    for a, b in zip(two, three, strict=True):
        assert np.abs(np.asarray(a, int) - np.asarray(b, int)).max() <= 1
    other = draw_codes(pipeline, codes[:1], seed=6, num_inference_steps=2)[0]
    assert np.abs(np.asarray(other, int) - np.asarray(two[0], int)).max() > 1
