"""`seed-hf draw` and `seed-hf reconstruct`: from a prompt, or from an image's codes, to image files."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seed_hf.files import whole_file
from seed_hf.garbage import uncollected

from .shared import Device, Model, plain_errors, quiet_libraries, warn_of_unknown_words


if TYPE_CHECKING:
    from PIL import Image

# Suffix of an output file -> Pillow's name of the format.
_WRITABLE = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP"}

Output = Annotated[Path, typer.Option("-o", "--output", help="Image file to write: .png, .jpg, .webp or .bmp.")]
Seed = Annotated[int, typer.Option(help="Random seed: the same seed draws the same image.", min=0, max=2**63 - 65)]
Steps = Annotated[int, typer.Option(help="Number of denoising steps.", min=1, max=1000)]
Guidance = Annotated[
    float | None, typer.Option(help="Guidance scale; 1 disables guidance. Default: the pipeline's setting.", min=0)
]
NumImages = Annotated[
    int,
    typer.Option("-n", "--num-images", help="Number of images, written to NAME-1.png, NAME-2.png ...", min=1, max=64),
]
Candidates = Annotated[
    int | None,
    typer.Option(
        help="Sample N code sequences and draw the best match; 1 disables ranking. Default: the pipeline's setting.",
        metavar="N",
        min=1,
    ),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        help="Sampling temperature of the codes. Default: 1 with several images or candidates, else greedy decoding.",
        min=0.01,
    ),
]


def draw(
    prompt: Annotated[str, typer.Argument(help="What to draw, for example: a red apple")],
    output: Output,
    num_images: NumImages = 1,
    seed: Seed = 0,
    steps: Steps = 25,
    guidance: Guidance = None,
    candidates: Candidates = None,
    temperature: Temperature = None,
    model: Model = None,
    device: Device = None,
):
    """Draw images from a prompt. Image i uses the seed SEED + i; several images have codes of their own each."""
    with plain_errors():
        paths = _numbered(output, num_images)
        for path in paths:
            _check_output(path)
        if not prompt.strip():
            raise ValueError("The prompt is empty. Say what to draw.")
        with uncollected():
            from seed_hf.artifacts.loading import load_pipeline

            quiet_libraries()
            pipe = load_pipeline(model, device=device)
        if not hasattr(pipe.seed_model, "language_model"):
            raise ValueError(f"{model}: this pipeline has no language model, so it cannot draw from a prompt.")
        warn_of_unknown_words(model, "pipeline", prompt)
    sampling = {"do_sample": True, "temperature": temperature or 1.0} if temperature or num_images > 1 else {}
    for index, path in enumerate(paths):
        with plain_errors():  # for example a prompt that is too long for the model
            image = pipe(
                prompt,
                num_inference_steps=steps,
                guidance_scale=guidance,
                generator=_generator(seed + index),
                num_candidates=candidates,
                generation_kwargs=sampling,
            ).images[0]
        with plain_errors():
            _write(image, path)
        typer.echo(path)


def reconstruct(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="Image file.")],
    output: Output,
    seed: Seed = 0,
    steps: Steps = 25,
    guidance: Guidance = None,
    model: Model = None,
    device: Device = None,
):
    """Redraw an image from its 32 codes alone."""
    with plain_errors():
        _check_output(output)
        if output.exists() and Path(image).exists() and output.samefile(image):
            raise ValueError(f"{output}: the drawing would replace the input image. Give another -o.")
        from seed_hf.images import load_image

        loaded = load_image(image)
        with uncollected():
            from seed_hf.artifacts.loading import load_pipeline

            quiet_libraries()
            pipe = load_pipeline(model, device=device)
    settings: dict[str, Any] = {
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "generator": _generator(seed),
    }
    drawn = pipe(image=loaded, **settings).images[0]
    with plain_errors():
        _write(drawn, output)
    typer.echo(output)


def _generator(seed: int):
    """Always on the CPU, so that a seed draws the same image on every device."""
    import torch

    return torch.Generator("cpu").manual_seed(seed)


def _numbered(path: Path, count: int) -> list[Path]:
    return [path] if count == 1 else [path.with_name(f"{path.stem}-{i}{path.suffix}") for i in range(1, count + 1)]


def _check_output(path: Path):
    if path.suffix.lower() not in _WRITABLE:
        raise ValueError(f"{path}: not the name of an image file. Use one that ends in {', '.join(_WRITABLE)}.")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: the folder {path.parent} does not exist. Make it first.")
    if path.is_dir():
        raise ValueError(f"{path}: this is a folder. Give the name of a file.")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"{path}: no permission to write into {path.parent}.")


def _write(image: "Image.Image", path: Path):
    with whole_file(path) as temporary:
        image.save(temporary, format=_WRITABLE[path.suffix.lower()])
