"""What the commands over a source share: options, opening the source, and the line at the end."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .shared import say


class OnError(StrEnum):
    skip = "skip"
    raise_ = "raise"


class Dtype(StrEnum):
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


NumberType = Annotated[
    Dtype | None,
    typer.Option("--dtype", help="Number type. Default: bfloat16 on a GPU (float16 before Ampere), float32 on a CPU."),
]
Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="Folder of images with metadata.csv or .jsonl; .parquet or WebDataset .tar as file, folder, quoted glob "
        "or URL ({000..099} stands for numbers); or the Hub id of a dataset.",
    ),
]
Tokenizer = Annotated[
    str | None,
    typer.Option(
        "--tokenizer", help="Folder or Hub id of a SeedTokenizer, or of a model that has one. Default: seed-tiny's."
    ),
]
BatchSize = Annotated[int, typer.Option(help="Images encoded at once.", min=1)]
Workers = Annotated[
    int | None,
    typer.Option(help="Processes that decode; 0 for none. Default: one for each CPU core.", min=0),
]
RowsPerShard = Annotated[int, typer.Option(help="Rows of the source in each written file.", min=1)]
OnBadRows = Annotated[OnError, typer.Option(help="What to do with bad rows: skip and report them, or stop.")]
Split = Annotated[str, typer.Option(help="Split of a Hub dataset or folder; all for every image of a folder.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a Hub dataset.")]


@dataclass
class Rows:
    """Which rows of a source are used."""

    min_side: Annotated[int, typer.Option(help="Smallest shorter side of an image in pixels; SEED: 180.", min=0)] = 0
    max_aspect: Annotated[
        float | None, typer.Option(help="Largest ratio of the longer to the shorter side; SEED: 1.82.")
    ] = None
    split: Split = "train"
    image_column: Annotated[str | None, typer.Option(help="Column of the images. Default: found by its name.")] = None
    caption_column: Annotated[
        str | None,
        typer.Option(help="Column of the captions; json.caption is a field of json. Default: found by its name."),
    ] = None
    id_column: Annotated[
        str | None,
        typer.Option(help="Column of the ids; '' for file and row. Default: found by its name, else file and row."),
    ] = None

    def open(self, source: str, *, captions: bool, revision: str | None):
        """The opened source and its filters. Rows with an empty caption are left out if captions are read."""
        from seed_hf.data.sources.filters import RowFilters
        from seed_hf.data.sources.source import open_source

        which = dict(vars(self), captions=captions, revision=revision)
        sizes = {name: which.pop(name) for name in ("min_side", "max_aspect")}
        return open_source(source, **which), RowFilters(**sizes, empty_captions=not captions)


def say_result(out: Path, manifest: dict, more: str = "", folder: Path | None = None) -> None:
    """Print one line about what a job has written and left out. Its report lies in `folder`, by default in `out`."""
    if not manifest["complete"]:
        say(f"{out}: this process is done, others are still at work")
        return
    rows = manifest["rows"]
    left_out = [f"{count} dropped by {name}" for name, count in sorted(manifest["dropped"].items())]
    if rows["bad"]:
        left_out.append(f"{rows['bad']} bad rows, listed in {(folder or out) / manifest['bad_images']['file']}")
    written = f"{rows['written']} of {rows['read']} rows{more}"
    say(f"{out}: {', '.join([written, *left_out])}")
