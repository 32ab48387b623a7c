"""`seed-hf tokenize`: from images to codes in Parquet."""

from pathlib import Path
from typing import Annotated

import typer

from seed_hf.garbage import uncollected
from seed_hf.threads import fit_threads

from . import source as source_options
from .shared import Device, plain_errors, quiet_libraries, show_messages


def tokenize(
    source: source_options.Source,
    out: Annotated[
        Path, typer.Option("--out", file_okay=False, help="Folder for the Parquet shards and the manifest.")
    ],
    *,
    tokenizer: source_options.Tokenizer = None,
    batch_size: source_options.BatchSize = 64,
    workers: source_options.Workers = None,
    device: Device = None,
    dtype: source_options.NumberType = None,
    rows_per_shard: source_options.RowsPerShard = 4096,
    on_error: source_options.OnBadRows = source_options.OnError.skip,
    rows: source_options.Rows,
    captions: Annotated[bool, typer.Option(help="Read captions, and leave out rows without one.")] = True,
    revision: source_options.Revision = None,
):
    """Encode the images of a source into Parquet with the columns id, codes and caption (captions, if they are lists).

    The same command resumes an interrupted run. Under torchrun the processes share the work.
    """
    with plain_errors():
        from seed_hf.artifacts.loading import load_tokenizer, locate

        locate(tokenizer, "tokenizer")  # a wrong name ends here, before the source is opened
        opened, filters = rows.open(source, captions=captions, revision=revision)
        from seed_hf.data.jobs.tokenizing import tokenize_images

        quiet_libraries(drawing=False)
        with uncollected():
            model, image_processor = load_tokenizer(tokenizer, device=device, dtype=dtype)
        fit_threads(model)
        show_messages()
        manifest = tokenize_images(
            opened,
            model,
            out,
            image_processor=image_processor,
            batch_size=batch_size,
            workers=workers,
            rows_per_shard=rows_per_shard,
            on_error=on_error.value,
            filters=filters,
        )
    source_options.say_result(out, manifest)
