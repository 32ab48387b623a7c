"""What `see`, `ask` and `draw` share where they work through many rows: options, and the source of the rows."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from .shared import flags
from .source import OnError, say_result


_MANY = "For many rows: "
Lines = Annotated[
    Path | None,
    typer.Option("-o", "--out", help="JSON Lines file to write, for many rows. The same command resumes a run."),
]
BatchSize = Annotated[
    int | None, typer.Option(help=f"{_MANY}so many at once. Default: what memory allows.", min=1, show_default=False)
]
Workers = Annotated[
    int | None, typer.Option(help=f"{_MANY}processes that decode. Default: one for each CPU core.", min=0)
]
RowsPerShard = Annotated[
    int | None, typer.Option(help=f"{_MANY}those that are kept at once; a kill loses fewer.", min=1)
]
OnBad = Annotated[
    OnError | None,
    typer.Option("--on-error", help=f"{_MANY}skip bad rows and report them, or stop. Default: skip."),
]


def job_options(job: Path | str | None, needs: str = "--out", **options: Any) -> dict[str, Any]:
    """The options of a job that were given.

    Args:
        job: What makes the command one over many rows, such as where it writes.
        needs: What the options go with.
        options: By name.

    Raises:
        ValueError: Options of a job without one.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if given and job is None:
        raise ValueError(f"{flags(given)}: goes with {needs}, which is for many rows.")
    if "on_error" in given:
        given["on_error"] = given["on_error"].value
    return given


def images_of(names: list[str], **settings: Any):
    """The images that a person names: files, or a source as `tokenize` reads it.

    Args:
        names: Image files; or a folder, Parquet files, tars, a Hub dataset ...
        settings: Of `open_source`, for a source.

    Raises:
        FileNotFoundError, ValueError: As `open_source`; settings of a source with image files.
    """
    from seed_hf.data.sources.folder_files import is_image
    from seed_hf.data.sources.listed import NamedImages
    from seed_hf.data.sources.source import open_source

    # A file without an ending is taken for an image, as by the commands of single images.
    images = (is_image(name) or not os.path.splitext(name)[1] and os.path.isfile(name) for name in names)
    if all(images) and not any("://" in name or "*" in name for name in names):
        if settings:
            raise ValueError(
                f"{flags(settings)}: goes with a folder, Parquet files, tars or a Hub dataset, not with image files."
            )
        return NamedImages(names)
    return open_source(names[0] if len(names) == 1 else names, captions=False, **settings)


def say_lines(out: Path, manifest: dict) -> None:
    """Print one line about what a job has written into a file of JSON Lines."""
    from seed_hf.data.jobs.line_shards import folder_of

    say_result(out, manifest, folder=folder_of(out))


__all__ = ["BatchSize", "Lines", "OnBad", "RowsPerShard", "Workers", "images_of", "job_options", "say_lines"]
