"""`seed-hf evaluate codebook`, `retrieval`, `caption`, `vqa` and `choice`: what a model sees in images."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from . import evaluation as options
from .shared import Device, comma_separated, plain_errors
from .source import NumberType, OnError


Model = Annotated[
    str | None, typer.Option("--model", help="Folder or Hub id of a tokenizer, model or pipeline. Default: seed-tiny.")
]
SeeingModel = Annotated[
    str | None, typer.Option("--model", help="Folder or Hub id of a model or pipeline. Default: seed-tiny.")
]
NumBeams = Annotated[int | None, typer.Option(help="Default: the authors' for this model, else 1.", min=1)]
MaxNewTokens = Annotated[int | None, typer.Option(help="Default: the authors' for this model, else 32.", min=1)]
LengthPenalty = Annotated[float | None, typer.Option(help="Of beams. Default: the authors' for this model, else 1.")]


class By(StrEnum):
    loss = "loss"
    mean_loss = "mean_loss"
    letter = "letter"


def codebook(
    data: options.Data,
    out: options.Out,
    model: Model = None,
    images: options.Images = None,
    split: options.Split = None,
    image_column: options.ImageColumn = None,
    caption_column: options.CaptionColumn = None,
    batch_size: options.BatchSize = 64,
    limit: options.Limit = None,
    on_error: options.BadRows = OnError.raise_,
    device: Device = None,
    dtype: NumberType = None,
):
    """Count the codes of images: how many are used, how evenly, how many differ within an image."""
    with plain_errors():
        rows = options.open_data(data, images, split, image_column=image_column, caption_column=caption_column)
        from seed_hf.artifacts.loading import load_text_tower
        from seed_hf.evaluation.tasks.codebook import Codebook

        tokenizer, image_processor, _ = load_text_tower(model, device=device, dtype=dtype)
        options.run(Codebook(tokenizer, image_processor), rows, out, batch_size, limit, on_error)


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


def caption(
    data: options.Data,
    out: options.Out,
    model: SeeingModel = None,
    images: options.Images = None,
    split: options.Split = None,
    image_column: options.ImageColumn = None,
    caption_column: options.CaptionColumn = None,
    prompt: Annotated[str | None, typer.Option(help="Default: that of the model's format.")] = None,
    num_beams: NumBeams = None,
    max_new_tokens: MaxNewTokens = None,
    length_penalty: LengthPenalty = None,
    batch_size: options.BatchSize = 64,
    limit: options.Limit = None,
    on_error: options.BadRows = OnError.raise_,
    device: Device = None,
    dtype: NumberType = None,
):
    """Caption images: CIDEr-D, BLEU, ROUGE-L and exact match."""
    with plain_errors():
        rows = options.open_data(data, images, split, image_column=image_column, caption_column=caption_column)
        from seed_hf.artifacts.loading import load_model
        from seed_hf.evaluation.tasks.caption import Caption

        parts = load_model(model, device=device, dtype=dtype)
        task = Caption(*parts, prompt=prompt, **_given(num_beams, max_new_tokens, length_penalty))
        options.run(task, rows, out, batch_size, limit, on_error)


def vqa(
    data: options.Data,
    out: options.Out,
    model: SeeingModel = None,
    annotations: options.Annotations = None,
    images: options.Images = None,
    split: options.Split = None,
    prompt: Annotated[str | None, typer.Option(help="With {} for the question. Default: the model's.")] = None,
    num_beams: NumBeams = None,
    max_new_tokens: MaxNewTokens = None,
    length_penalty: LengthPenalty = None,
    batch_size: options.BatchSize = 64,
    limit: options.Limit = None,
    on_error: options.BadRows = OnError.raise_,
    device: Device = None,
    dtype: NumberType = None,
):
    """Answer questions about images: the soft accuracy of the VQA challenge, by type of question."""
    with plain_errors():
        rows = options.open_questions(data, images, annotations, split)
        from seed_hf.artifacts.loading import load_model
        from seed_hf.evaluation.tasks.vqa import Vqa

        parts = load_model(model, device=device, dtype=dtype)
        task = Vqa(*parts, prompt=prompt, **_given(num_beams, max_new_tokens, length_penalty))
        options.run(task, rows, out, batch_size, limit, on_error)


def choice(
    data: options.Data,
    out: options.Out,
    model: SeeingModel = None,
    images: options.Images = None,
    split: options.Split = None,
    by: Annotated[By, typer.Option(help="Lowest loss of an answer, its mean by token, or the letter said.")] = By.loss,
    prompt: Annotated[str | None, typer.Option(help="With {} for the question. Default: the model's.")] = None,
    num_beams: NumBeams = None,
    max_new_tokens: MaxNewTokens = None,
    length_penalty: LengthPenalty = None,
    batch_size: options.BatchSize = 64,
    limit: options.Limit = None,
    on_error: options.BadRows = OnError.raise_,
    device: Device = None,
    dtype: NumberType = None,
):
    """Choose among given answers: accuracy, by type of question."""
    with plain_errors():
        rows = options.open_questions(data, images, None, split)
        from seed_hf.artifacts.loading import load_model
        from seed_hf.evaluation.tasks.choice import Choice

        parts = load_model(model, device=device, dtype=dtype)
        task = Choice(*parts, by=by.value, prompt=prompt, **_given(num_beams, max_new_tokens, length_penalty))
        options.run(task, rows, out, batch_size, limit, on_error)


def _given(num_beams: int | None, max_new_tokens: int | None, length_penalty: float | None) -> dict[str, Any]:
    given = {"num_beams": num_beams, "max_new_tokens": max_new_tokens, "length_penalty": length_penalty}
    return {name: value for name, value in given.items() if value is not None}
