"""How much of its codebook a tokenizer uses on a set of images."""

from dataclasses import asdict, dataclass

import torch

from seed_hf.codes import distinct, perplexity


@dataclass(frozen=True)
class CodebookFigures:
    """Use of a codebook by the codes of a set.

    Attributes:
        used_codes: Number of different codes that occur.
        codebook_size: Number of codes that exist.
        usage: `used_codes` of `codebook_size` in percent.
        perplexity: exp(entropy) of the distribution of codes: 1 if only one code occurs, `codebook_size` if all are
            equally frequent.
        distinct_per_image: Mean number of different codes in an image. A small number means that the codes of an image
            repeat each other.
        num_images: Number of images.
    """

    used_codes: int
    codebook_size: int
    usage: float
    perplexity: float
    distinct_per_image: float
    num_images: int

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def codebook_use(codes: torch.Tensor, codebook_size: int) -> CodebookFigures:
    """Use of a codebook.

    Args:
        codes: Integer tensor `(images, codes per image)`.
        codebook_size: Number of codes that exist.

    Raises:
        ValueError: No codes, or codes outside `[0, codebook_size)`.
    """
    if codes.ndim != 2 or codes.numel() == 0:
        raise ValueError(f"codes must be (images, codes per image) and not empty, got shape {tuple(codes.shape)}.")
    if codes.min() < 0 or codes.max() >= codebook_size:
        raise ValueError(f"codes must lie in [0, {codebook_size}), got {int(codes.min())} to {int(codes.max())}.")
    counts = torch.bincount(codes.flatten().cpu(), minlength=codebook_size)
    used = int((counts > 0).sum())
    return CodebookFigures(
        used_codes=used,
        codebook_size=codebook_size,
        usage=100.0 * used / codebook_size,
        perplexity=perplexity(counts).item(),
        distinct_per_image=distinct(codes).float().mean().item(),
        num_images=len(codes),
    )
