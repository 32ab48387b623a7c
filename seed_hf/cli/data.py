"""`seed-hf data`: build the pictograms, or compare two builds."""

import json
from pathlib import Path
from typing import Annotated

import typer

from .shared import plain_errors, show_messages


data = typer.Typer(help="Build training data.", no_args_is_help=True)


@data.command()
def pictograms(
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the Parquet files; made if missing.")] = None,
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
            typer.echo(json.dumps(compare_pictograms(*compare), indent=2))
            return
        assert out is not None  # one of the two is given
        show_messages()
        try:
            rows = build_pictograms(out, work_dir=work_dir, clip_art=clip_art)
        except PackageError as error:
            raise ValueError(error) from error
    for split, count in rows.items():
        typer.echo(f"{out / split}.parquet  {count} rows")


@data.command()
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
