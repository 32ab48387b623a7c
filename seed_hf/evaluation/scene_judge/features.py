"""What the judge sees: middle layers of a frozen EfficientNet-Lite0, pooled.

Trained on photographs, its last layers tell photographs apart; for drawings in a style that was never seen its middle
layers tell more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d

from seed_hf.evaluation.reference_models import load_efficientnet

from .cutouts import INK


if TYPE_CHECKING:
    from torch import nn

SIDE = 160  # pixels that images are enlarged to
BLOCKS, WIDTHS = (4, 7, 10, 14), (40, 80, 112, 192)  # that are looked at: 20, 10, 10 and 5 places along each side
COUNTING = 2  # the one of them that counts
THING_FEATURES = sum(WIDTHS) * (1 + 1 + 4)
INK_SIDE = 16  # places along each side where the ink is looked at for counting
COUNT_FEATURES = WIDTHS[COUNTING] * 16 + INK_SIDE**2
_BATCH = 32


class JudgeFeatures:
    """Pooled features of drawings.

    Args:
        trunk: An EfficientNet-Lite0; that of the extra `eval` with ImageNet weights by default.
    """

    def __init__(self, trunk: nn.Module | None = None):
        self._given = trunk

    @cached_property
    def _trunk(self) -> Any:
        trunk: Any = self._given if self._given is not None else load_efficientnet()
        return trunk.to(memory_format=torch.channels_last)

    def of_things(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        """Features of cut-outs, `(len(images), THING_FEATURES)`: means and maxima of the whole and of its quarters.

        Args:
            images: `(height, width, 3)` uint8, of any size.
        """
        return _joined((thing_features(self.maps(part)) for part in enlarged(images)), THING_FEATURES)

    def of_counts(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        """Features of whole images, `(len(images), COUNT_FEATURES)`: means over 4 x 4 places, and the ink.

        Args:
            images: `(height, width, 3)` uint8, of any size.
        """
        return _joined((count_features(self.maps(part), part) for part in enlarged(images)), COUNT_FEATURES)

    @torch.inference_mode()
    def maps(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The maps of the blocks, `(batch, width, places, places)` each.

        Args:
            images: `(batch, 3, SIDE, SIDE)` in [0, 1].
        """
        trunk, found = self._trunk, []
        pixels = (images * 255 - 127) / 128
        hidden = trunk._swish(trunk._bn0(trunk._conv_stem(pixels.contiguous(memory_format=torch.channels_last))))
        for number, block in enumerate(trunk._blocks[: BLOCKS[-1] + 1]):
            hidden = block(hidden)
            if number in BLOCKS:
                found.append(hidden)
        return found


def thing_features(maps: Sequence[torch.Tensor]) -> torch.Tensor:
    """`(batch, THING_FEATURES)`: mean and maximum of every map, and the maxima of its quarters.

    Args:
        maps: As `JudgeFeatures.maps` returns them.
    """
    pooled = []
    for places in maps:
        pooled += [places.mean((2, 3)), places.amax((2, 3)), adaptive_max_pool2d(places, 2).flatten(1)]
    return torch.cat(pooled, 1).float().cpu()


def count_features(maps: Sequence[torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """`(batch, COUNT_FEATURES)`: means over 4 x 4 places of one map, and the ink of the images.

    Args:
        maps: As `JudgeFeatures.maps` returns them.
        images: `(batch, 3, SIDE, SIDE)` in [0, 1], on white.
    """
    ink = (images.amin(1, keepdim=True) < INK / 255).float()
    places = adaptive_avg_pool2d(maps[COUNTING], 4).flatten(1).float().cpu()
    return torch.cat([places, adaptive_avg_pool2d(ink, INK_SIDE).flatten(1)], 1)


def enlarged(images: Sequence[np.ndarray]) -> Iterator[torch.Tensor]:
    """Batches `(batch, 3, SIDE, SIDE)` in [0, 1].

    Args:
        images: `(height, width, 3)` uint8, of any size.
    """
    for start in range(0, len(images), _BATCH):
        resized = [
            np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
            for image in images[start : start + _BATCH]
        ]
        yield torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).float() / 255


def _joined(parts: Iterable[torch.Tensor], width: int) -> torch.Tensor:
    return torch.cat([torch.zeros(0, width), *parts])
