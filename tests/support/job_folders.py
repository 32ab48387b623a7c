"""Finished folders of jobs, and what may happen to their files."""

import logging
import random
import shutil
from pathlib import Path

from jobs import read
from seed_hf.data.features.caching import cache_features
from seed_hf.data.jobs.tokenizing import tokenize_images
from seed_hf.data.sources.source import ImageTextSource, open_source
from tiny import tiny_tokenizer
from tiny_sources import damaged_rows, write_folder, write_parquet, write_tar


SETTINGS = {"batch_size": 4, "rows_per_shard": 8, "workers": 0}
JOBS = {"tokenize": tokenize_images, "cache": cache_features}
FATES = ("emptied", "cut", "zeroed", "another job's", "removed")


class FinishedJob:
    """A job, its finished folder, and the finished folder of the same job with another tokenizer.

    Args:
        job: Of `JOBS`.
        kind: Of the source: "parquet", "folder" or "tar".
        place: Where everything goes.
    """

    def __init__(self, job: str, kind: str, place: Path):
        made = damaged_rows(30)[0]
        if kind == "folder":
            path = write_folder(place / "source", made)
        elif kind == "tar":
            path = write_tar(place / "a.tar", [row for row in made if row["image"]])
        else:
            path = write_parquet(place / "a.parquet", made)
        self.source: ImageTextSource = open_source(path, captions=False)
        self.tokenizer = tiny_tokenizer()
        self.job, self.folder, self.others = JOBS[job], place / "ours", place / "others"
        self.run(self.folder)
        self.run(self.others, tiny_tokenizer(seed=1))

    def run(self, out: Path, tokenizer=None) -> dict:
        return self.job(self.source, tokenizer or self.tokenizer, out, **SETTINGS)

    def files(self) -> list[str]:
        return files_of(self.folder)

    def check(self, name: str, fate: str, out: Path, caplog) -> None:
        """Something happens to a file of a copy: it is named and made again, and all is as before."""
        shutil.copytree(self.folder, out)
        before = (out / name).read_bytes()
        _meet(out / name, fate, self.others / name)
        changed = not (out / name).exists() or (out / name).read_bytes() != before
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert self.run(out)["complete"]
        assert read(out) == read(self.folder) and files_of(out) == self.files()
        assert not list(out.rglob("*.unfinished"))
        named = "made again" in caplog.text and Path(name).stem in caplog.text
        as_a_kill_leaves_it = name.endswith(".lock") or (fate == "removed" and ".job" in name)
        assert named or as_a_kill_leaves_it or not changed, (name, fate, caplog.text)


def files_of(folder: Path) -> list[str]:
    """The names of all files, relative to the folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _meet(path: Path, fate: str, other: Path) -> None:
    content = path.read_bytes()
    if fate == "removed":
        path.unlink()
    elif fate == "cut":
        path.write_bytes(content[: random.Random(path.name).randrange(len(content))] if content else b"")
    else:
        path.write_bytes({"emptied": b"", "zeroed": bytes(len(content))}.get(fate, other.read_bytes()))
