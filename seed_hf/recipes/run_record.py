"""What a training run was begun with, kept beside its checkpoints and compared before it goes on."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from seed_hf.artifacts.fingerprints import files_fingerprint
from seed_hf.files import read_json, whole_file
from seed_hf.training.trainer import last_complete_checkpoint

from .identity import STAMP


logger = logging.getLogger(__name__)
FORMAT = 1
_ABSENT = "not set"


class RunRecord:
    """The file `.run/record.json` of an `output_dir`: what the run's weights depend on, and what it saved at its end.

    Args:
        folder: `output_dir`.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        self.path = self.folder / ".run" / "record.json"

    def begun_with(self) -> dict[str, Any] | None:
        """The identity of the run that the folder holds; `None` if there is none.

        Raises:
            ValueError: The record is damaged, or there are weights without one.
        """
        record = self._read()
        return record and record["begun_with"]

    def check(self, identity: Mapping[str, Any], args: TrainingArguments) -> str:
        """Compare a run that is about to start with what the folder holds.

        Args:
            identity: What `run_identity` gives.
            args: Of the run.

        Returns:
            "new": there is nothing to go on with. "unfinished": there is a checkpoint of the same run, or its weights
            were removed. "finished": the folder holds the whole result.

        Raises:
            ValueError: The folder holds checkpoints or weights of another run, or the run would not grow.
        """
        record = self._read()
        checkpoint = last_complete_checkpoint(self.folder)
        finished = record and record["finished"]
        if record is None or not (checkpoint or finished):
            return "new"
        if differing := list(_differences(record["begun_with"], identity)):
            raise ValueError(
                f"{self.folder} was begun with something else: {'; '.join(differing)}. Give another "
                "trainer.output_dir, or the same data, model and settings to go on."
            )
        grown = self._grown(record["length"], _length(args))
        if checkpoint and args.save_only_model and not (finished and not grown):
            raise ValueError(
                f"{checkpoint} holds no state of the optimizer (trainer.save_only_model), so the run cannot go on "
                "from it. Give another trainer.output_dir."
            )
        if finished and grown and not checkpoint:
            raise ValueError(
                f"{self.folder} holds a finished run without a checkpoint, so it cannot go on to {_words(args)}. Give "
                "another trainer.output_dir, and start there from the weights in this one."
            )
        return "finished" if finished and not grown and self._is_whole(finished) else "unfinished"

    def begin(self, identity: Mapping[str, Any], args: TrainingArguments) -> None:
        """Write down what the run is begun with.

        Args:
            identity: What `run_identity` gives.
            args: Of the run.
        """
        self._write({"format": FORMAT, "begun_with": identity, "length": _length(args), "finished": None})

    def finish(self, steps: int, files: list[str]) -> None:
        """Write down that the run is finished.

        Args:
            steps: Of the training.
            files: Names of the files that hold its result.
        """
        record = self._read()
        assert record is not None  # `begin` wrote it
        hashes = {name: files_fingerprint([self.folder / name]) for name in sorted(files)}
        self._write({**record, "finished": {"steps": steps, "files": hashes}})

    def _read(self) -> dict[str, Any] | None:
        if not self.path.is_file():
            if found := sorted({*self.folder.glob("checkpoint-*"), *self.folder.glob("*.safetensors")}):
                raise ValueError(
                    f"{self.folder} holds {found[0].name}, but no record of the run that wrote it. Give another "
                    "trainer.output_dir. To train weights in this folder further, name them under model: there."
                )
            return None
        record = read_json(self.path)
        if record.get("format") != FORMAT or not {"begun_with", "length", "finished"} <= set(record):
            raise ValueError(f"{self.path}: not a record of format {FORMAT}. Give another trainer.output_dir.")
        return record

    def _grown(self, before: Mapping[str, float], now: Mapping[str, float]) -> bool:
        """Whether the run is to become longer. `ValueError` if shorter, or if the lengths cannot be compared."""
        (name, old), (other, new) = next(iter(before.items())), next(iter(now.items()))
        if name != other or new < old:
            raise ValueError(
                f"{self.folder} was begun with trainer.{name}: {old:g}, now trainer.{other} is {new:g}. A run may "
                f"grow, not shrink: give at least trainer.{name}: {old:g}, or another trainer.output_dir."
            )
        return new > old

    def _is_whole(self, finished: Mapping[str, Any]) -> bool:
        """Whether all files of the result are there. `ValueError` if weights were changed after they were saved."""
        there = {name: hashed for name, hashed in finished["files"].items() if (self.folder / name).is_file()}
        for name in sorted(there):
            if name.endswith(".safetensors") and files_fingerprint([self.folder / name]) != there[name]:
                raise ValueError(
                    f"{self.folder / name} is not what the run saved: damaged, or changed since. Remove it and start "
                    "again to have it made anew, or give another trainer.output_dir."
                )
        if missing := sorted(set(finished["files"]) - set(there)):
            logger.warning("%s lacks %s of its finished run; made again.", self.folder, ", ".join(missing))
        return not missing

    def _write(self, record: Mapping[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(self.path) as temporary, open(temporary, "w", encoding="utf-8") as file:
            json.dump(record, file, indent=1)
            file.flush()
            os.fsync(file.fileno())


def _length(args: TrainingArguments) -> dict[str, float]:
    name = "max_steps" if args.max_steps > 0 else "num_train_epochs"
    return {name: getattr(args, name)}


def _words(args: TrainingArguments) -> str:
    return ", ".join(f"trainer.{name}: {value:g}" for name, value in _length(args).items())


def _hashable(value: Any) -> Any:
    return value if value is None or value == _ABSENT else ""


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name in sorted({*before, *now}):
        old, new = before.get(name, _ABSENT), now.get(name, _ABSENT)
        if old == new or name == STAMP or {_ABSENT, None} == {_hashable(old), _hashable(new)}:
            continue  # a setting that an earlier version did not have is as good as one that is not given
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _differences(old, new, f"{prefix}{name}.")
        elif name.endswith("sha256") or name == "commit":
            yield f"{prefix.removesuffix('.')} has another content"
        elif prefix == "trainer." and (old == _ABSENT or new == _ABSENT):
            continue
        else:
            yield f"{prefix}{name} was {old!r}, is {new!r}"
