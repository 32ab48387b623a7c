"""What the commands `seed-hf evaluate TASK` share: options, opening the data, running the task."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .shared import Device, quiet_libraries, say, show_messages
from .source import NumberType, OnError


if TYPE_CHECKING:
    from seed_hf.evaluation.rows import EvaluationData
    from seed_hf.evaluation.running import Task

Data = Annotated[
    str,
    typer.Option(
        "--data",
        help="Annotation file of a benchmark as it is published (COCO, NoCaps, Karpathy's splits, Flickr30K, VQAv2, "
        "OK-VQA, VizWiz, GQA, SEED-Bench), rows of your own (.jsonl), the folder of the pictograms, or any source of "
        "images with captions: folder, Parquet, WebDataset, Hub id.",
    ),
]
Images = Annotated[
    Path | None, typer.Option("--images", help="Folder of the benchmark's images. Default: that of its file.")
]
Annotations = Annotated[
    Path | None, typer.Option("--annotations", help="File of the answers to the questions of VQAv2 or OK-VQA.")
]
Split = Annotated[
    str | None, typer.Option(help="Default: test of Karpathy's splits, validation of pictograms, train of a source.")
]
Out = Annotated[Path, typer.Option("--out", help="JSON file to write; the page goes beside it as .md.")]


@dataclass
class Captioned:
    """Which images with captions."""

    images: Images = None
    split: Split = None
    image_column: Annotated[
        str | None, typer.Option(help="Column of a source's images. Default: found by its name.")
    ] = None
    caption_column: Annotated[
        str | None, typer.Option(help="Column of a source's captions. Default: found by its name.")
    ] = None


@dataclass
class Running:
    """How a task is run."""

    batch_size: Annotated[int, typer.Option(help="Rows at a time. The figures do not depend on it.", min=1)] = 64
    limit: Annotated[int | None, typer.Option(help="Only the first rows: quick, but not comparable.", min=1)] = None
    on_error: Annotated[OnError, typer.Option(help="Rows that cannot be used: stop, or skip and list them.")] = (
        OnError.raise_
    )
    device: Device = None
    dtype: NumberType = None

    @property
    def place(self) -> dict[str, Any]:
        """Where the functions of `loading` put a model."""
        return {"device": self.device, "dtype": self.dtype}


def open_questions(data: str, images: Path | None, annotations: Path | None, split: str | None) -> "EvaluationData":
    """A benchmark's file of questions."""
    from seed_hf.evaluation.formats.opening import is_benchmark, open_benchmark
    from seed_hf.evaluation.formats.prompts import is_scene_file, scene_questions

    if is_scene_file(data) and (images, annotations, split) == (None, None, None):
        return scene_questions(Path(data))
    if not is_benchmark(data):
        raise ValueError(
            f"{data}: questions are read from the file of a benchmark, from .json, .jsonl or .parquet with the fields "
            "image, question and answers, from scenes, and from the folder of the pictograms."
        )
    return open_benchmark(data, images=images, annotations=annotations, split=split, questions=True)


def open_data(
    data: str,
    images: Path | None,
    split: str | None,
    *,
    image_column: str | None = None,
    caption_column: str | None = None,
    captions: bool = True,
) -> "EvaluationData":
    """A benchmark's file, or any source of images with captions; or without them, where the task can do so."""
    from seed_hf.data.sources.source import open_source
    from seed_hf.evaluation.formats.opening import is_benchmark, open_benchmark
    from seed_hf.evaluation.formats.source import source_data

    if is_benchmark(data):
        if image_column is not None or caption_column is not None:
            raise ValueError(f"--image-column and --caption-column go with a source; {data} is a benchmark's file.")
        return open_benchmark(data, images=images, split=split)
    if images is not None:
        raise ValueError(f"--images goes with the annotation file of a benchmark; {data} is a source, which has them.")
    columns: dict[str, Any] = {"image_column": image_column, "caption_column": caption_column}
    try:
        found = open_source(data, split=split or "train", **columns)
    except ValueError:
        if captions or caption_column is not None:
            raise
        found = open_source(data, split=split or "train", captions=False, **columns)
    used = found.has_splits() and "://" not in data
    if split not in (None, "all") and not used:
        raise ValueError(f"{data}: it has no splits, so --split {split} would change nothing. Leave it out.")
    return source_data(found, (split or "train") if used else None)


def run(task: "Task", data: "EvaluationData", out: Path, how: Running) -> dict[str, Any] | None:
    """Run a task, print its page, and give its result, if this process is the last."""
    from seed_hf.evaluation.result import markdown
    from seed_hf.evaluation.running import run_task

    quiet_libraries()
    show_messages()
    result = run_task(task, data, out, batch_size=how.batch_size, limit=how.limit, on_error=how.on_error.value)
    if result is not None:
        say(markdown(result))
    return result
