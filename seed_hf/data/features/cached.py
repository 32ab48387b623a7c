"""Cached features of stage II as a dataset: the folder that `cache_features` writes, or a single safetensors file."""

from __future__ import annotations

import json
import logging
import os
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from torch.utils.data import Dataset

from seed_hf.artifacts.fingerprints import causal_fingerprint
from seed_hf.data.batches.image_text import CACHED_KEYS
from seed_hf.data.jobs.pixel_values import processor_settings
from seed_hf.data.jobs.shard_folder import FORMAT, differences
from seed_hf.files import read_json, sha256_of


if TYPE_CHECKING:
    from seed_hf.modeling.image_processing_seed import SeedImageProcessor
    from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer

logger = logging.getLogger(__name__)
_DTYPES = {"F16": "float16", "F32": "float32"}  # safetensors' names
_OF_FEATURES = ("views", "dtype", "causal_embeddings", "target_embeddings")  # what a manifest says of them
_OF_SHARDS = ("file", "written", "bytes", "sha256")
_AGAIN = "Run the same `seed-hf cache-features` again: it makes what is missing."


class CachedFeatures(Dataset):
    """A folder of `cache_features` as a map-style dataset, one item for each view of each row.

    Item `row * views + view` is a mapping of `causal_embeddings` `(num_query_tokens, hidden)` and, where targets were
    cached, `target_embeddings` `(generation tokens, width)`, or `(width,)` for the image target, in the number type of
    the folder. Rows are read from mapped files on access. Every process opens the files for itself, so that loader
    processes work.

    Args:
        path: The folder.

    Raises:
        FileNotFoundError: No such folder, or a shard is missing.
        ValueError: The folder is not a complete folder of features, or a shard is cut or has other shapes than the
            manifest says; the message names it. Shapes are checked when a shard's first row is read.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self.manifest = _manifest(self.path)
        self.views: int = self.manifest["features"]["views"]
        self._shards = [shard for shard in self.manifest["shards"] if shard["written"]]
        self._ends = list(accumulate(shard["written"] for shard in self._shards))
        self.rows: int = self._ends[-1] if self._ends else 0
        for shard in self._shards:
            file = self.path / shard["file"]
            if not file.is_file():
                raise FileNotFoundError(f"{file}: this shard is missing. {_AGAIN}")
            if (size := file.stat().st_size) != shard["bytes"]:
                raise ValueError(f"{file}: {size} bytes instead of {shard['bytes']}: cut or changed. {_AGAIN}")
        self._opened: dict[int, dict] = {}
        self._process = os.getpid()

    def __len__(self) -> int:
        return self.rows * self.views

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(f"Item {index} of {len(self)} ({self.rows} rows, {self.views} views each).")
        row, view = divmod(index, self.views)
        number = bisect_right(self._ends, row)
        row -= self._ends[number] - self._shards[number]["written"]
        slices = self._slices(number)
        item = {"causal_embeddings": slices["causal_embeddings"][row, view]}
        if "target_embeddings" in slices:
            of_view = (row, view) if self._image_target else row
            item["target_embeddings"] = slices["target_embeddings"][of_view]
        return item

    def ids(self) -> list[str]:
        """The ids of all rows, in their order; read from the shards' headers."""
        found = []
        for number in range(len(self._shards)):
            file = self._file(number)
            found += [row_id for _, row_id in json.loads(file.metadata()["rows"])]
        return found

    def verify(self) -> None:
        """Read all shards and compare them with the hashes of the manifest.

        Raises:
            ValueError: A shard was changed after it was written; the message names it.
        """
        for shard in self._shards:
            if sha256_of(self.path / shard["file"]) != shard["sha256"]:
                raise ValueError(f"{self.path / shard['file']}: damaged. Remove it. {_AGAIN}")

    def check_tokenizer(self, tokenizer: SeedTokenizer, image_processor: SeedImageProcessor | None = None) -> None:
        """Raise `ValueError` unless a tokenizer, and its image processor if given, would compute these features.

        The codebook and the decoders may differ. This is an error and not a warning, because a codebook trained on
        another encoder's features is useless with this one, and nothing would show it before the end of training.

        Args:
            tokenizer: That is to be trained.
            image_processor: That is saved beside it.
        """
        if self.manifest["tokenizer"]["causal_sha256"] != causal_fingerprint(tokenizer):
            raise ValueError(
                f"{self.path}: these features are of another tokenizer: its ViT, Q-Former, queries or number type "
                "differ. Train the tokenizer that they were cached with, or cache features of this one."
            )
        if image_processor is not None:
            there = self.manifest["settings"]["image_processor"]
            if differing := differences(there, processor_settings(image_processor)):
                raise ValueError(
                    f"{self.path}: these features were made with another image processor: {'; '.join(differing)}. "
                    "Train with the one that they were cached with (model.image_processor)."
                )
        if tokenizer.config.teacher_dropout:
            raise ValueError(
                f"{self.path}: cached features are without dropout, but the tokenizer's teacher_dropout is true. Set "
                "it to false in its config.json, or train on images."
            )
        config, target = tokenizer.config, self.manifest["features"]["target_embeddings"]
        expected = [config.num_generation_tokens, config.generation_dim]
        if config.generation_target == "image":
            expected = [config.generation_dim]
        if target is not None and target != expected:
            raise ValueError(f"{self.path}: the targets are {target}, the generation embeddings {expected}.")

    @property
    def _image_target(self) -> bool:
        """Whether each view has its own target: the embedding of the image, not of the caption."""
        return self.manifest.get("image_encoder") is not None

    def __getstate__(self):
        return {**self.__dict__, "_opened": {}}

    def _slices(self, number: int) -> dict:
        if self._process != os.getpid():  # forked: open again rather than share
            self._opened, self._process = {}, os.getpid()
        if number not in self._opened:
            shard, features = self._shards[number], self.manifest["features"]
            expected = {"causal_embeddings": [shard["written"], self.views, *features["causal_embeddings"]]}
            if features["target_embeddings"] is not None:
                views = [self.views] if self._image_target else []
                expected["target_embeddings"] = [shard["written"], *views, *features["target_embeddings"]]
            file = self._file(number)
            slices = {name: file.get_slice(name) for name in file.keys()}
            found = {name: part.get_shape() for name, part in slices.items()}
            dtypes = {_DTYPES.get(part.get_dtype(), part.get_dtype()) for part in slices.values()}
            if found != expected or dtypes != {features["dtype"]}:
                raise ValueError(
                    f"{self.path / shard['file']}: holds {found} ({', '.join(sorted(dtypes))}), but the manifest says "
                    f"{expected} ({features['dtype']}). Remove the shard. {_AGAIN}"
                )
            self._opened[number] = slices
        return self._opened[number]

    def _file(self, number: int):
        path = self.path / self._shards[number]["file"]
        try:
            return safe_open(path, "pt")
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path}: cannot be read ({error}). Remove it. {_AGAIN}") from error


class FeatureFile(Dataset):
    """Rows of one safetensors file, mapped into memory: item i maps each tensor's name to its row i.

    Args:
        path: A file with some of `vision_embeddings`, `causal_embeddings` and `target_embeddings`, each `(rows, ...)`.

    Raises:
        ValueError: The file holds other tensors, or tensors of different numbers of rows.
    """

    def __init__(self, path: str | os.PathLike):
        self._file = safe_open(path, "pt")
        names = set(self._file.keys())
        if not names or not names <= set(CACHED_KEYS):
            raise ValueError(f"{path} holds {sorted(names)}; allowed are {', '.join(CACHED_KEYS)}.")
        self._slices = {name: self._file.get_slice(name) for name in names}
        lengths = {name: part.get_shape()[0] for name, part in self._slices.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"{path} holds different numbers of rows: {lengths}.")
        self._length = next(iter(lengths.values()))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {name: part[index] for name, part in self._slices.items()}


def are_features(path: str | os.PathLike) -> bool:
    """Whether this is a folder of cached features or a safetensors file, judged only by file names."""
    path = Path(path)
    return path.suffix == ".safetensors" or any(path.glob("features-*.safetensors"))


def open_features(
    path: str | os.PathLike, key: str, tokenizer: SeedTokenizer, image_processor: SeedImageProcessor
) -> CachedFeatures | FeatureFile:
    """The dataset of a folder or a file of features. A folder is checked against the tokenizer.

    Args:
        path: The folder or file.
        key: The setting that names the path, for messages.
        tokenizer: That is to be trained.
        image_processor: That is saved beside it.

    Raises:
        FileNotFoundError, ValueError: As `CachedFeatures`, its `check_tokenizer` and `FeatureFile`.
    """
    path = Path(path)
    if path.is_file():
        return FeatureFile(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{key}: {path} does not exist.")
    features = CachedFeatures(path)
    features.check_tokenizer(tokenizer, image_processor)
    if features.manifest["features"]["target_embeddings"] is None:
        logger.warning("%s has no targets: the generation loss is left out.", path)
    return features


def _manifest(path: Path) -> dict:
    file = path / "manifest.json"
    if not file.is_file():
        raise FileNotFoundError(
            f"{path}: not a folder of cached features (no manifest.json). `seed-hf cache-features` makes one."
        )
    try:
        manifest = read_json(file)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: damaged ({error}). {_AGAIN}") from error
    if "features" not in manifest or manifest.get("format") != FORMAT:
        raise ValueError(f"{path}: does not hold cached features of format {FORMAT}.")
    if manifest.get("complete") is False:
        raise ValueError(f"{path}: not complete. {_AGAIN}")
    features, shards = manifest["features"], manifest.get("shards")
    entries = shards if isinstance(shards, list) else [None]
    whole = isinstance(features, dict) and set(_OF_FEATURES) <= set(features)
    if not whole or not all(isinstance(shard, dict) and set(_OF_SHARDS) <= set(shard) for shard in entries):
        raise ValueError(f"{file}: damaged: it lacks what a folder of features has. {_AGAIN}")
    return manifest
