"""`seed-hf tokenize`: pictures to codes, in Parquet."""

from pathlib import Path
from typing import Annotated

import typer

from . import source as source_options
from .shared import loading, plain_errors, quiet_and_where, show_messages


def tokenize(
    source: source_options.Source,
    out: Annotated[Path, typer.Option("--out", help="Folder for the Parquet shards and the manifest.")],
    tokenizer: source_options.Tokenizer = None,
    batch_size: source_options.BatchSize = 64,
    workers: source_options.Workers = None,
    device: source_options.Device = None,
    dtype: Annotated[
        source_options.Dtype | None, typer.Option(help="Default: bfloat16 on a GPU, float32 on a CPU.")
    ] = None,
    rows_per_shard: source_options.RowsPerShard = 4096,
    on_error: source_options.BadPictures = source_options.OnError.skip,
    min_side: source_options.MinSide = 0,
    max_aspect: source_options.MaxAspect = None,
    split: source_options.Split = "train",
    image_column: source_options.ImageColumn = None,
    caption_column: source_options.CaptionColumn = None,
    id_column: source_options.IdColumn = None,
    captions: Annotated[bool, typer.Option(help="Whether there are captions; rows without one are left out.")] = True,
    revision: source_options.Revision = None,
):
    """Encode a source's pictures into Parquet with the columns id, caption and codes.

    Killed or out of room, the same command goes on where it was. Under torchrun the processes share the work.
    """
    with plain_errors():
        folder = source_options.tokenizer_folder(tokenizer)
        columns = {"image_column": image_column, "caption_column": caption_column, "id_column": id_column}
        opened, filters = source_options.open_filtered(
            source, min_side, max_aspect, split=split, captions=captions, revision=revision, **columns
        )
        where, _ = quiet_and_where(device)
        from seed_hf.data.jobs.pixel_values import load_image_processor
        from seed_hf.data.jobs.tokenizing import tokenize_images
        from seed_hf.devices import number_type
        from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer

        with loading(folder):
            model = SeedTokenizer.from_pretrained(folder, dtype=number_type(where, dtype))
        show_messages()
        manifest = tokenize_images(
            opened,
            model.to(where),
            out,
            image_processor=load_image_processor(folder, model),
            batch_size=batch_size,
            workers=workers,
            rows_per_shard=rows_per_shard,
            on_error=on_error.value,
            filters=filters,
        )
    source_options.say_result(out, manifest)
