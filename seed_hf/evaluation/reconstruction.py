"""What the 32 codes keep of an image: reconstructions compared with the originals, and drawings from captions."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from PIL import Image
from tqdm.auto import tqdm

from .judge import Judge, candidate_index, first_rank_share
from .sets import batches


@dataclass(frozen=True)
class ReconstructionResult:
    """How close reconstructions are to their images.

    Attributes:
        similarity: Mean cosine of EfficientNet-Lite0 features between image and reconstruction.
        judge_similarity: The same in the judge's space, which ignores what captions never mention.
        chance_similarity, chance_judge_similarity: Both figures between an image and the reconstruction of another one
            of the set: the baseline.
        caption_first: Share of reconstructions, in percent, whose image's caption ranks first under the judge.
        real_caption_first: The same for the images themselves.
        num_images: Number of images.
    """

    similarity: float
    judge_similarity: float
    chance_similarity: float
    chance_judge_similarity: float
    caption_first: float
    real_caption_first: float
    num_images: int

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def compare_reconstructions(
    judge: Judge,
    picture_features: torch.Tensor,
    reconstructions: Sequence[Image.Image],
    captions: Sequence[str],
    candidates: Sequence[str] | None = None,
) -> ReconstructionResult:
    """Compare images with their reconstructions.

    Args:
        judge: Ranks the captions and gives the features.
        picture_features: Reference features `(images, 1280)` of the originals, see [`ReferenceFeatures`].
        reconstructions: Images of any size.
        captions: The caption of each image.
        candidates: The captions to choose from; the distinct ones of `captions` by default.

    Raises:
        ValueError: The three lists differ in length or hold fewer than two images.
    """
    if not len(picture_features) == len(reconstructions) == len(captions) or len(captions) < 2:
        raise ValueError(
            "At least two images, with one reconstruction and one caption each, are needed; got "
            f"{len(picture_features)}, {len(reconstructions)} and {len(captions)}."
        )
    distinct, caption_of_image = candidate_index(captions, candidates)
    texts = judge.embed_captions(distinct)
    seen, remade = picture_features.float(), judge.references.pictures(reconstructions)
    seen_judged, remade_judged = judge.heads.embed_images(seen), judge.heads.embed_images(remade)
    return ReconstructionResult(
        similarity=_mean_cosine(seen, remade),
        judge_similarity=_mean_cosine(seen_judged, remade_judged),
        chance_similarity=_mean_cosine(seen, _others(remade)),
        chance_judge_similarity=_mean_cosine(seen_judged, _others(remade_judged)),
        caption_first=first_rank_share(remade_judged, texts, caption_of_image),
        real_caption_first=first_rank_share(seen_judged, texts, caption_of_image),
        num_images=len(captions),
    )


def draw_codes(pipeline, codes: torch.Tensor, *, seed: int = 0, batch_size: int = 64, **settings) -> list[Image.Image]:
    """One drawing for each row of codes.

    Args:
        pipeline: A [`SeedImagePipeline`].
        codes: LongTensor `(images, 32)`.
        seed: Image i starts from the noise of `seed + i`, whatever the batch size.
        batch_size: Images at a time.
        settings: Further arguments of the pipeline, such as `num_inference_steps` and `guidance_scale`.
    """
    pipeline.set_progress_bar_config(disable=True)
    pictures: list[Image.Image] = []
    for start in tqdm(range(0, len(codes), batch_size), desc="drawing", leave=False):
        part = codes[start : start + batch_size]
        generators = [torch.Generator().manual_seed(seed + start + i) for i in range(len(part))]
        pictures += pipeline(codes=part, generator=generators, output_type="pil", **settings).images
    return pictures


def codes_for_captions(
    pipeline, captions: Sequence[str], batch_size: int = 64, *, num_candidates: int | None = None, seed: int = 0
) -> torch.Tensor:
    """The codes that the pipeline draws for each caption, a LongTensor `(captions, 32)`.

    The codes of a caption do not depend on the other captions or on the batch size.

    Args:
        pipeline: A [`SeedImagePipeline`].
        captions: What to draw.
        batch_size: Captions at a time if there is one candidate.
        num_candidates: Code sequences to choose from, see the pipeline's call; `None` for the pipeline's setting. One
            candidate is decoded greedily, several are sampled.
        seed: The candidates of caption i are sampled with `seed + i`.
    """
    if num_candidates is None:
        num_candidates = pipeline.config.num_candidates
    if num_candidates > 1:
        captions = tqdm(captions, desc="codes of captions", leave=False)
        seeds = [torch.Generator().manual_seed(seed + i) for i in range(len(captions))]
        each = (pipeline.encode_prompt(c, g, num_candidates=num_candidates) for c, g in zip(captions, seeds))
        return torch.cat(list(each)).cpu()
    parts = tqdm(list(batches(captions, batch_size)), desc="codes of captions", leave=False)
    greedy = {"do_sample": False, "num_beams": 1}
    each = (pipeline.encode_prompt(part, generation_kwargs=greedy, num_candidates=1) for part in parts)
    return torch.cat(list(each)).cpu()


def _mean_cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return torch.nn.functional.cosine_similarity(a.double(), b.double()).mean().item()


def _others(features: torch.Tensor) -> torch.Tensor:
    """A partner for each row, half the set away: neighbours often share style or subject."""
    return features.roll(len(features) // 2, dims=0)
