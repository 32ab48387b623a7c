"""`seed-hf data`: build the pictograms and the small world; encode the images of conversations."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from seed_hf.threads import fit_threads

from . import source as source_options
from .shared import Device, comma_separated, plain_errors, quiet_libraries, say, show_messages


data = typer.Typer(help="Build training data.", no_args_is_help=True)


@data.command()
def pictograms(
    out: Annotated[
        Path | None, typer.Option("--out", file_okay=False, help="Folder for the Parquet files; made if missing.")
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="BUILT REFERENCE", help="Build nothing; print how two built sets differ, as JSON."),
    ] = None,
    work_dir: Annotated[
        Path | None, typer.Option("--work-dir", help="Folder for packages and rendered images. Default: OUT/.work")
    ] = None,
    clip_art: Annotated[bool, typer.Option(help="Include the clip art, which needs Debian's apt-get.")] = True,
):
    """Build the pictograms from the packages of their sources. Resumes an interrupted build."""
    with plain_errors():
        if (out is None) == (compare is None):
            raise ValueError("Give either --out DIR to build the pictograms or --compare BUILT REFERENCE.")
        from seed_hf.pictograms.building import build_pictograms, compare_pictograms
        from seed_hf.pictograms.packages import PackageError

        if compare is not None:
            say(json.dumps(compare_pictograms(*compare), indent=2))
            return
        assert out is not None  # one of the two is given
        show_messages()
        try:
            rows = build_pictograms(out, work_dir=work_dir, clip_art=clip_art)
        except PackageError as error:
            raise ValueError(error) from error
    for split, count in rows.items():
        say(f"{out / split}.parquet  {count} rows")


@data.command()
def scenes(
    out: Annotated[
        Path, typer.Option("--out", file_okay=False, help="Folder for the Parquet files; made if missing.")
    ],
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
        say(f"{out / name}.parquet  {count} rows")


@data.command()
def conversations(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Conversations, documents, or images with captions: .jsonl, Parquet, WebDataset tars, a folder or "
            "quoted glob of them, or the Hub id of a dataset.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Parquet file to write.")],
    tokenizer: source_options.Tokenizer = None,
    split: source_options.Split = "train",
    on_error: Annotated[
        source_options.OnError, typer.Option(help="What to do with rows that are wrong: skip and count them, or stop.")
    ] = source_options.OnError.raise_,
    ignore_columns: Annotated[str | None, typer.Option(help="Columns that are not read, separated by commas.")] = None,
    device: Device = None,
):
    """Check conversations and encode their images, once, for `seed-hf train instruct`."""
    with plain_errors():
        from seed_hf.artifacts.loading import load_tokenizer, locate
        from seed_hf.data.sources.locating import locate_rows
        from seed_hf.data.sources.sequence_rows import sequence_rows
        from seed_hf.files import whole_file
        from seed_hf.inference import encode_images

        locate(tokenizer, "tokenizer")
        if out.suffix != ".parquet":
            raise ValueError(f"--out {out}: the name of a Parquet file ends with .parquet.")
        files = locate_rows(source, split).files if out.exists() else []
        if any(os.path.exists(file) and out.samefile(file) for file in files):
            raise ValueError(f"--out {out}: this is a file of the source, whose images would be lost.")
        quiet_libraries()
        model, image_processor = load_tokenizer(tokenizer, device=device)
        fit_threads(model)

        def encode(images: list) -> list[list[int]]:
            return encode_images(model, image_processor, images).tolist()

        show_messages()
        ignored = comma_separated(ignore_columns) or ()
        rows = sequence_rows(
            source, split, encode=encode, ignore_columns=ignored, on_error=on_error.value, where=source
        )
        rows = rows.remove_columns([name for name in rows.column_names if name.startswith("__")])
        out.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(out) as temporary:
            rows.to_parquet(temporary)
    say(f"{out}  {len(rows)} rows")
