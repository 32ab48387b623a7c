"""`seed-hf draw` and `seed-hf reconstruct`: from a prompt, or from an image's codes, to image files."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seed_hf.devices import generator_of
from seed_hf.files import whole_file
from seed_hf.garbage import uncollected
from seed_hf.inference import STEPS

from .row_jobs import OnBad, RowsPerShard, job_options
from .shared import (
    Device,
    Pipeline,
    check_characters,
    plain_errors,
    quiet_libraries,
    say,
    show_messages,
    warn_of_unknown_words,
)
from .source import say_result


if TYPE_CHECKING:
    from PIL import Image

# Suffix of an output file -> Pillow's name of the format.
_WRITABLE = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP"}

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
    prompt: Annotated[
        str | None, typer.Argument(help="What to draw, for example: a red apple", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            help="Image file to write: .png, .jpg, .webp or .bmp. With --prompts a folder; a run is resumed.",
        ),
    ] = None,
    num_images: NumImages = 1,
    seed: Seed = 0,
    steps: Steps = STEPS,
    guidance: Guidance = None,
    candidates: Candidates = None,
    temperature: Temperature = None,
    model: Pipeline = None,
    device: Device = None,
    prompts: Annotated[
        str | None,
        typer.Option(
            help="Instead of a PROMPT: a text file with a prompt in each line, or .jsonl, .csv or .parquet with a "
            "column prompt, caption or text."
        ),
    ] = None,
    prompt_column: Annotated[str | None, typer.Option(help="Of --prompts, if it has another name.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="With --prompts: images drawn at once. Default: 16.", min=1)
    ] = None,
    rows_per_shard: RowsPerShard = None,
    on_error: OnBad = None,
):
    """Draw images from a prompt. Image i uses the seed SEED + i; several images have codes of their own each.

    With --prompts, the image of each prompt of a file; bad prompts are reported, and the rest goes on.
    """
    drawing: dict[str, Any] = {"seed": seed, "steps": steps, "candidates": candidates, "temperature": temperature}
    with plain_errors():
        options = job_options(
            prompts, "--prompts", batch_size=batch_size, rows_per_shard=rows_per_shard, on_error=on_error
        )
        if prompts is not None:
            if out is None or prompt is not None or num_images > 1:
                raise ValueError("Many prompts are --prompts FILE --out FOLDER, without a PROMPT and -n.")
            if out.is_file() or out.suffix.lower() in _WRITABLE:
                raise ValueError(
                    f"--out {out}: this is a file, or named like one. The images of --prompts go into a folder."
                )
            _draw_many(prompts, prompt_column, out, model, device, {**drawing, "guidance": guidance}, options)
            return
        if prompt is None or out is None:
            raise ValueError("Missing option: a PROMPT goes with --out FILE; many prompts are --prompts FILE.")
        if prompt_column is not None:
            raise ValueError("--prompt-column: goes with --prompts.")
        paths = _numbered(out, num_images)
        for path in paths:
            _check_output(path)
        if not prompt.strip():
            raise ValueError("The prompt is empty. Say what to draw.")
        check_characters(prompt, "prompt")
        pipe = _loaded(model, device, reads_and_writes=True)
        warn_of_unknown_words(model, "pipeline", prompt)
    sampling = {"do_sample": True, "temperature": temperature or 1.0} if temperature or num_images > 1 else {}
    for index, path in enumerate(paths):
        with plain_errors():  # for example a prompt that is too long for the model
            image = pipe(
                prompt,
                num_inference_steps=steps,
                guidance_scale=guidance,
                generator=generator_of(seed + index),
                num_candidates=candidates,
                generation_kwargs=sampling,
            ).images[0]
        with plain_errors():
            _write(image, path)
        say(path)


def _draw_many(prompts: str, column: str | None, out: Path, model, device, drawing: dict, options: dict) -> None:
    from seed_hf.data.sources.listed import FileOfTexts

    FileOfTexts(prompts, "prompt", column=column)
    pipe = _loaded(model, device, reads_and_writes=True)
    from seed_hf.data.jobs.drawing import LINES, draw_prompts, prompt_fault
    from seed_hf.data.jobs.line_shards import folder_of

    show_messages()
    manifest = draw_prompts(
        FileOfTexts(prompts, "prompt", column=column, fault=prompt_fault(pipe)),
        pipe,
        out,
        seed=drawing["seed"],
        steps=drawing["steps"],
        guidance_scale=drawing["guidance"],
        num_candidates=drawing["candidates"],
        temperature=drawing["temperature"],
        **options,
    )
    say_result(out, manifest, folder=folder_of(out / LINES))


def _loaded(model: str | None, device: str | None, *, reads_and_writes: bool = False):
    with uncollected():
        quiet_libraries()
        from seed_hf.artifacts.opening import open_pipeline

        return open_pipeline(model, reads_and_writes=reads_and_writes, device=device)


def reconstruct(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="Image file.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Image file to write: .png, .jpg, .webp or .bmp.")],
    seed: Seed = 0,
    steps: Steps = STEPS,
    guidance: Guidance = None,
    model: Pipeline = None,
    device: Device = None,
):
    """Redraw an image from its 32 codes alone."""
    with plain_errors():
        _check_output(out)
        if out.exists() and Path(image).exists() and out.samefile(image):
            raise ValueError(f"{out}: the drawing would replace the input image. Give another --out.")
        from seed_hf.images import load_image

        loaded = load_image(image)
        pipe = _loaded(model, device)
    settings: dict[str, Any] = {
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "generator": generator_of(seed),
    }
    with plain_errors():
        drawn = pipe(image=loaded, **settings).images[0]
        _write(drawn, out)
    say(out)


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
