"""`seed-hf cache-features`: what the frozen networks of stage II make of a source, stored once."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from . import source as source_options
from .shared import loading, plain_errors, quiet_and_where, show_messages


class StoredDtype(StrEnum):
    float16 = "float16"
    float32 = "float32"


def cache_features(
    source: source_options.Source,
    out: Annotated[Path, typer.Option("--out", help="Folder for the safetensors shards and the manifest.")],
    tokenizer: source_options.Tokenizer = None,
    text_encoder: Annotated[
        Path | None,
        typer.Option(help="Folder of the diffusion model's text encoder. Without one there are no targets."),
    ] = None,
    text_tokenizer: Annotated[Path | None, typer.Option(help="Folder of its text tokenizer.")] = None,
    image_encoder: Annotated[
        Path | None, typer.Option(help="For a tokenizer with the image target: folder of unCLIP's image encoder.")
    ] = None,
    views: Annotated[
        int, typer.Option(help="1: the pictures as they are; more: also so many random crops and flips.", min=1)
    ] = 1,
    seed: Annotated[int, typer.Option(help="Of the crops and flips, and of the choice among captions.")] = 42,
    dtype: Annotated[StoredDtype, typer.Option(help="Number type of the files.")] = StoredDtype.float16,
    compute_dtype: Annotated[
        source_options.Dtype | None,
        typer.Option(
            help="Number type to compute in, by autocast. Default: bfloat16 on a GPU, the weights' own on a CPU."
        ),
    ] = None,
    batch_size: source_options.BatchSize = 64,
    workers: source_options.Workers = None,
    device: source_options.Device = None,
    rows_per_shard: source_options.RowsPerShard = 1024,
    on_error: source_options.BadPictures = source_options.OnError.skip,
    min_side: source_options.MinSide = 0,
    max_aspect: source_options.MaxAspect = None,
    split: source_options.Split = "train",
    image_column: source_options.ImageColumn = None,
    caption_column: source_options.CaptionColumn = None,
    id_column: source_options.IdColumn = None,
    revision: source_options.Revision = None,
):
    """Store causal and target embeddings of a source for stage II, which then runs no frozen network.

    Captions are read if there is a text encoder. Killed or out of room, the same command goes on where it was. Under
    torchrun the processes share the work.
    """
    with plain_errors():
        folder = source_options.tokenizer_folder(tokenizer)
        options = {"--text-encoder": text_encoder, "--text-tokenizer": text_tokenizer}
        for option, path in {**options, "--image-encoder": image_encoder}.items():
            if path is not None and not path.is_dir():
                raise ValueError(f"{path}: no such folder. {option} takes the folder of a saved one.")
        if (text_encoder is None) != (text_tokenizer is None):
            raise ValueError("--text-encoder and --text-tokenizer come together: give both or neither.")
        captions = text_encoder is not None
        if caption_column and not captions:
            raise ValueError("--caption-column is of no use without --text-encoder, which turns captions to targets.")
        columns = {"image_column": image_column, "caption_column": caption_column, "id_column": id_column}
        opened, filters = source_options.open_filtered(
            source, min_side, max_aspect, split=split, captions=captions, revision=revision, **columns
        )
        where, _ = quiet_and_where(device)
        import torch
        from transformers import AutoModel, AutoTokenizer, CLIPVisionModelWithProjection

        from seed_hf.data.features.caching import cache_features as cache
        from seed_hf.data.jobs.pixel_values import load_image_processor
        from seed_hf.devices import number_type
        from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer

        # As `run_stage` loads them: in the number type in which they were saved.
        with loading(folder):
            model = SeedTokenizer.from_pretrained(folder).to(where)
        encoder = words = image = None
        if image_encoder is not None:
            with loading(image_encoder):
                image = CLIPVisionModelWithProjection.from_pretrained(image_encoder)
        if captions:
            with loading(text_encoder):
                encoder = AutoModel.from_pretrained(text_encoder)
            with loading(text_tokenizer):
                words = AutoTokenizer.from_pretrained(text_tokenizer)
        computed = number_type(where, compute_dtype or (model.dtype if where.type == "cpu" else None))
        show_messages()
        manifest = cache(
            opened,
            model,
            out,
            text_encoder=encoder,
            text_tokenizer=words,
            image_encoder=image,
            views=views,
            seed=seed,
            dtype=getattr(torch, dtype),
            compute_dtype=computed,
            image_processor=load_image_processor(folder, model),
            batch_size=batch_size,
            workers=workers,
            rows_per_shard=rows_per_shard,
            on_error=on_error.value,
            filters=filters,
        )
    size = f"{sum(shard['bytes'] for shard in manifest.get('shards', ())) / 1e6:.1f} MB"
    source_options.say_result(out, manifest, f" ({size})" if views == 1 else f" in {views} views ({size})")
