"""How much of its codebook a tokenizer uses on a set of images."""

import torch

from seed_hf.codes import distinct, perplexity


def codebook_use(codes: torch.Tensor, codebook_size: int) -> dict[str, float]:
    """Use of a codebook.

    Args:
        codes: Integer tensor `(images, codes per image)`.
        codebook_size: Number of codes that exist.

    Returns:
        `used_codes`: number of different codes that occur. `codebook_size`. `usage`: the one of the other in percent.
        `perplexity`: exp(entropy) of the distribution of codes, 1 if only one code occurs, `codebook_size` if all are
        equally frequent. `distinct_per_image`: mean number of different codes in an image; if it is small, the codes
        of an image repeat each other. `num_images`.

    Raises:
        ValueError: No codes, or codes outside `[0, codebook_size)`.
    """
    if codes.ndim != 2 or codes.numel() == 0:
        raise ValueError(f"codes must be (images, codes per image) and not empty, got shape {tuple(codes.shape)}.")
    if codes.min() < 0 or codes.max() >= codebook_size:
        raise ValueError(f"codes must lie in [0, {codebook_size}), got {int(codes.min())} to {int(codes.max())}.")
    counts = torch.bincount(codes.flatten().cpu(), minlength=codebook_size)
    used = int((counts > 0).sum())
    return {
        "used_codes": used,
        "codebook_size": codebook_size,
        "usage": 100.0 * used / codebook_size,
        "perplexity": perplexity(counts).item(),
        "distinct_per_image": distinct(codes).float().mean().item(),
        "num_images": len(codes),
    }
