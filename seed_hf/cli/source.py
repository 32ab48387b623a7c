"""What the commands that go through a source have in common: options, opening, and the line at the end."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class OnError(StrEnum):
    skip = "skip"
    raise_ = "raise"


class Dtype(StrEnum):
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="Folder of pictures with metadata.csv/.jsonl; .parquet or WebDataset .tar: file, folder, quoted "
        "glob or a URL ({000..099} stands for numbers); or the id of a dataset on the Hub.",
    ),
]
Tokenizer = Annotated[
    Path | None, typer.Option("--tokenizer", help="Folder of a saved SeedTokenizer. Default: that of seed-tiny.")
]
BatchSize = Annotated[int, typer.Option(help="Pictures encoded at once.", min=1)]
Workers = Annotated[
    int | None, typer.Option(help="Processes that decode; 0 for none. Default: one for each CPU core.", min=0)
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 ... Default: a GPU if there is one.")]
RowsPerShard = Annotated[int, typer.Option(help="Rows of the source for each file that is written.", min=1)]
BadPictures = Annotated[OnError, typer.Option(help="Bad pictures: skip and report them, or stop.")]
MinSide = Annotated[int, typer.Option(help="Leave out pictures with a shorter side under this; SEED: 180.", min=0)]
MaxAspect = Annotated[
    float | None, typer.Option(help="Leave out pictures longer than this times their shorter side; SEED: 1.82.")
]
Split = Annotated[str, typer.Option(help="Of a Hub dataset or folder.")]
ImageColumn = Annotated[str | None, typer.Option(help="Default: found by its name.")]
CaptionColumn = Annotated[str | None, typer.Option(help="json.caption is a field of json.")]
IdColumn = Annotated[str | None, typer.Option(help="Default: found by its name, or file and row.")]
Revision = Annotated[str | None, typer.Option(help="Of a Hub dataset: branch, tag or commit.")]


def tokenizer_folder(folder: Path | None) -> Path:
    """The folder of a saved SeedTokenizer, by default seed-tiny's; `ValueError` if it is none."""
    from seed_hf.artifacts.bundled import bundled

    folder = bundled("seed-tiny", "tokenizer") if folder is None else folder
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder}: no saved tokenizer (config.json) here. --tokenizer takes its folder.")
    kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    if kind != "seed_tokenizer":
        raise ValueError(f"{folder}: holds a {kind!r} model. --tokenizer takes the folder of a SeedTokenizer.")
    return folder


def open_filtered(source: str, min_side: int, max_aspect: float | None, *, captions: bool, **settings):
    """The opened source and the filters that go with it; captions that are read must not be empty."""
    from seed_hf.data.sources.filters import RowFilters
    from seed_hf.data.sources.source import open_source

    filters = RowFilters(min_side=min_side, max_aspect=max_aspect, empty_captions=not captions)
    return open_source(source, captions=captions, **settings), filters


def say_result(out: Path, manifest: dict, more: str = "") -> None:
    """One line about what a job has written and left out."""
    if not manifest["complete"]:
        typer.echo(f"{out}: this process is done, others are not yet")
        return
    rows = manifest["rows"]
    left_out = [f"{count} dropped by {name}" for name, count in sorted(manifest["dropped"].items())]
    if rows["bad"]:
        left_out.append(f"{rows['bad']} bad pictures, listed in {out / manifest['bad_images']['file']}")
    written = f"{rows['written']} of {rows['read']} rows{more}"
    typer.echo(f"{out}: {', '.join([written, *left_out])}")
