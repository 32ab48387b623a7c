"""`seed-hf export`: the models as ONNX graphs."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from .shared import Model, plain_errors, quiet_libraries, say


PROMPTS = ("a red apple", "a fire engine", "a blue hamburger", "a cat face")


def export(
    out: Annotated[Path, typer.Option("--out", file_okay=False, help="Folder for the graphs; made if missing.")],
    model: Model = None,
    part: Annotated[
        list[str] | None,
        typer.Option("--part", help="encoder, language_model or decoder; repeat for more. Default: all."),
    ] = None,
):
    """Write encoder, language model and decoder as ONNX graphs, and compare what they compute."""
    with plain_errors():
        quiet_libraries()
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it names every package that it did not find
        from seed_hf.artifacts.bundled import bundled
        from seed_hf.artifacts.loading import load_model
        from seed_hf.exporting import NAMES, check_installed, compare_onnx, export_onnx
        from seed_hf.images import load_image

        try:
            check_installed("onnx", "onnxscript", "onnxruntime")
        except ImportError as error:
            raise ValueError(str(error)) from None
        loaded, processor = load_model(model, device="cpu", dtype="float32")
        for path in export_onnx(loaded, out, part or NAMES):
            say(path)
        if part:
            say("Not compared, because that needs all parts.")
            return
        images = [load_image(path) for path in sorted(bundled("seed-tiny", "demo").glob("*.png"))]
        found = compare_onnx(out, loaded, processor, images, PROMPTS)
    say(f"encoder: {found['codes']:.1%} of the codes of {len(images)} images are equal")
    say(f"language model: {found['captions']:.1%} of their captions are equal")
    say(f"language model: {found['drawn_codes']:.1%} of the codes it writes for {len(PROMPTS)} prompts are equal")
    say(f"decoder: embeddings differ by at most {found['embeddings']:.0e} of the largest")
