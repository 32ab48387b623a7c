"""`seed-hf evaluate codebook`, `retrieval`, `caption`, `vqa` and `choice`: what a model sees in images."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer

from seed_hf.threads import fit_threads

from . import evaluate_options as options
from .shared import comma_separated, plain_errors


Model = Annotated[
    str | None, typer.Option("--model", help="Folder or Hub id of a tokenizer, model or pipeline. Default: seed-tiny.")
]
SeeingModel = Annotated[
    str | None, typer.Option("--model", help="Folder or Hub id of a model or pipeline. Default: seed-tiny.")
]


@dataclass
class Decoding:
    """How texts are written; what is not given is the authors' or the package's."""

    num_beams: Annotated[int | None, typer.Option(help="Default: the authors' for this model, else 1.", min=1)] = None
    max_new_tokens: Annotated[
        int | None, typer.Option(help="Default: the authors' for this model, else 32.", min=1)
    ] = None
    length_penalty: Annotated[
        float | None, typer.Option(help="Of beams. Default: the authors' for this model, else 1.")
    ] = None

    @property
    def given(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value is not None}


class By(StrEnum):
    loss = "loss"
    mean_loss = "mean_loss"
    letter = "letter"


def codebook(
    data: options.Data, out: options.Out, *, model: Model = None, which: options.Captioned, running: options.Running
):
    """Count the codes of images: how many are used, how evenly, how many differ within an image."""
    with plain_errors():
        rows = options.open_data(data, **vars(which), captions=False)
        from seed_hf.artifacts.loading import load_tokenizer
        from seed_hf.evaluation.tasks.codebook import Codebook

        tokenizer, image_processor = load_tokenizer(model, **running.place)
        fit_threads(tokenizer)
        options.run(Codebook(tokenizer, image_processor), rows, out, running)


def retrieval(
    data: options.Data,
    out: options.Out,
    *,
    model: Model = None,
    which: options.Captioned,
    use: Annotated[str, typer.Option(metavar="NAMES", help="codes, embeddings or both.")] = "codes,embeddings",
    max_text_tokens: Annotated[int | None, typer.Option(help="Longer captions are cut. Default: 35.")] = None,
    running: options.Running,
):
    """Find the captions of an image and the image of a caption: recall at 1, 5 and 10."""
    with plain_errors():
        rows = options.open_data(data, **vars(which))
        from seed_hf.artifacts.loading import load_text_tower
        from seed_hf.evaluation.tasks.retrieval import Retrieval

        parts = load_text_tower(model, **running.place)
        task = Retrieval(*parts, use=comma_separated(use) or (), max_text_tokens=max_text_tokens)
        options.run(task, rows, out, running)


def caption(
    data: options.Data,
    out: options.Out,
    *,
    model: SeeingModel = None,
    which: options.Captioned,
    prompt: Annotated[str | None, typer.Option(help="Default: that of the model's format.")] = None,
    decoding: Decoding,
    running: options.Running,
):
    """Caption images: CIDEr-D, BLEU, ROUGE-L and exact match."""
    with plain_errors():
        rows = options.open_data(data, **vars(which))
        from seed_hf.artifacts.opening import open_model
        from seed_hf.evaluation.tasks.caption import Caption

        parts = open_model(model, **running.place)
        task = Caption(*parts, prompt=prompt, **decoding.given)
        options.run(task, rows, out, running)


def vqa(
    data: options.Data,
    out: options.Out,
    *,
    model: SeeingModel = None,
    annotations: options.Annotations = None,
    images: options.Images = None,
    split: options.Split = None,
    prompt: Annotated[str | None, typer.Option(help="With {} for the question. Default: the model's.")] = None,
    decoding: Decoding,
    running: options.Running,
):
    """Answer questions about images: the soft accuracy of the VQA challenge, by type of question."""
    with plain_errors():
        rows = options.open_questions(data, images, annotations, split)
        from seed_hf.artifacts.opening import open_model
        from seed_hf.evaluation.tasks.vqa import Vqa

        parts = open_model(model, **running.place)
        task = Vqa(*parts, prompt=prompt, **decoding.given)
        options.run(task, rows, out, running)


def choice(
    data: options.Data,
    out: options.Out,
    *,
    model: SeeingModel = None,
    images: options.Images = None,
    split: options.Split = None,
    by: Annotated[By, typer.Option(help="Lowest loss of an answer, its mean by token, or the letter said.")] = By.loss,
    prompt: Annotated[str | None, typer.Option(help="With {} for the question. Default: the model's.")] = None,
    decoding: Decoding,
    running: options.Running,
):
    """Choose among given answers: accuracy, by type of question."""
    with plain_errors():
        rows = options.open_questions(data, images, None, split)
        from seed_hf.artifacts.opening import open_model
        from seed_hf.evaluation.tasks.choice import Choice

        parts = open_model(model, **running.place)
        task = Choice(*parts, by=by.value, prompt=prompt, **decoding.given)
        options.run(task, rows, out, running)
