"""`seed-hf convert`: an original checkpoint to a SeedTokenizer, or a SEED-LLaMA to a language or whole model."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from .shared import flags, plain_errors, say


class Original(StrEnum):
    seed1 = "seed1"
    seed2 = "seed2"
    blip2 = "blip2"
    stage1 = "stage1"
    seed_llama = "seed-llama"


class NumberType(StrEnum):
    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


def convert(
    kind: Annotated[
        Original,
        typer.Argument(
            help="What the checkpoint is. blip2 and stage1 hold a Causal Q-Former and a text tower; seed-llama is a "
            "folder of a released language model."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="New folder for the converted tokenizer or model.")],
    checkpoint: Annotated[
        list[Path],
        typer.Option(
            "--checkpoint",
            metavar="FILE...",
            help="Checkpoint files; a later file overrides the keys of an earlier one. A folder for seed-llama.",
        ),
    ],
    more: Annotated[list[Path] | None, typer.Argument(metavar="[FILE]...", hidden=True)] = None,
    verify: Annotated[
        Path | None, typer.Option(help="Recorded inputs and outputs to compare with; writes only if they agree.")
    ] = None,
    tolerance: Annotated[float, typer.Option(help="Largest relative difference that --verify accepts.", min=0)] = 1e-5,
    vision_heads: Annotated[int | None, typer.Option(help="Attention heads of the ViT. Default: 16.", min=1)] = None,
    qformer_heads: Annotated[
        int | None, typer.Option(help="Attention heads of the Q-Formers and decoders. Default: 12.", min=1)
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Side in pixels; interpolates the ViT's position embeddings.", min=1)
    ] = None,
    text_tower: Annotated[
        bool | None, typer.Option(help="Convert the text tower. Default: if the checkpoint has all of it.")
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="seed-llama: folder with tokenizer.model and added_tokens.json.")
    ] = None,
    visual_tokenizer: Annotated[
        Path | None, typer.Option(help="seed-llama: converted SEED-2 tokenizer; makes a whole model, which draws.")
    ] = None,
    dtype: Annotated[NumberType, typer.Option(help="seed-llama: number type to store.")] = NumberType.auto,
    prompt_format: Annotated[
        str | None,
        typer.Option(help="seed-llama: vicuna, llama2 or plain (before instruction tuning). Default: by its size."),
    ] = None,
    allow_missing: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="Key that may be missing; repeat for more.")
    ] = None,
    allow_unknown: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="Key that may be left over; repeat for more.")
    ] = None,
):
    """Convert an original SEED or BLIP-2 checkpoint, or a SEED-LLaMA; reports what became of every key."""
    with plain_errors():
        sizes = _given(
            vision_heads=vision_heads,
            qformer_heads=qformer_heads,
            image_size=image_size,
            text_tower=text_tower,
            allow_missing=allow_missing,
            allow_unknown=allow_unknown,
        )
        if kind is Original.seed_llama:
            if sizes:
                raise ValueError(f"{flags(sizes)}: not for seed-llama, whose config.json says what it holds.")
            options = {"visual_tokenizer": visual_tokenizer, "dtype": dtype.value, "prompt_format": prompt_format}
            _convert_seed_llama([*checkpoint, *(more or ())], tokenizer, out, verify, tolerance, options)
            return
        if tokenizer or visual_tokenizer or prompt_format or dtype is not NumberType.auto:
            raise ValueError("--tokenizer, --visual-tokenizer, --dtype and --prompt-format belong to seed-llama.")
        if more and len(checkpoint) > 1:
            raise ValueError("Name the files either all after one --checkpoint, or each after its own.")
        import transformers

        from seed_hf.conversion import Conversion

        transformers.utils.logging.disable_progress_bar()
        conversion = Conversion(kind.value, [*checkpoint, *(more or ())], out, **sizes)
        say(conversion.report)
        if verify is not None:
            say(conversion.verify(verify, tolerance))
        conversion.write()
    say(out)


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value not in (None, [])}


def _convert_seed_llama(checkpoint, tokenizer, out, verify, tolerance, options) -> None:
    from seed_hf.conversion import SeedLlamaConversion

    if len(checkpoint) != 1:
        raise ValueError(f"seed-llama is one folder: give one --checkpoint, got {len(checkpoint)}.")
    if tokenizer is None:
        raise ValueError(
            "The released language models have no tokenizer: give --tokenizer, a folder with tokenizer.model and "
            "added_tokens.json (seed-tokenizer-2)."
        )
    conversion = SeedLlamaConversion(checkpoint[0], tokenizer, out, **options)
    parity = conversion.write(verify, tolerance)
    say(conversion.report)
    if parity is not None:
        say(parity)
    say(out)
