"""Features of the frozen reference models, computed once and kept in a cache folder."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from seed_hf.files import whole_file

from .reference_models import EFFICIENTNET_DIM, efficientnet_features, load_efficientnet, load_minilm, minilm_features
from .sets import batches, open_picture, read_rows


_BATCH = 32


class ReferenceFeatures:
    """EfficientNet-Lite0 features of images and MiniLM vectors of captions. Each model is loaded when first needed.

    Args:
        cache_dir: Folder that keeps the features of whole splits as `<split>.effnet.npy` (float16, in the order of the
            rows). `None` keeps nothing.
    """

    def __init__(self, cache_dir: str | Path | None = None):
        self.cache_dir = None if cache_dir is None else Path(cache_dir)

    @cached_property
    def _efficientnet(self) -> torch.nn.Module:
        return load_efficientnet()

    @cached_property
    def _minilm(self):
        return load_minilm()

    def pictures(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        """Features `(len(pictures), 1280)` of images of any size."""
        return torch.cat([efficientnet_features(self._efficientnet, batch) for batch in batches(pictures, _BATCH)])

    def captions(self, captions: Sequence[str]) -> torch.Tensor:
        """Unit vectors `(len(captions), 384)`."""
        return minilm_features(self._minilm, captions)

    def split(self, data_dir: str | Path, split: str) -> torch.Tensor:
        """Features `(rows, 1280)` of all images of a split, read from the cache folder or written to it.

        About 0.1 s an image on one CPU core: 20 minutes for the training split, once.

        Args:
            data_dir: Folder of the pictograms.
            split: `"train"`, `"validation"` ...

        Raises:
            ValueError: The cached file does not have one row of 1280 features for each image of the split.
        """
        rows = read_rows(data_dir, split)
        path = None if self.cache_dir is None else self.cache_dir / f"{split}.effnet.npy"
        if path is not None and path.is_file():
            features = torch.from_numpy(np.load(path, allow_pickle=False)).float()
            if features.shape != (len(rows), EFFICIENTNET_DIM):
                raise ValueError(
                    f"{path} holds features of shape {tuple(features.shape)}, but {split} has {len(rows)} images. "
                    "It was made from other data. Delete it or choose another cache folder."
                )
            return features
        steps = tqdm(batches(rows, _BATCH), desc=f"features of {split}", total=-(-len(rows) // _BATCH))
        features = torch.cat([self.pictures([open_picture(row) for row in batch]) for batch in steps]).half()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as temporary, temporary.open("wb") as file:
                np.save(file, features.numpy())
        return features.float()
