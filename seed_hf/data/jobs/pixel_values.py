"""Decoded pixels to the `pixel_values` that the image processor makes of them, on the device, and to codes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from seed_hf.data.sources.filters import RowFilters
from seed_hf.data.sources.source_row import SourceRow
from seed_hf.inference import encode_pixels
from seed_hf.modeling.finite_values_seed import NotFiniteError
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer

from .decoding import ImageDecoder


def normalisation_table(processor: SeedImageProcessor) -> torch.Tensor:
    """What the processor makes of each value of each channel: fp32 `(3, 256)`.

    Raises:
        ValueError: Some of it is NaN or infinite, because a standard deviation is 0 or a setting is no number.
    """
    values = np.broadcast_to(np.arange(256, dtype=np.uint8), (3, 1, 256))
    if processor.do_rescale:
        values = processor.rescale(values, processor.rescale_factor)
    if processor.do_normalize:
        with np.errstate(all="ignore"):
            values = processor.normalize(values, processor.image_mean, processor.image_std)
    table = torch.from_numpy(np.array(values, dtype=np.float32).reshape(3, 256))
    if not table.isfinite().all():
        raise ValueError(
            f"The image processor makes pixels that are NaN or infinite: rescale_factor {processor.rescale_factor}, "
            f"image_mean {processor.image_mean}, image_std {processor.image_std}."
        )
    return table


def normalise(pixels: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """uint8 `(batch, 3, height, width)` to the processor's `pixel_values`, bit for bit, on the pixels' device.

    Args:
        table: From `normalisation_table`, on the same device.
    """
    return torch.stack([table[channel][pixels[:, channel].int()] for channel in range(3)], dim=1)


def codes_of_rows(tokenizer: SeedTokenizer, values: torch.Tensor, rows: Sequence[SourceRow]) -> torch.Tensor:
    """The codes `(rows, num_query_tokens)` of a batch.

    Args:
        tokenizer: Encodes.
        values: `(rows, 3, height, width)`, normalised.
        rows: Where they come from.

    Raises:
        NotFiniteError: What is computed of a row is NaN or infinite; the message names the first such row.
    """
    try:
        return encode_pixels(tokenizer, values)
    except NotFiniteError as error:
        row = rows[error.rows[0]]
        raise NotFiniteError(f"{row.file}, row {row.row} (id {row.id}): {error}", error.rows) from error


def processor_settings(processor: SeedImageProcessor) -> dict:
    """What an image processor does, for a manifest."""
    size = processor.size
    return {
        "height": size["height"],
        "width": size["width"],
        "resample": int(processor.resample),
        "mean": list(processor.image_mean) if processor.do_normalize else None,
        "std": list(processor.image_std) if processor.do_normalize else None,
        "rescale_factor": processor.rescale_factor if processor.do_rescale else None,
    }


def image_decoder(tokenizer: SeedTokenizer, processor: SeedImageProcessor, filters: RowFilters) -> ImageDecoder:
    """The decoder whose pixels are those that the processor would make before normalising.

    Raises:
        ValueError: The processor's image size is not the tokenizer's, or it crops or pads.
    """
    side = tokenizer.config.vision_config.image_size
    size = dict(processor.size)
    if not processor.do_resize or size.get("height") != side or size.get("width") != side:
        raise ValueError(f"The image processor makes {size}, but the tokenizer sees {side} x {side} pixels.")
    if getattr(processor, "do_center_crop", None) or getattr(processor, "do_pad", None):
        raise ValueError("The image processor crops or pads; jobs only resize images to the model's size.")
    return ImageDecoder(side, side, int(processor.resample), filters)
