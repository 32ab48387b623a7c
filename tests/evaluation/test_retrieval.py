"""Retrieval and codebook figures: counted by hand, equal to a brute-force loop, never flattering a bad model."""

import pytest
import torch
from PIL import Image

from seed_hf.codes import perplexity
from seed_hf.evaluation.captioning import evaluate_captions
from seed_hf.evaluation.codebook import codebook_use
from seed_hf.evaluation.metrics.frechet import FeatureStatistics
from seed_hf.evaluation.retrieval import caption_ranks, evaluate_retrieval, image_ranks, recalls, retrieval_recalls
from seed_hf.evaluation.sets import batches, distinct_captions, open_picture
from tiny_evaluation import pictogram_rows


def angles(*degrees: float) -> torch.Tensor:
    """Unit vectors of the plane at the given angles: the nearer the angles, the higher the cosine."""
    radians = torch.tensor(degrees).deg2rad()
    return torch.stack([radians.cos(), radians.sin()], dim=1)


def test_recalls_of_a_case_counted_by_hand():
    # Captions at 0, 40 and 90 degrees. Pictures 0 and 1 belong to caption 0, picture 2 to caption 1, picture 3 to 2.
    texts, images = angles(0, 40, 90), angles(5, 30, 80, 85)
    caption_of_image = torch.tensor([0, 0, 1, 2])
    # 5 is nearest to 0: rank 1. 30 is nearest to 40, then 0: rank 2. 80 is nearest to 90: rank 2. 85: rank 1.
    assert caption_ranks(images, texts, caption_of_image).tolist() == [1, 2, 2, 1]
    # 0 finds 5 first. 40 sees 30, 5, then its own 80: rank 3. 90 finds 85 before 80.
    assert image_ranks(images, texts, caption_of_image).tolist() == [1, 3, 1]
    result = retrieval_recalls(images, texts, caption_of_image)
    assert result.text_recalls == pytest.approx((50, 100, 100))
    assert result.image_recalls == pytest.approx((200 / 3, 100, 100))
    assert result.mean_recall == pytest.approx((50 + 200 / 3 + 400) / 6)
    assert result.to_dict()["R@m"] == result.mean_recall
    assert (result.num_images, result.num_captions) == (4, 3)


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
    result = retrieval_recalls(features, texts, caption_of_image)
    expected = brute_force_recalls(features, texts, caption_of_image)
    assert list(result.text_recalls + result.image_recalls) == pytest.approx(expected)
    assert 10 < result.mean_recall < 95  # else the case could not tell a wrong count from a right one


class WithoutFloat64(torch.Tensor):
    """As a tensor on Apple's GPU."""

    def double(self):
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64.")

    def cpu(self):
        return self.as_subclass(torch.Tensor)


def test_figures_of_what_is_on_a_gpu_without_float64():
    texts, images, owners = angles(0, 40, 90), angles(5, 30, 80, 85), torch.tensor([0, 0, 1, 2])
    there = [each.as_subclass(WithoutFloat64) for each in (images, texts)]
    assert retrieval_recalls(*there, owners) == retrieval_recalls(images, texts, owners)
    assert recalls(owners.as_subclass(WithoutFloat64)) == recalls(owners)
    assert perplexity(owners.as_subclass(WithoutFloat64)) == perplexity(owners)
    FeatureStatistics(2).add(there[0])


def test_length_of_features_does_not_matter():
    texts, images, owners = torch.randn(9, 4), torch.randn(9, 4), torch.arange(9)
    stretched = images * torch.rand(9, 1).add(0.1) * 50
    assert retrieval_recalls(images, texts, owners) == retrieval_recalls(stretched, texts, owners)


@pytest.mark.parametrize("size", [12, 1030])  # the second needs more than one chunk
def test_a_model_that_says_the_same_of_everything_finds_nothing(size):
    same = torch.nn.functional.normalize(torch.randn(1, 16), dim=-1)
    # The noise stands for what the place in a batch does to equal features.
    images = same.expand(size, -1) + 1e-8 * torch.randn(size, 16)
    result = retrieval_recalls(images, torch.randn(size, 16), torch.arange(size))
    assert result.image_recalls == (0.0, 0.0, 0.0)
    result = retrieval_recalls(torch.randn(size, 16), images, torch.arange(size))
    assert result.text_recalls == (0.0, 0.0, 0.0)


def test_ties_count_against_but_not_among_the_pictures_of_one_caption():
    texts = angles(0, 90)
    images = angles(0, 0, 90)  # the two first are the same picture
    assert image_ranks(images, texts, torch.tensor([0, 0, 1])).tolist() == [1, 1]
    assert image_ranks(images, texts, torch.tensor([0, 1, 1])).tolist() == [2, 1]


def test_chunks_do_not_change_ranks(monkeypatch):
    texts, images = torch.randn(30, 5), torch.randn(50, 5)
    owners = torch.cat([torch.arange(30), torch.randint(30, (20,))])
    whole = caption_ranks(images, texts, owners), image_ranks(images, texts, owners)
    monkeypatch.setattr("seed_hf.evaluation.retrieval._CHUNK_VALUES", 210)
    assert torch.equal(caption_ranks(images, texts, owners), whole[0])
    assert torch.equal(image_ranks(images, texts, owners), whole[1])


@pytest.mark.parametrize(
    ("images", "texts", "owners", "said"),
    [
        (torch.ones(3, 4), torch.ones(2, 5), torch.zeros(3, dtype=torch.long), "same dim"),
        (torch.ones(3, 4), torch.ones(2, 4), torch.zeros(2, dtype=torch.long), "one integer for each of the 3"),
        (torch.ones(3, 4), torch.ones(2, 4), torch.zeros(3), "one integer"),
        (torch.ones(3, 4), torch.ones(2, 4), torch.tensor([0, 1, 2]), r"in \[0, 2\)"),
        (torch.ones(3, 4), torch.ones(2, 4), torch.tensor([0, 0, 0]), "Caption 1 has no image"),
        (torch.full((3, 4), torch.nan), torch.ones(2, 4), torch.tensor([0, 1, 1]), "image_features holds NaN"),
        (torch.ones(3, 4), torch.full((2, 4), torch.inf), torch.tensor([0, 1, 1]), "text_features holds NaN"),
        (torch.ones(0, 4), torch.ones(2, 4), torch.zeros(0, dtype=torch.long), "at least one image"),
    ],
)
def test_unsound_input_is_refused(images, texts, owners, said):
    with pytest.raises(ValueError, match=said):
        retrieval_recalls(images, texts, owners)


def test_distinct_captions_and_batches():
    captions, owners = distinct_captions(["a dog", "a cat", "a dog", "a bee"])
    assert captions == ["a dog", "a cat", "a bee"]
    assert owners.tolist() == [0, 1, 0, 2]
    assert list(batches(range(5), 2)) == [[0, 1], [2, 3], [4]]


def test_images_of_rows_are_read_as_everywhere(tmp_path):
    """Upright and on white, whether `datasets` has decoded them, or holds bytes or a path."""
    clear = Image.new("RGBA", (4, 6), (255, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    stored = {"bytes": (tmp_path / "clear.png").read_bytes(), "path": None}
    for image in (clear, stored, {"bytes": None, "path": str(tmp_path / "clear.png")}):
        assert open_picture({"image": image}).getpixel((0, 0)) == (255, 255, 255)


def test_rows_without_one_caption_are_named(model_and_processor):
    model, processor = model_and_processor
    image = Image.new("RGB", (8, 8))
    for row, said in (({"text": "a"}, "has image, text. Rename"), ({"caption": ["a"]}, "and a list as its caption")):
        rows = [{"image": image, "caption": "a"}, {"image": image, **row}]
        with pytest.raises(ValueError, match=f"Row 1 needs .*{said}"):
            evaluate_retrieval(model.visual_tokenizer, processor, rows)
        with pytest.raises(ValueError, match=f"Row 1 needs .*{said}"):
            evaluate_captions(model, processor, rows)


@pytest.mark.parametrize("use_codes", [True, False])
def test_retrieval_of_a_model_is_that_of_its_features(model_and_processor, use_codes):
    model, processor = model_and_processor
    tokenizer, rows = model.visual_tokenizer, pictogram_rows(9)
    captions = ["a red apple", "a green apple", "a blue apple"]
    with torch.no_grad():
        pictures = [open_picture(row) for row in rows]
        given = {"pixel_values": processor.image_processor(pictures, return_tensors="pt")["pixel_values"]}
        if use_codes:
            given = {"codes": tokenizer.encode(given["pixel_values"])}
        images = tokenizer.get_image_features(**given).pooler_output
        texts = [
            tokenizer.get_text_features(torch.tensor([processor.tokenizer(c)["input_ids"]])).pooler_output
            for c in captions
        ]
    expected = retrieval_recalls(images, torch.cat(texts), torch.arange(3).repeat(3))
    for batch_size in (2, 64):
        assert evaluate_retrieval(tokenizer, processor, rows, use_codes, batch_size) == expected


def test_codebook_use_of_known_distributions():
    one = codebook_use(torch.full((3, 32), 5), 64)
    assert (one.used_codes, one.perplexity, one.distinct_per_image) == (1, pytest.approx(1.0), 1.0)
    every = codebook_use(torch.arange(64).view(2, 32), 64)
    assert (every.used_codes, every.usage, every.perplexity) == (64, 100.0, pytest.approx(64.0))
    assert every.distinct_per_image == 32.0
    # Shares 1/2, 1/4, 1/4: entropy 1.5 bits.
    uneven = codebook_use(torch.tensor([[7, 7, 1, 3]]), 8)
    assert uneven.distinct_per_image == 3.0
    assert uneven.usage == pytest.approx(37.5)
    assert uneven.perplexity == pytest.approx(2**1.5)


@pytest.mark.parametrize("codes", [torch.tensor([[0, 8]]), torch.tensor([[-1, 2]]), torch.zeros(0, 32).long()])
def test_codebook_use_refuses_what_are_no_codes(codes):
    with pytest.raises(ValueError, match="codes must"):
        codebook_use(codes, 8)
