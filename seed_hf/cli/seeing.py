"""`seed-hf see`, `seed-hf ask` and `seed-hf words`: from images to text, and which words a model knows."""

import json
from typing import Annotated, Any

import typer

from seed_hf.garbage import uncollected

from .shared import AsJson, Device, Model, plain_errors, quiet_libraries, warn_of_unknown_words


def see(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Image files.")],
    model: Model = None,
    device: Device = None,
    as_json: AsJson = False,
):
    """Print the visual codes and a caption of each image; with --json one object a line.

    A small model that knows how sure it can be says so when it guesses, and names its three likeliest captions.
    """
    with plain_errors():
        from seed_hf.images import load_image

        loaded = [load_image(name) for name in images]
        with uncollected():
            from seed_hf.artifacts.loading import load_model

            quiet_libraries(drawing=False)
            seed_model, processor = load_model(model, device=device)
        from seed_hf.artifacts.known_words import read_known_words

        known = read_known_words(model, "model")
    from seed_hf.texts import encode_images, generate_texts, likely_captions

    for name, image in zip(images, loaded):
        encoded = encode_images(seed_model, processor, [image])  # once, for all that is said of it
        codes = encoded[0].tolist()
        shown = generate_texts(seed_model, processor, processor.caption(codes=encoded))[0]
        said: dict[str, Any] = {"caption": shown}
        if known:
            likely = likely_captions(seed_model, processor, codes=encoded)
            said["likely"] = {one.text: round(one.probability, 3) for one in likely}
            if likely[0].probability < known.sure:
                shown = "not sure: " + ", ".join(f"{one.text} ({one.probability:.0%})" for one in likely)
        if as_json:
            typer.echo(json.dumps({"image": name, "codes": codes, **said}))
        else:
            typer.echo(f"{name}\n  caption  {shown}\n  codes    {' '.join(map(str, codes))}")


def ask(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="Image file.")],
    question: Annotated[str, typer.Argument(help="For example: what is shown?")],
    model: Model = None,
    device: Device = None,
    as_json: AsJson = False,
):
    """Answer a question about an image."""
    with plain_errors():
        if not question.strip():
            raise ValueError("The question is empty.")
        from seed_hf.images import load_image

        loaded = load_image(image)
        with uncollected():
            from seed_hf.artifacts.loading import load_model
            from seed_hf.texts import answer

            quiet_libraries(drawing=False)
            seed_model, processor = load_model(model, device=device)
        warn_of_unknown_words(model, "model", question)
        said = answer(seed_model, processor, [loaded], [question])[0]
    typer.echo(json.dumps({"image": image, "question": question, "answer": said}) if as_json else said)


def words(model: Model = None, as_json: AsJson = False):
    """Print the things and the words that a small model knows. Models that have read much have no such list."""
    with plain_errors():
        from seed_hf.artifacts.known_words import read_known_words

        known = read_known_words(model, "model")
        if known is None:
            raise ValueError(f"{model or 'seed-tiny'}: this model has no list of the words that it knows.")
    others = sorted(known.words - {word for thing in known.things for word in thing.split()})
    if as_json:
        typer.echo(json.dumps({"things": list(known.things), "other_words": others}))
    else:
        typer.echo(f"{len(known.things)} things: {', '.join(known.things)}")
        typer.echo(f"{len(others)} other words: {', '.join(others)}")
