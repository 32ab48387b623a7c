"""`seed-hf see`, `seed-hf ask` and `seed-hf words`: from images to text, and which words a model knows."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from seed_hf.garbage import uncollected

from .row_jobs import BatchSize, Lines, OnBad, RowsPerShard, Workers, images_of, job_options, say_lines
from .shared import (
    AsJson,
    Device,
    Model,
    check_characters,
    plain_errors,
    quiet_libraries,
    say,
    show_messages,
    warn_of_unknown_words,
)


def see(
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE...", help="Image files; with --out also any source that `tokenize` reads."),
    ],
    model: Model = None,
    device: Device = None,
    as_json: AsJson = False,
    out: Lines = None,
    batch_size: BatchSize = None,
    workers: Workers = None,
    rows_per_shard: RowsPerShard = None,
    on_error: OnBad = None,
    min_side: Annotated[
        int | None, typer.Option(help="With --out: smallest shorter side of an image in pixels.", min=0)
    ] = None,
    max_aspect: Annotated[
        float | None, typer.Option(help="With --out: largest ratio of the longer to the shorter side.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="With --out: split of a Hub dataset or folder. Default: train.")
    ] = None,
    image_column: Annotated[
        str | None, typer.Option(help="With --out: column of the images. Default: found by its name.")
    ] = None,
    id_column: Annotated[
        str | None, typer.Option(help="With --out: column of the ids. Default: found by its name.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="With --out: branch, tag or commit of a Hub dataset.")] = None,
):
    """Print the visual codes and a caption of each image; with --json one object a line.

    A small model that knows how sure it can be says so when it guesses, and names its three likeliest captions.
    With --out, codes and captions of many images go into a file; bad images are reported, and the rest goes on.
    """
    with plain_errors():
        options = job_options(
            out, batch_size=batch_size, workers=workers, rows_per_shard=rows_per_shard, on_error=on_error
        )
        sizes = job_options(out, min_side=min_side, max_aspect=max_aspect)
        columns = job_options(out, split=split, image_column=image_column, id_column=id_column, revision=revision)
        if out is not None:
            _see_many(images, out, model, device, columns, sizes, options)
            return
        from seed_hf.images import load_image

        for name in images:  # a wrong name ends here, before the model is loaded
            load_image(name)
        seed_model, processor = _loaded(model, device)
        from seed_hf.artifacts.known_words import read_known_words

        known = read_known_words(model, "model")
    from seed_hf.inference import encode_images
    from seed_hf.texts import generate_texts, likely_texts

    for name in images:  # one at a time: photographs are large
        with plain_errors():
            image = load_image(name)
        # Once, for all that is said of it.
        encoded = encode_images(seed_model.visual_tokenizer, processor.image_processor, [image])
        codes, prompt = encoded[0].tolist(), processor.caption(codes=encoded)
        shown = generate_texts(seed_model, processor, prompt)[0]
        said: dict[str, Any] = {"caption": shown}
        if known:
            likely = likely_texts(seed_model, processor, prompt)[0]
            said["likely"] = {one.text: round(one.probability, 3) for one in likely}
            shown = known.guess(likely) or shown
        if as_json:
            say(json.dumps({"image": name, "codes": codes, **said}))
        else:
            say(f"{name}\n  caption  {shown}\n  codes    {' '.join(map(str, codes))}")


def _see_many(images, out: Path, model, device, columns: dict, sizes: dict, options: dict) -> None:
    from seed_hf.artifacts.known_words import read_known_words
    from seed_hf.data.jobs.line_shards import folder_of
    from seed_hf.data.sources.filters import RowFilters

    folder_of(out)
    known = read_known_words(model, "model")
    source = images_of(images, **columns)
    seed_model, processor = _loaded(model, device)
    from seed_hf.data.jobs.describing import describe_images

    show_messages()
    options |= {"filters": RowFilters(**sizes, empty_captions=True)} if sizes else {}
    manifest = describe_images(source, seed_model, processor, out, likely=known is not None, **options)
    say_lines(out, manifest)


def ask(
    image: Annotated[str | None, typer.Argument(metavar="IMAGE", help="Image file.", show_default=False)] = None,
    question: Annotated[str | None, typer.Argument(help="For example: what is shown?", show_default=False)] = None,
    model: Model = None,
    device: Device = None,
    as_json: AsJson = False,
    questions: Annotated[
        str | None,
        typer.Option(
            help="With --out: .jsonl, .csv or .parquet with the columns question and image (or file_name, a path from "
            "its folder); or, about one IMAGE, also a text file with a question in each line."
        ),
    ] = None,
    question_column: Annotated[str | None, typer.Option(help="Of --questions. Default: question or text.")] = None,
    out: Lines = None,
    batch_size: BatchSize = None,
    workers: Workers = None,
    rows_per_shard: RowsPerShard = None,
    on_error: OnBad = None,
):
    """Answer a question about an image; with --questions and --out many, and the rest goes on where one is bad."""
    with plain_errors():
        options = job_options(
            out, batch_size=batch_size, workers=workers, rows_per_shard=rows_per_shard, on_error=on_error
        )
        if (questions is None) != (out is None) or questions is not None and question is not None:
            raise ValueError("Many questions are --questions FILE --out FILE, without a QUESTION.")
        if questions is not None and out is not None:
            _ask_many(questions, question_column, image, out, model, device, options)
            return
        if image is None or question is None:
            raise ValueError("Give an IMAGE and a QUESTION, or --questions and --out.")
        if question_column is not None:
            raise ValueError("--question-column: goes with --questions.")
        if not question.strip():
            raise ValueError("The question is empty.")
        check_characters(question, "question")
        from seed_hf.images import load_image

        loaded = load_image(image)
        seed_model, processor = _loaded(model, device)
        from seed_hf.texts import answer

        warn_of_unknown_words(model, "model", question)
        said = answer(seed_model, processor, [loaded], [question])[0]
    say(json.dumps({"image": image, "question": question, "answer": said}) if as_json else said)


def _ask_many(questions: str, column: str | None, image: str | None, out: Path, model, device, options: dict) -> None:
    from seed_hf.data.jobs.line_shards import folder_of
    from seed_hf.data.sources.listed import FileOfTexts

    folder_of(out)
    if image is not None:
        from seed_hf.images import load_image

        load_image(image)  # one that cannot be used ends here, and does not make every question a bad row
    about: dict[str, Any] = {"column": column, "image": image, "with_images": True}
    FileOfTexts(questions, "question", **about)
    seed_model, processor = _loaded(model, device)
    from seed_hf.data.jobs.describing import answer_questions, question_fault

    opened = FileOfTexts(questions, "question", **about, fault=question_fault(seed_model, processor))
    show_messages()
    say_lines(out, answer_questions(opened, seed_model, processor, out, **options))


def _loaded(model: str | None, device: str | None):
    with uncollected():
        quiet_libraries(drawing=False)
        from seed_hf.artifacts.opening import open_model

        return open_model(model, device=device)


def words(model: Model = None, as_json: AsJson = False):
    """Print the things and the words that a small model knows. Models that have read much have no such list."""
    with plain_errors():
        from seed_hf.artifacts.known_words import read_known_words

        known = read_known_words(model, "model")
        if known is None:
            raise ValueError(f"{model or 'seed-tiny'}: this model has no list of the words that it knows.")
    others = known.other_words
    if as_json:
        say(json.dumps({"things": list(known.things), "other_words": others}))
    else:
        say(f"{len(known.things)} things: {', '.join(known.things)}")
        say(f"{len(others)} other words: {', '.join(others)}")
