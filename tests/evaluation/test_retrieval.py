"""Retrieval and codebook figures: counted by hand, equal to a brute-force loop, never flattering a bad model."""

import pytest
import torch

from seed_hf.codes import perplexity
from seed_hf.evaluation.metrics.codebook import codebook_use
from seed_hf.evaluation.metrics.frechet import FeatureStatistics
from seed_hf.evaluation.metrics.retrieval import owner_ranks, recalls, retrieval_recalls


def angles(*degrees: float) -> torch.Tensor:
    """Unit vectors of the plane at the given angles: the nearer the angles, the higher the cosine."""
    radians = torch.tensor(degrees).deg2rad()
    return torch.stack([radians.cos(), radians.sin()], dim=1)


def pairs(caption_of_image: torch.Tensor) -> torch.Tensor:
    return torch.stack([torch.arange(len(caption_of_image)), caption_of_image], dim=1)


def image_ranks(images, texts, caption_of_image) -> torch.Tensor:
    return owner_ranks(texts, images, pairs(caption_of_image).flip(1))


def recalls_of(result: dict, kind: str) -> list[float]:
    return [result[f"{kind}@{k}"] for k in (1, 5, 10)]


def test_recalls_of_a_case_counted_by_hand():
    # Captions at 0, 40 and 90 degrees. Pictures 0 and 1 belong to caption 0, picture 2 to caption 1, picture 3 to 2.
    texts, images = angles(0, 40, 90), angles(5, 30, 80, 85)
    caption_of_image = torch.tensor([0, 0, 1, 2])
    # 5 is nearest to 0: rank 1. 30 is nearest to 40, then 0: rank 2. 80 is nearest to 90: rank 2. 85: rank 1.
    assert owner_ranks(images, texts, pairs(caption_of_image)).tolist() == [1, 2, 2, 1]
    # 0 finds 5 first. 40 sees 30, 5, then its own 80: rank 3. 90 finds 85 before 80.
    assert image_ranks(images, texts, caption_of_image).tolist() == [1, 3, 1]
    result = retrieval_recalls(images, texts, pairs(caption_of_image))
    assert recalls_of(result, "TR") == pytest.approx([50, 100, 100])
    assert recalls_of(result, "IR") == pytest.approx([200 / 3, 100, 100])
    assert result["R@m"] == pytest.approx((50 + 200 / 3 + 400) / 6)
    assert (result["num_images"], result["num_captions"]) == (4, 3)


def brute_force_recalls(images, texts, caption_of_image):
    cosine = torch.nn.functional.cosine_similarity
    to_text, to_image = [], []
    for i, own in enumerate(caption_of_image.tolist()):
        scores = [cosine(images[i], text, dim=0).item() for text in texts]
        to_text.append(sorted(range(len(texts)), key=lambda j: -scores[j]).index(own))
    for j in range(len(texts)):
        scores = [cosine(image, texts[j], dim=0).item() for image in images]
        order = sorted(range(len(images)), key=lambda i: -scores[i])
        to_image.append(min(order.index(i) for i in range(len(images)) if caption_of_image[i] == j))
    return [
        100.0 * sum(place < k for place in places) / len(places) for places in (to_text, to_image) for k in (1, 5, 10)
    ]


def test_recalls_equal_a_brute_force_loop():
    captions, images = 17, 40
    caption_of_image = torch.cat([torch.arange(captions), torch.randint(captions, (images - captions,))])
    texts = torch.randn(captions, 6, dtype=torch.float64)
    features = texts[caption_of_image] + 1.2 * torch.randn(images, 6, dtype=torch.float64)
    result = retrieval_recalls(features, texts, pairs(caption_of_image))
    expected = brute_force_recalls(features, texts, caption_of_image)
    assert recalls_of(result, "TR") + recalls_of(result, "IR") == pytest.approx(expected)
    assert 10 < result["R@m"] < 95  # else the case could not tell a wrong count from a right one


class WithoutFloat64(torch.Tensor):
    """As a tensor on Apple's GPU."""

    def double(self):
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64.")

    def cpu(self):
        return self.as_subclass(torch.Tensor)


def test_figures_of_what_is_on_a_gpu_without_float64():
    texts, images, owners = angles(0, 40, 90), angles(5, 30, 80, 85), torch.tensor([0, 0, 1, 2])
    there = [each.as_subclass(WithoutFloat64) for each in (images, texts)]
    assert retrieval_recalls(*there, pairs(owners)) == retrieval_recalls(images, texts, pairs(owners))
    assert recalls(owners.as_subclass(WithoutFloat64)) == recalls(owners)
    assert perplexity(owners.as_subclass(WithoutFloat64)) == perplexity(owners)
    FeatureStatistics(2).add(there[0])


def test_length_of_features_does_not_matter():
    texts, images, owners = torch.randn(9, 4), torch.randn(9, 4), pairs(torch.arange(9))
    stretched = images * torch.rand(9, 1).add(0.1) * 50
    assert retrieval_recalls(images, texts, owners) == retrieval_recalls(stretched, texts, owners)


@pytest.mark.parametrize("size", [12, 1030])  # the second needs more than one chunk
def test_a_model_that_says_the_same_of_everything_finds_nothing(size):
    same = torch.nn.functional.normalize(torch.randn(1, 16), dim=-1)
    # The noise stands for what the place in a batch does to equal features.
    images = same.expand(size, -1) + 1e-8 * torch.randn(size, 16)
    result = retrieval_recalls(images, torch.randn(size, 16), pairs(torch.arange(size)))
    assert recalls_of(result, "IR") == [0.0, 0.0, 0.0]
    result = retrieval_recalls(torch.randn(size, 16), images, pairs(torch.arange(size)))
    assert recalls_of(result, "TR") == [0.0, 0.0, 0.0]


def test_ties_count_against_but_not_among_the_pictures_of_one_caption():
    texts = angles(0, 90)
    images = angles(0, 0, 90)  # the two first are the same picture
    assert image_ranks(images, texts, torch.tensor([0, 0, 1])).tolist() == [1, 1]
    assert image_ranks(images, texts, torch.tensor([0, 1, 1])).tolist() == [2, 1]


def test_chunks_do_not_change_ranks(monkeypatch):
    texts, images = torch.randn(30, 5), torch.randn(50, 5)
    owners = torch.cat([torch.arange(30), torch.randint(30, (20,))])
    whole = owner_ranks(images, texts, pairs(owners)), image_ranks(images, texts, owners)
    monkeypatch.setattr("seed_hf.evaluation.metrics.retrieval._CHUNK_VALUES", 210)
    assert torch.equal(owner_ranks(images, texts, pairs(owners)), whole[0])
    assert torch.equal(image_ranks(images, texts, owners), whole[1])


@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_features_that_are_no_numbers_are_refused(broken):
    sound, unsound = torch.ones(3, 4), torch.full((3, 4), broken)
    for features in ((sound, unsound), (unsound, sound)):
        with pytest.raises(ValueError, match="NaN or infinite: ranks would mean nothing"):
            retrieval_recalls(*features, pairs(torch.arange(3)))


def test_codebook_use_of_known_distributions():
    one = codebook_use(torch.full((3, 32), 5), 64)
    assert (one["used_codes"], one["perplexity"], one["distinct_per_image"]) == (1, pytest.approx(1.0), 1.0)
    every = codebook_use(torch.arange(64).view(2, 32), 64)
    assert (every["used_codes"], every["usage"], every["perplexity"]) == (64, 100.0, pytest.approx(64.0))
    assert every["distinct_per_image"] == 32.0
    # Shares 1/2, 1/4, 1/4: entropy 1.5 bits.
    uneven = codebook_use(torch.tensor([[7, 7, 1, 3]]), 8)
    assert uneven["distinct_per_image"] == 3.0
    assert uneven["usage"] == pytest.approx(37.5)
    assert uneven["perplexity"] == pytest.approx(2**1.5)


@pytest.mark.parametrize("codes", [torch.tensor([[0, 8]]), torch.tensor([[-1, 2]]), torch.zeros(0, 32).long()])
def test_codebook_use_refuses_what_are_no_codes(codes):
    with pytest.raises(ValueError, match="codes must"):
        codebook_use(codes, 8)
