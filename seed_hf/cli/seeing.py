"""`seed-hf see` and `seed-hf ask`: from images to text."""

import json
from typing import Annotated

import typer

from .shared import AsJson, Device, Model, plain_errors, quiet_libraries


def see(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Image files.")],
    model: Model = None,
    device: Device = None,
    as_json: AsJson = False,
):
    """Print the visual codes and a caption of each image; with --json one object a line."""
    with plain_errors():
        from seed_hf.images import load_image

        loaded = [load_image(name) for name in images]
        from seed_hf.artifacts.loading import load_model

        quiet_libraries()
        seed_model, processor = load_model(model, device=device)
    from seed_hf.texts import generate_texts

    for name, image in zip(images, loaded):
        inputs = processor.caption([image]).to(seed_model.device)
        codes = seed_model.visual_tokenizer.encode(inputs["pixel_values"])[0].tolist()
        caption = generate_texts(seed_model, processor, inputs)[0]
        if as_json:
            typer.echo(json.dumps({"image": name, "codes": codes, "caption": caption}))
        else:
            typer.echo(f"{name}\n  caption  {caption}\n  codes    {' '.join(map(str, codes))}")


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
        from seed_hf.artifacts.loading import load_model
        from seed_hf.texts import answer

        quiet_libraries()
        seed_model, processor = load_model(model, device=device)
        said = answer(seed_model, processor, [loaded], [question])[0]
    typer.echo(json.dumps({"image": image, "question": question, "answer": said}) if as_json else said)
