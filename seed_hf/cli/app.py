"""The command line `seed-hf`: see, ask, draw, reconstruct, tokenize, cache-features, train, convert, card, push, data,
demo.

Thin on purpose: a command parses, calls the library and prints. Nothing heavy is imported before a command runs, so
that `--help` answers at once. What a user got wrong ends in one line on stderr and exit status 2.
"""

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seed_hf.files import whole_file

from .cache_features import cache_features
from .publish import card, push
from .shared import DEBUG, loading, plain_errors, quiet_and_where, show_messages
from .tokenize import tokenize


if TYPE_CHECKING:
    from PIL import Image


app = typer.Typer(
    name="seed-hf",
    help="One language model that sees and draws: pictures become 32 discrete codes, and codes become pictures.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Build training data.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.command()(tokenize)
app.command()(cache_features)
app.command()(card)
app.command()(push)

# Suffix of an output file -> Pillow's name of the format.
_WRITABLE = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP"}


class Stage(StrEnum):
    contrastive = "contrastive"
    quantization = "quantization"
    lm = "lm"


class Original(StrEnum):
    seed1 = "seed1"
    seed2 = "seed2"
    blip2 = "blip2"
    stage1 = "stage1"


Model = Annotated[
    Path | None,
    typer.Option("--model", help="Folder of a saved pipeline or model. Default: seed-tiny, which is built in."),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps ... Default: a GPU if there is one.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object per picture.")]
Output = Annotated[Path, typer.Option("-o", "--output", help="Picture file to write: .png, .jpg, .webp or .bmp.")]
Seed = Annotated[int, typer.Option(help="The same seed draws the same picture.", min=0, max=2**63 - 65)]
Steps = Annotated[int, typer.Option(help="Denoising steps.", min=1, max=1000)]
Guidance = Annotated[
    float | None, typer.Option(help="Guidance scale, 1 for none. Default: the pipeline's own.", min=0)
]


def main():
    """Entry point of the `seed-hf` command."""
    app()


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
):
    if debug:
        os.environ[DEBUG] = "1"


@app.command()
def see(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Picture files.")],
    model: Model = None,
    device: Device = None,
    as_json: AsJson = False,
):
    """Print the visual codes and a caption of each picture."""
    with plain_errors():
        pictures = _read_pictures(images)
        seed_model, processor = _load_model(model, device)
    for name, picture in zip(images, pictures):
        inputs = processor.caption([picture]).to(seed_model.device)
        codes = seed_model.visual_tokenizer.encode(inputs.pixel_values)[0].tolist()
        caption = _say(seed_model, processor, inputs)
        if as_json:
            typer.echo(json.dumps({"image": name, "codes": codes, "caption": caption}))
        else:
            typer.echo(f"{name}\n  caption  {caption}\n  codes    {' '.join(map(str, codes))}")


@app.command()
def ask(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="Picture file.")],
    question: Annotated[str, typer.Argument(help="For instance: what is shown?")],
    model: Model = None,
    device: Device = None,
    as_json: AsJson = False,
):
    """Answer a question about a picture."""
    with plain_errors():
        if not question.strip():
            raise ValueError("The question is empty.")
        picture = _read_pictures([image])[0]
        seed_model, processor = _load_model(model, device)
        inputs = processor.ask([picture], [question]).to(seed_model.device)
        answer = _say(seed_model, processor, inputs)
    typer.echo(json.dumps({"image": image, "question": question, "answer": answer}) if as_json else answer)


@app.command()
def draw(
    prompt: Annotated[str, typer.Argument(help="What to draw, for instance: a red apple")],
    output: Output,
    num_images: Annotated[
        int, typer.Option("-n", "--num-images", help="How many; they become NAME-1.png, NAME-2.png ...", min=1, max=64)
    ] = 1,
    seed: Seed = 0,
    steps: Steps = 25,
    guidance: Guidance = None,
    candidates: Annotated[
        int | None,
        typer.Option(
            help="Draw the best of so many rows of codes, 1 for the first. Default: the pipeline's own.", min=1
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(help="Sample the codes at this temperature. Default: 1, or the likeliest codes.", min=0.01),
    ] = None,
    model: Model = None,
    device: Device = None,
):
    """Draw a picture from words. Picture i of several is the one that seed + i draws alone."""
    with plain_errors():
        paths = _numbered(output, num_images)
        for path in paths:
            _check_output(path)
        if not prompt.strip():
            raise ValueError("The prompt is empty. Say what to draw.")
        pipe = _load_pipeline(model, device)
        if not hasattr(pipe.seed_model, "language_model"):
            raise ValueError(f"{model}: this pipeline has no language model, so it cannot draw from words.")
    sampling = {} if temperature is None else {"do_sample": True, "temperature": temperature}
    for index, path in enumerate(paths):
        with plain_errors():  # a prompt that is longer than the model can read, for instance
            picture = pipe(
                prompt,
                num_inference_steps=steps,
                guidance_scale=guidance,
                generator=_generator(seed + index),
                num_candidates=candidates,
                generation_kwargs=sampling,
            ).images[0]
        with plain_errors():
            _write(picture, path)
        typer.echo(path)


@app.command()
def reconstruct(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="Picture file.")],
    output: Output,
    seed: Seed = 0,
    steps: Steps = 25,
    guidance: Guidance = None,
    model: Model = None,
    device: Device = None,
):
    """Draw a picture again from nothing but its 32 codes."""
    with plain_errors():
        _check_output(output)
        if output.exists() and Path(image).exists() and output.samefile(image):
            raise ValueError(f"{output}: the drawing would replace the picture itself. Give another -o.")
        picture = _read_pictures([image])[0]
        pipe = _load_pipeline(model, device)
    drawn = pipe(image=picture, num_inference_steps=steps, guidance_scale=guidance, generator=_generator(seed)).images[
        0
    ]
    with plain_errors():
        _write(drawn, output)
    typer.echo(output)


@app.command()
def train(
    stage: Annotated[
        Stage,
        typer.Argument(
            help="contrastive and quantization train the tokenizer (stages I and II), lm the language model."
        ),
    ],
    config: Annotated[Path, typer.Option("--config", help="YAML file with the stage's settings.")],
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Replace a value of the file; may be repeated."),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="lm: train all weights, not LoRA. The same as --set trainer.lora_r=0.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Only check the file.")] = False,
):
    """Train one stage, going on from the last checkpoint if there is one."""
    with plain_errors():
        if not config.is_file():
            raise ValueError(f"{config}: no such file. Give a YAML file with the settings of stage {stage}.")
        if full and stage is not Stage.lm:
            raise ValueError(f"--full is for the stage lm, which trains LoRA by default; got {stage}.")
        changes = [*(change or ()), *(["trainer.lora_r=0"] if full else ())]
        if check:
            from seed_hf.recipes.reading import read_recipe

            read_recipe(stage.value, config, changes)
            typer.echo(f"{config} is a valid recipe of the stage {stage.value}.")
            return
        from seed_hf.recipes.running import run_stage

        show_messages()
        output_dir = run_stage(stage.value, config, changes)
    typer.echo(output_dir)


@app.command()
def convert(
    kind: Annotated[
        Original,
        typer.Argument(help="What the checkpoint is. blip2 and stage1: a Causal Q-Former with its text tower alone."),
    ],
    out: Annotated[Path, typer.Option("--out", help="New folder for the converted tokenizer.")],
    checkpoint: Annotated[
        list[Path],
        typer.Option(
            "--checkpoint",
            metavar="FILE...",
            help="Files of the checkpoint; where two hold a key, the later.",
        ),
    ],
    more: Annotated[list[Path] | None, typer.Argument(metavar="[FILE]...", hidden=True)] = None,
    verify: Annotated[
        Path | None, typer.Option(help="Recorded inputs and results to compare with; writes only if they agree.")
    ] = None,
    tolerance: Annotated[float, typer.Option(help="Largest relative difference that --verify accepts.", min=0)] = 1e-5,
    vision_heads: Annotated[int, typer.Option(help="Attention heads of the ViT.", min=1)] = 16,
    qformer_heads: Annotated[int, typer.Option(help="Attention heads of the Q-Formers and decoders.", min=1)] = 12,
    image_size: Annotated[
        int | None, typer.Option(help="Pixels a side, to interpolate the ViT's positions.", min=1)
    ] = None,
    text_tower: Annotated[bool | None, typer.Option(help="Default: if all of it is there.")] = None,
    allow_missing: Annotated[list[str] | None, typer.Option(metavar="KEY", help="May be absent; repeat.")] = None,
    allow_unknown: Annotated[list[str] | None, typer.Option(metavar="KEY", help="May be left over; repeat.")] = None,
):
    """Convert an original SEED or BLIP-2 checkpoint into a SeedTokenizer; prints what became of every key."""
    with plain_errors():
        if more and len(checkpoint) > 1:
            raise ValueError("Name the files either all after one --checkpoint, or each after its own.")
        import transformers

        from seed_hf.conversion import Conversion

        transformers.utils.logging.disable_progress_bar()
        conversion = Conversion(
            kind.value,
            [*checkpoint, *(more or ())],
            out,
            vision_heads=vision_heads,
            qformer_heads=qformer_heads,
            image_size=image_size,
            text_tower=text_tower,
            allow_missing=allow_missing or (),
            allow_unknown=allow_unknown or (),
        )
        typer.echo(conversion.report)
        if verify is not None:
            typer.echo(conversion.verify(verify, tolerance))
        conversion.write()
    typer.echo(out)


@data_app.command()
def pictograms(
    out: Annotated[Path, typer.Option("--out", help="Folder for the Parquet files; made if missing.")],
    work_dir: Annotated[Path | None, typer.Option("--work-dir", help="Folder for what is fetched and drawn.")] = None,
    clip_art: Annotated[bool, typer.Option(help="Include the clip art, which needs Debian's apt-get.")] = True,
):
    """Rebuild the pictogram data from the packages of its sources. An interrupted build goes on where it was."""
    with plain_errors():
        from seed_hf.pictograms.building import build_pictograms
        from seed_hf.pictograms.packages import PackageError

        show_messages()
        try:
            rows = build_pictograms(out, work_dir=work_dir, clip_art=clip_art)
        except PackageError as error:
            raise ValueError(error) from error
    for split, count in rows.items():
        typer.echo(f"{out / split}.parquet  {count} rows")


@data_app.command()
def scenes(
    out: Annotated[Path, typer.Option("--out", help="Folder for the Parquet files; made if missing.")],
    pictograms: Annotated[
        Path, typer.Option("--pictograms", help="Folder that `seed-hf data pictograms` wrote.")
    ] = Path("data/pictograms"),
    pixels: Annotated[int, typer.Option(help="Side of the images.", min=16, max=1024)] = 96,
    train_rows: Annotated[int, typer.Option(help="Scenes, and edits, for training.", min=1)] = 20_000,
    other_rows: Annotated[int, typer.Option(help="Scenes of every other set.", min=1)] = 1_000,
    seed: Annotated[int, typer.Option(help="Another seed gives other scenes.", min=0, max=2**32)] = 0,
):
    """Build the small world: scenes of the pictograms' things with captions, questions and edits."""
    with plain_errors():
        from seed_hf.pictograms.scene_dataset import build_scenes

        show_messages()
        rows = build_scenes(pictograms, out, pixels=pixels, train_rows=train_rows, other_rows=other_rows, seed=seed)
    for name, count in rows.items():
        typer.echo(f"{out / name}.parquet  {count} rows")


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the results; made if missing.")] = Path("outputs"),
    model: Model = None,
    device: Device = None,
):
    """See eight real pictures and draw eight prompts; writes see_and_draw.png and see_and_draw.json."""
    with plain_errors():
        from seed_hf.artifacts.bundled import bundled

        folder = None if model is None else _pipeline_folder(model)
        bundled("seed-tiny", "pipeline")  # says what is wrong with the installation before anything is written
        out.mkdir(parents=True, exist_ok=True)
        where, _ = quiet_and_where(device)
        from seed_hf.demo import run_demo
    show_messages()
    result = run_demo(out, model=folder, device=str(where))
    for row in result["pictures"]:
        typer.echo(f"saw {row['caption']!r} {row['novelty']}: said {row['model_caption']!r}")
        typer.echo(f"    {row['question']} {row['model_answer']}")
    for row in result["prompts"]:
        typer.echo(f"drew {row['prompt']!r}{' (a new combination)' if row['new'] else ''}")
    typer.echo(f"{out / 'see_and_draw.png'} and {out / 'see_and_draw.json'}, in {result['seconds']} seconds")


def _read_pictures(names: list[str]) -> list["Image.Image"]:
    from seed_hf.images import load_image

    return [load_image(name) for name in names]


def _load_model(folder: Path | None, device: str | None):
    """The model and its processor, from a model's folder, a pipeline's folder or a checkpoint with both."""
    from seed_hf.artifacts.bundled import bundled

    folder = _existing(folder) or bundled("seed-tiny", "model")
    if (folder / "model_index.json").is_file():
        model_folder, processor_folder = folder / "seed_model", folder / "processor"
    else:
        model_folder = processor_folder = folder if (folder / "config.json").is_file() else folder / "model"
    if not (model_folder / "config.json").is_file():
        raise ValueError(f"{folder}: holds neither a model (config.json) nor a pipeline (model_index.json).")
    kind = json.loads((model_folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    if kind != "seed":
        raise ValueError(f"{folder}: holds a {kind!r} model. Seeing and asking need a SeedForConditionalGeneration.")
    device, dtype = quiet_and_where(device)
    from seed_hf.modeling.modeling_seed import SeedForConditionalGeneration
    from seed_hf.modeling.processing_seed import SeedProcessor

    with loading(folder):
        model = SeedForConditionalGeneration.from_pretrained(model_folder, dtype=dtype).to(device).eval()
        return model, SeedProcessor.from_pretrained(processor_folder)


def _pipeline_folder(folder: Path | None) -> Path:
    from seed_hf.artifacts.bundled import bundled

    folder = _existing(folder) or bundled("seed-tiny", "pipeline")
    if not (folder / "model_index.json").is_file():
        folder = folder / "pipeline"
    if not (folder / "model_index.json").is_file():
        raise ValueError(f"{folder.parent}: holds no pipeline (model_index.json), which drawing needs.")
    return folder


def _load_pipeline(folder: Path | None, device: str | None):
    folder = _pipeline_folder(folder)
    device, dtype = quiet_and_where(device)
    from seed_hf.pipelines.pipeline_seed_image import SeedImagePipeline

    with loading(folder):
        return SeedImagePipeline.from_pretrained(folder, dtype=dtype).to(device)


def _existing(folder: Path | None) -> Path | None:
    if folder is not None and not folder.is_dir():
        raise ValueError(f"{folder}: no such folder. --model takes the folder of a saved pipeline or model.")
    return folder


def _say(model, processor, inputs) -> str:
    import torch

    with torch.inference_mode():
        ids = model.generate(**inputs, generation_mode="text", max_new_tokens=48, do_sample=False)
    new_ids = ids[:, inputs.input_ids.shape[1] :]
    return processor.post_process_multimodal_output(new_ids, generation_mode="text")[0].strip()


def _generator(seed: int):
    """On the CPU whatever the device, so that a seed draws the same picture everywhere."""
    import torch

    return torch.Generator("cpu").manual_seed(seed)


def _numbered(path: Path, count: int) -> list[Path]:
    return [path] if count == 1 else [path.with_name(f"{path.stem}-{i}{path.suffix}") for i in range(1, count + 1)]


def _check_output(path: Path):
    if path.suffix.lower() not in _WRITABLE:
        raise ValueError(f"{path}: not a picture's name. Use one that ends in {', '.join(_WRITABLE)}.")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: the folder {path.parent} does not exist. Make it first.")
    if path.is_dir():
        raise ValueError(f"{path}: this is a folder. Give the name of a file.")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"{path}: no permission to write into {path.parent}.")


def _write(picture: "Image.Image", path: Path):
    with whole_file(path) as temporary:
        picture.save(temporary, format=_WRITABLE[path.suffix.lower()])
