"""`seed-hf tokenize`: pictures to codes, in Parquet."""

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


def tokenize(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Folder of pictures with metadata.csv/.jsonl; .parquet or WebDataset .tar: file, folder, quoted "
            "glob or a URL ({000..099} stands for numbers); or the id of a dataset on the Hub.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the Parquet shards and the manifest.")],
    tokenizer: Annotated[
        Path | None, typer.Option("--tokenizer", help="Folder of a saved SeedTokenizer. Default: that of seed-tiny.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Pictures encoded at once.", min=1)] = 64,
    workers: Annotated[
        int | None, typer.Option(help="Processes that decode; 0 for none. Default: one for each CPU core.", min=0)
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 ... Default: a GPU if there is one.")] = None,
    dtype: Annotated[Dtype | None, typer.Option(help="Default: bfloat16 on a GPU, float32 on a CPU.")] = None,
    rows_per_shard: Annotated[int, typer.Option(help="Rows of the source for each Parquet file.", min=1)] = 4096,
    on_error: Annotated[OnError, typer.Option(help="Bad pictures: skip and report them, or stop.")] = OnError.skip,
    min_side: Annotated[
        int, typer.Option(help="Leave out pictures with a shorter side under this; SEED: 180.", min=0)
    ] = 0,
    max_aspect: Annotated[
        float | None, typer.Option(help="Leave out pictures longer than this times their shorter side; SEED: 1.82.")
    ] = None,
    split: Annotated[str, typer.Option(help="Of a Hub dataset or folder.")] = "train",
    image_column: Annotated[str | None, typer.Option(help="Default: found by its name.")] = None,
    caption_column: Annotated[str | None, typer.Option(help="json.caption is a field of json.")] = None,
    id_column: Annotated[str | None, typer.Option(help="Default: found by its name, or file and row.")] = None,
    captions: Annotated[bool, typer.Option(help="Whether there are captions; rows without one are left out.")] = True,
    revision: Annotated[str | None, typer.Option(help="Of a Hub dataset: branch, tag or commit.")] = None,
):
    """Encode a source's pictures into Parquet with the columns id, caption and codes.

    Killed or out of room, the same command goes on where it was. Under torchrun the processes share the work.
    """
    import json
    import os

    from .bundle import bundled
    from .cli import _loading, _plain_errors, _quiet_and_where, _show_messages

    with _plain_errors():
        folder = bundled("seed-tiny", "tokenizer") if tokenizer is None else tokenizer
        if not (folder / "config.json").is_file():
            raise ValueError(f"{folder}: no saved tokenizer (config.json) here. --tokenizer takes its folder.")
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
        if kind != "seed_tokenizer":
            raise ValueError(f"{folder}: holds a {kind!r} model. --tokenizer takes the folder of a SeedTokenizer.")
        from .data.filters import RowFilters
        from .data.sources import open_source

        filters = RowFilters(min_side=min_side, max_aspect=max_aspect, empty_captions=not captions)
        opened = open_source(
            source,
            split=split,
            image_column=image_column,
            caption_column=caption_column,
            id_column=id_column,
            captions=captions,
            revision=revision,
        )
        if device is None and "LOCAL_RANK" in os.environ:
            import torch

            device = f"cuda:{os.environ['LOCAL_RANK']}" if torch.cuda.is_available() else "cpu"
        where, usual_dtype = _quiet_and_where(device)
        import torch

        from . import SeedTokenizer
        from .data.pixel_values import load_image_processor
        from .data.pretokenizing import tokenize_images

        with _loading(folder):
            model = SeedTokenizer.from_pretrained(folder, dtype=getattr(torch, dtype) if dtype else usual_dtype)
        _show_messages()
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
    if not manifest["complete"]:
        typer.echo(f"{out}: this process is done, others are not yet")
        return
    rows = manifest["rows"]
    left_out = [f"{count} dropped by {name}" for name, count in sorted(manifest["dropped"].items())]
    if rows["bad"]:
        left_out.append(f"{rows['bad']} bad pictures, listed in {out / manifest['bad_images']['file']}")
    written = f"{rows['written']} of {rows['read']} rows"
    typer.echo(f"{out}: {', '.join([written, *left_out])}")
