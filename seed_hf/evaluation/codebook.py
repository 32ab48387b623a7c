"""How much of its codebook a tokenizer uses on a set of images."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from tqdm.auto import tqdm

from seed_hf.codes import distinct, perplexity
from seed_hf.many import codes_of

from .sets import batches, open_picture


@dataclass(frozen=True)
class CodebookUse:
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


def codebook_use(codes: torch.Tensor, codebook_size: int) -> CodebookUse:
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
    return CodebookUse(
        used_codes=used,
        codebook_size=codebook_size,
        usage=100.0 * used / codebook_size,
        perplexity=perplexity(counts).item(),
        distinct_per_image=distinct(codes).float().mean().item(),
        num_images=len(codes),
    )


@torch.no_grad()
def encode_rows(tokenizer, processor, rows: Sequence[Mapping[str, Any]], batch_size: int = 64) -> torch.Tensor:
    """Visual codes of the rows' images, a LongTensor `(len(rows), 32)` on the CPU.

    Args:
        tokenizer: A [`SeedTokenizer`].
        processor: A [`SeedProcessor`]; its image processor prepares the images.
        rows: Rows with `image`.
        batch_size: Images at a time.
    """
    codes = []
    for batch in tqdm(list(batches(rows, batch_size)), desc="codes", leave=False):
        images = [open_picture(row) for row in batch]
        codes.append(codes_of(tokenizer, processor.image_processor, images).cpu())
    return torch.cat(codes)
