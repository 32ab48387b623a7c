"""`seed-hf evaluate generation`, `similarity`, `roundtrip`: how well a model draws; `judge`, `prompts` serve them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seed_hf.files import write_text

from . import evaluate_options as options
from .shared import plain_errors, quiet_libraries, say, show_messages


if TYPE_CHECKING:
    from seed_hf.evaluation.detections import Detector
    from seed_hf.evaluation.drawer import Drawer
    from seed_hf.evaluation.rows import EvaluationData

Pipeline = Annotated[
    str | None, typer.Option("--model", "--pipeline", help="Folder or Hub id of the pipeline. Default: seed-tiny.")
]
Source = Annotated[str, typer.Option(metavar="captions|images", help="What is drawn from; images: their own codes.")]
SourceOrEdits = Annotated[
    str,
    typer.Option(
        "--source",
        metavar="captions|images|edits",
        help="What is drawn from; images: their own codes; edits: an image and an instruction.",
    ),
]
DrawnFrom = Annotated[
    str,
    typer.Option(
        "--data",
        help="Prompts in GenEval's form (.jsonl), Parquet of scenes, the file of a benchmark, or any source "
        "of images with captions.",
    ),
]
Pictograms = Annotated[Path, typer.Option("--pictograms", help="Folder of the pictograms.")]


@dataclass
class Drawing:
    """The settings of a [`Drawer`], by the names of `seed-hf draw` and by those of the pipeline."""

    seed: Annotated[int, typer.Option(help="Of noise and sampled codes.", min=0)] = 0
    num_inference_steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            "--num-inference-steps",
            help="Denoising steps. Default: 50 for Stable Diffusion 1 and 20 for unCLIP, as the authors, else 20.",
            min=1,
        ),
    ] = None
    guidance_scale: Annotated[
        float | None, typer.Option("--guidance", "--guidance-scale", help="Default: the pipeline's.")
    ] = None
    num_candidates: Annotated[
        int | None,
        typer.Option(
            "--candidates",
            "--num-candidates",
            help="Code sequences to choose from. Default: the pipeline's.",
            min=1,
        ),
    ] = None


def generation(
    data: DrawnFrom,
    out: options.Out,
    *,
    judge: Annotated[
        Path | None, typer.Option("--judge", help="For scenes: folder of a judge, from `seed-hf evaluate judge`.")
    ] = None,
    detector: Annotated[
        Path | None, typer.Option("--detector", help="For photographs: folder of a Mask2Former for instances.")
    ] = None,
    clip: Annotated[Path | None, typer.Option("--clip", help="Folder of the CLIP that names colours.")] = None,
    pipeline: Pipeline = None,
    source: SourceOrEdits = "captions",
    valid_spans: Annotated[
        bool, typer.Option("--valid-spans", help="Also count valid image spans without the constraint.")
    ] = False,
    drawing: Drawing,
    running: options.Running,
):
    """Does a drawing show what its prompt asks for? Objects, numbers, colours, places."""
    with plain_errors():
        _check_candidates(drawing, source)
        rows = _open(data)
        eyes = _detector(judge, detector, clip, running.device)
        from seed_hf.evaluation.tasks.generation import Generation

        drawer = _drawer(pipeline, drawing, running)
        task = Generation(drawer, eyes, source=source, count_valid_spans=valid_spans)
        options.run(task, rows, out, running)


def similarity(
    data: DrawnFrom,
    out: options.Out,
    *,
    encoder: Annotated[str, typer.Option(help="Folder of a CLIP, or efficientnet.")],
    pipeline: Pipeline = None,
    images: options.Images = None,
    split: options.Split = None,
    source: Source = "images",
    fid_weights: Annotated[
        Path | None, typer.Option("--fid-weights", help="Inception weights of torch-fidelity, for FID.")
    ] = None,
    drawing: Drawing,
    running: options.Running,
):
    """How near drawn or redrawn images are to the real ones: CLIP similarity, CLIP-T, FID."""
    with plain_errors():
        _check_candidates(drawing, source)
        rows = _open(data, images, split, captions=source != "images")
        from seed_hf.evaluation.image_encoders import InceptionEncoder, open_encoder
        from seed_hf.evaluation.tasks.similarity import Similarity

        found = open_encoder(encoder, device=running.device)
        extra: dict[str, Any] = {}
        if fid_weights is not None:
            extra = {"frechet": InceptionEncoder(fid_weights, device=running.device), "frechet_name": "FID"}
        drawer = _drawer(pipeline, drawing, running)
        task = Similarity(drawer, found, source=source, **extra)
        options.run(task, rows, out, running)


def roundtrip(
    data: DrawnFrom,
    out: options.Out,
    *,
    pipeline: Pipeline = None,
    images: options.Images = None,
    split: options.Split = None,
    source: Source = "captions",
    ranked_among: Annotated[
        int, typer.Option(help="Rank each row's caption among so many of the data; 0 for no ranks.", min=0)
    ] = 100,
    best_of: Annotated[
        int, typer.Option("--best-of", help="Sample so many code sequences; keep the one that comes back best.", min=1)
    ] = 1,
    drawing: Drawing,
    running: options.Running,
):
    """Codes to image to codes: how well a model reads what it draws."""
    with plain_errors():
        _check_candidates(drawing, source, best_of)
        rows = _open(data, images, split, captions=source != "images" or ranked_among > 0)
        from seed_hf.evaluation.tasks.roundtrip import Roundtrip, some_candidates

        captions = (row.captions[0] for row in rows.rows if row.captions)
        among = some_candidates(captions, ranked_among, drawing.seed) if ranked_among else []
        drawer = _drawer(pipeline, drawing, running)
        task = Roundtrip(drawer, source=source, candidates=among, best_of=best_of)
        options.run(task, rows, out, running)


def judge(
    pictograms: Pictograms,
    out: Annotated[
        Path, typer.Option("--out", file_okay=False, help="Folder of the judge; one that is there is only measured.")
    ],
    scenes: Annotated[int | None, typer.Option(help="To train on. Default: 5000.", min=1)] = None,
    measured: Annotated[int, typer.Option(help="Real images of each test set; 0 for none.", min=0)] = 500,
    seed: Annotated[int | None, typer.Option(help="Default: its own, 7919. Train no model with it.", min=0)] = None,
):
    """Train the judge of scenes, and measure it on real images: the ceiling of all that it says of drawings."""
    with plain_errors():
        from seed_hf.evaluation.result import figures_table
        from seed_hf.evaluation.scene_judge.judge import FACTS, SceneJudge
        from seed_hf.evaluation.scene_judge.measuring import measure
        from seed_hf.evaluation.scene_judge.training import train_judge

        show_messages()
        if (out / FACTS).is_file():
            if scenes is not None or seed is not None:
                raise ValueError(f"{out} holds a judge already: --scenes and --seed are for a new one.")
            found = SceneJudge.load(out)
        else:
            given: dict[str, Any] = {"scenes": scenes, "seed": seed}
            given = {name: value for name, value in given.items() if value is not None}
            found = train_judge(pictograms, **given)
            found.save(out)
        if not measured:
            return
        figures = measure(found, pictograms, scenes=measured)
        write_text(out / "measured.json", json.dumps({"judge": found.facts, "sets": figures}, indent=1) + "\n")
        columns = {f"{name}: {layout}": row for name, layouts in figures.items() for layout, row in layouts.items()}
        say("\n".join(figures_table(columns)))


def prompts(
    out: Annotated[Path, typer.Option("--out", help="File to write, in the form of GenEval's metadata (.jsonl).")],
    objects: Annotated[
        Path | None, typer.Option(help="Text file with a countable noun a line. Default: the things of scenes.")
    ] = None,
    per_tag: Annotated[int, typer.Option("--per-tag", help="Prompts of each of the six kinds.", min=1)] = 100,
    frame: Annotated[str, typer.Option(help="Around every prompt, such as 'a photo of {}'.")] = "{}",
    seed: Annotated[int, typer.Option(help="Of the draw.", min=0)] = 0,
):
    """Prompts of GenEval's six kinds from any list of objects: one, two, numbers, colours, places, colours of two."""
    with plain_errors():
        from seed_hf.data.sources.text import BadText, read_text
        from seed_hf.evaluation.formats.prompts import open_prompts
        from seed_hf.evaluation.generation_prompts import make_prompts, metadata_lines
        from seed_hf.pictograms.scene_things import read_things

        if out.suffix != ".jsonl":
            raise ValueError(f"--out must end with .jsonl, got {out}.")
        if out.exists() and open_prompts(out) is None:
            raise ValueError(f"{out}: this file holds no prompts, and would be replaced. Give another --out.")
        if objects is None:
            names = [thing.name for thing in read_things()]
        elif objects.is_file():
            if isinstance(text := read_text(objects.read_bytes(), f"{objects} (--objects)"), BadText):
                raise text
            names = [line.strip() for line in text.replace("\r", "\n").split("\n") if line.strip()]
        else:
            raise FileNotFoundError(f"{objects}: no such file of objects.")
        made = make_prompts(names, per_tag, seed=seed, frame=frame)
        write_text(out, "\n".join(metadata_lines(made)) + "\n")
        say(f"{len(made)} prompts in {out}")


def _open(data: str, images: Path | None = None, split: str | None = None, *, captions: bool = True) -> EvaluationData:
    from seed_hf.evaluation.formats.edits import edits, is_edit_file
    from seed_hf.evaluation.formats.prompts import open_prompts

    found = edits(Path(data)) if is_edit_file(data) else open_prompts(data)
    if found is None:
        return options.open_data(data, images, split, captions=captions)
    if images is not None or split is not None:
        raise ValueError(f"--images and --split do not go with {data}: it is one set, with all that it has.")
    return found


def _check_candidates(drawing: Drawing, source: str, best_of: int = 1) -> None:
    if drawing.num_candidates is None:
        return
    if source == "images":
        raise ValueError("--candidates: the codes of images are drawn as they are. It goes with other sources.")
    if best_of > 1:
        raise ValueError("--best-of samples and chooses by itself: leave --candidates out.")


def _detector(judge: Path | None, detector: Path | None, clip: Path | None, device: str | None) -> Detector:
    if (judge is None) == (detector is None) or (detector is None) != (clip is None):
        raise ValueError("Give --judge for scenes, or --detector and --clip for photographs.")
    if judge is not None:
        from seed_hf.evaluation.scene_judge.judge import SceneJudge

        return SceneJudge.load(judge)
    from seed_hf.evaluation.photo_detector import PhotoDetector

    assert detector is not None and clip is not None  # checked above
    return PhotoDetector(detector, clip, device=device)


def _drawer(pipeline: str | None, drawing: Drawing, running: options.Running) -> Drawer:
    quiet_libraries()
    from seed_hf.artifacts.opening import open_pipeline
    from seed_hf.evaluation.drawer import Drawer

    return Drawer(open_pipeline(pipeline, **running.place), **vars(drawing))
