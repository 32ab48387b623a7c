"""`seed-hf cache-features`: the outputs of the frozen networks of stage II on a source, stored once."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from . import source as source_options
from .shared import Device, plain_errors, quiet_libraries, show_messages


class StoredDtype(StrEnum):
    float16 = "float16"
    float32 = "float32"


TextEncoder = Annotated[
    str | None,
    typer.Option(
        help="Folder or Hub id of the diffusion model's text encoder. No targets are stored without an encoder."
    ),
]
TextTokenizer = Annotated[str | None, typer.Option(help="Folder or Hub id of the text encoder's tokenizer.")]
ImageEncoder = Annotated[
    str | None,
    typer.Option(help="Folder or Hub id of unCLIP's image encoder, for a tokenizer with the image target."),
]
Views = Annotated[
    int, typer.Option(help="Views of an image: itself, and N - 1 random crops and flips.", metavar="N", min=1)
]
ComputeDtype = Annotated[
    source_options.Dtype | None,
    typer.Option(
        help="Number type to compute in, by autocast. Default: bfloat16 on a GPU, that of the weights on a CPU."
    ),
]


def cache_features(
    source: source_options.Source,
    out: Annotated[
        Path, typer.Option("--out", file_okay=False, help="Folder for the safetensors shards and the manifest.")
    ],
    *,
    tokenizer: source_options.Tokenizer = None,
    text_encoder: TextEncoder = None,
    text_tokenizer: TextTokenizer = None,
    image_encoder: ImageEncoder = None,
    views: Views = 1,
    seed: Annotated[int, typer.Option(help="Random seed of crops, flips and the choice among captions.")] = 42,
    dtype: Annotated[StoredDtype, typer.Option(help="Number type of the stored embeddings.")] = StoredDtype.float16,
    compute_dtype: ComputeDtype = None,
    batch_size: source_options.BatchSize = 64,
    workers: source_options.Workers = None,
    device: Device = None,
    rows_per_shard: source_options.RowsPerShard = 1024,
    on_error: source_options.OnBadRows = source_options.OnError.skip,
    rows: source_options.Rows,
    revision: source_options.Revision = None,
):
    """Store the causal and target embeddings of a source, so that stage II runs no frozen network.

    Captions are read if there is a text encoder. The same command resumes an interrupted run. Under torchrun the
    processes share the work.
    """
    with plain_errors():
        from seed_hf.artifacts.loading import load_tokenizer, locate

        locate(tokenizer, "tokenizer")  # a wrong name ends here, before the source is opened
        if (text_encoder is None) != (text_tokenizer is None):
            raise ValueError("--text-encoder and --text-tokenizer go together: give both or neither.")
        captions = text_encoder is not None
        if rows.caption_column and not captions:
            raise ValueError("--caption-column needs --text-encoder, which turns captions into targets.")
        opened, filters = rows.open(source, captions=captions, revision=revision)
        import torch

        from seed_hf.data.features.caching import cache_features as cache
        from seed_hf.devices import number_type

        quiet_libraries()
        encoders = _encoders(text_encoder, text_tokenizer, image_encoder)
        # In the number type in which it was saved, as in training.
        model, image_processor = load_tokenizer(tokenizer, device=device, dtype="auto")
        stored = model.dtype if model.device.type == "cpu" else None
        show_messages()
        manifest = cache(
            opened,
            model,
            out,
            image_processor=image_processor,
            batch_size=batch_size,
            workers=workers,
            rows_per_shard=rows_per_shard,
            on_error=on_error.value,
            filters=filters,
            views=views,
            seed=seed,
            dtype=getattr(torch, dtype),
            compute_dtype=number_type(model.device, compute_dtype or stored),
            **encoders,
        )
    size = f"{sum(shard['bytes'] for shard in manifest.get('shards', ())) / 1e6:.1f} MB"
    source_options.say_result(out, manifest, f" ({size})" if views == 1 else f" in {views} views ({size})")


def _encoders(text_encoder: str | None, text_tokenizer: str | None, image_encoder: str | None) -> dict[str, Any]:
    """The frozen networks of the targets, under the names of the library's arguments."""
    from transformers import AutoModel, AutoTokenizer, CLIPVisionModelWithProjection

    from seed_hf.artifacts.loading import load_pretrained

    named = {
        "text_encoder": (AutoModel, text_encoder),
        "text_tokenizer": (AutoTokenizer, text_tokenizer),
        "image_encoder": (CLIPVisionModelWithProjection, image_encoder),
    }
    return {name: load_pretrained(cls, source) for name, (cls, source) in named.items() if source is not None}
