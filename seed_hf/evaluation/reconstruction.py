"""What the 32 codes keep of a picture: reconstructions compared with the originals, and drawings from captions."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from PIL import Image
from tqdm.auto import tqdm

from .judge import Judge, candidate_index, first_rank_share
from .sets import batches


@dataclass(frozen=True)
class ReconstructionResult:
    """How near reconstructions are to their pictures.

    Attributes:
        similarity: Mean cosine of EfficientNet-Lite0 features between picture and reconstruction.
        judge_similarity: The same in the judge's space, which leaves out what captions never mention.
        chance_similarity, chance_judge_similarity: Both figures between a picture and the reconstruction of another
            one of the set, the floor to read them against.
        caption_first: Share of reconstructions, in percent, whose picture's caption ranks first under the judge.
        real_caption_first: The same for the pictures themselves.
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
    """Compare pictures with their reconstructions.

    Args:
        picture_features: Reference features `(pictures, 1280)` of the originals, see [`ReferenceFeatures`].
        reconstructions: PIL pictures of any size.
        captions: The caption of each picture.
        candidates: The captions to choose from; by default the distinct ones of `captions`.

    Raises:
        ValueError: The three lists differ in length or hold fewer than two pictures.
    """
    if not len(picture_features) == len(reconstructions) == len(captions) or len(captions) < 2:
        raise ValueError(
            "At least two pictures, with one reconstruction and one caption each, are needed; got "
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
    """One picture for each row of `codes`, a LongTensor `(pictures, 32)`.

    Args:
        pipeline: A [`SeedImagePipeline`].
        seed: Picture i starts from the noise of `seed + i`, whatever the batch size.
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

    Those of one caption do not depend on the other captions or on the batch size: one candidate is said greedily,
    several are sampled with the seed `seed + i` for caption i.

    Args:
        pipeline: A [`SeedImagePipeline`].
        num_candidates: See the pipeline's call; `None` for the pipeline's own.
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
    """Each row's partner: half the set away, because neighbours often share style or subject."""
    return features.roll(len(features) // 2, dims=0)
