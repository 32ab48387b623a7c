"""What the visual tokenizer takes: pixel values, visual codes and the ids of texts, checked before anything is run."""

import torch

from .configuration_seed import SeedTokenizerConfig


def check_pixel_values(pixel_values: torch.Tensor | None, config: SeedTokenizerConfig) -> torch.Tensor:
    """The same pixel values.

    Args:
        pixel_values: `(batch, 3, image_size, image_size)`, normalised.
        config: Of the tokenizer.

    Raises:
        TypeError, ValueError: There are none, or of a wrong type or shape.
    """
    size = config.vision_config.image_size
    if pixel_values is None:
        raise ValueError("Give pixel_values, or the vision embeddings computed from them.")
    if pixel_values.ndim != 4 or pixel_values.shape[1:] != (3, size, size):
        raise ValueError(
            f"pixel_values must have shape (batch, 3, {size}, {size}), got {tuple(pixel_values.shape)}. "
            "SeedImageProcessor prepares images of any size."
        )
    if not pixel_values.is_floating_point():
        raise TypeError(f"pixel_values must be floating point, got {pixel_values.dtype}: normalise them first.")
    return pixel_values


def check_codes(codes: torch.Tensor, config: SeedTokenizerConfig) -> torch.Tensor:
    """The same codes as int64.

    Args:
        codes: `(batch, num_query_tokens)`, integers.
        config: Of the tokenizer.

    Raises:
        TypeError, ValueError: A wrong type, shape or range.
    """
    if not isinstance(codes, torch.Tensor) or codes.is_floating_point() or codes.dtype == torch.bool:
        given = codes.dtype if isinstance(codes, torch.Tensor) else type(codes).__name__
        raise TypeError(f"Visual codes must be an integer tensor, got {given}.")
    if codes.ndim != 2 or codes.shape[1] != config.num_query_tokens:
        raise ValueError(f"Visual codes must have shape (batch, {config.num_query_tokens}), got {tuple(codes.shape)}.")
    codes = codes.long()
    if not torch.compiler.is_compiling():
        wrong = ((codes < 0) | (codes >= config.codebook_size)).nonzero()
        if len(wrong):
            row, column = wrong[0].tolist()
            raise ValueError(
                f"Visual codes must be in [0, {config.codebook_size}): row {row}, position {column} holds "
                f"{codes[row, column].item()} ({len(wrong)} wrong in all). Language-model ids are codes plus "
                "visual_token_offset: subtract it first."
            )
    return codes


def check_caption_ids(input_ids: torch.Tensor, config: SeedTokenizerConfig) -> torch.Tensor:
    """The same ids.

    Args:
        input_ids: `(batch, length)`, of the text tower.
        config: Of the tokenizer.

    Raises:
        ValueError: A wrong shape, or longer than the text tower reads.
    """
    limit = config.qformer_config.max_position_embeddings
    if input_ids.ndim != 2 or not 0 < input_ids.shape[1] <= limit:
        raise ValueError(
            f"input_ids must have shape (batch, length) with length in 1..{limit}, got {tuple(input_ids.shape)}."
        )
    return input_ids


__all__ = ["check_codes", "check_pixel_values", "check_caption_ids"]
