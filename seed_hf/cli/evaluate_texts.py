"""`seed-hf evaluate retrieval`: how well a model relates images and texts."""

from typing import Annotated

import typer

from . import evaluation as options
from .shared import Device, comma_separated, plain_errors
from .source import Dtype, OnError


Model = Annotated[
    str | None, typer.Option("--model", help="Folder or Hub id of a tokenizer, model or pipeline. Default: seed-tiny.")
]
NumberType = Annotated[
    Dtype | None, typer.Option("--dtype", help="Number type. Default: bfloat16 on a GPU, float32 on a CPU.")
]


def retrieval(
    data: options.Data,
    out: options.Out,
    model: Model = None,
    images: options.Images = None,
    split: options.Split = None,
    image_column: options.ImageColumn = None,
    caption_column: options.CaptionColumn = None,
    use: Annotated[str, typer.Option(metavar="NAMES", help="codes, embeddings or both.")] = "codes,embeddings",
    max_text_tokens: Annotated[int | None, typer.Option(help="Longer captions are cut. Default: 35.")] = None,
    batch_size: options.BatchSize = 64,
    limit: options.Limit = None,
    on_error: options.BadRows = OnError.raise_,
    device: Device = None,
    dtype: NumberType = None,
):
    """Find the captions of an image and the image of a caption: recall at 1, 5 and 10."""
    with plain_errors():
        rows = options.open_data(data, images, split, image_column=image_column, caption_column=caption_column)
        from seed_hf.artifacts.loading import load_text_tower
        from seed_hf.evaluation.tasks.retrieval import Retrieval

        parts = load_text_tower(model, device=device, dtype=dtype)
        task = Retrieval(*parts, use=comma_separated(use) or (), max_text_tokens=max_text_tokens)
        options.run(task, rows, out, batch_size, limit, on_error)
