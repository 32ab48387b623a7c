"""`seed-hf convert`: an original checkpoint to a SeedTokenizer."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .shared import plain_errors


class Original(StrEnum):
    seed1 = "seed1"
    seed2 = "seed2"
    blip2 = "blip2"
    stage1 = "stage1"


def convert(
    kind: Annotated[
        Original,
        typer.Argument(help="What the checkpoint is. blip2 and stage1 hold a Causal Q-Former and a text tower."),
    ],
    out: Annotated[Path, typer.Option("--out", help="New folder for the converted tokenizer.")],
    checkpoint: Annotated[
        list[Path],
        typer.Option(
            "--checkpoint",
            metavar="FILE...",
            help="Checkpoint files; a later file overrides the keys of an earlier one.",
        ),
    ],
    more: Annotated[list[Path] | None, typer.Argument(metavar="[FILE]...", hidden=True)] = None,
    verify: Annotated[
        Path | None, typer.Option(help="Recorded inputs and outputs to compare with; writes only if they agree.")
    ] = None,
    tolerance: Annotated[float, typer.Option(help="Largest relative difference that --verify accepts.", min=0)] = 1e-5,
    vision_heads: Annotated[int, typer.Option(help="Attention heads of the ViT.", min=1)] = 16,
    qformer_heads: Annotated[int, typer.Option(help="Attention heads of the Q-Formers and decoders.", min=1)] = 12,
    image_size: Annotated[
        int | None, typer.Option(help="Side in pixels; interpolates the ViT's position embeddings.", min=1)
    ] = None,
    text_tower: Annotated[
        bool | None, typer.Option(help="Convert the text tower. Default: if the checkpoint has all of it.")
    ] = None,
    allow_missing: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="Key that may be missing; repeat for more.")
    ] = None,
    allow_unknown: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="Key that may be left over; repeat for more.")
    ] = None,
):
    """Convert an original SEED or BLIP-2 checkpoint into a SeedTokenizer; reports what became of every key."""
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
