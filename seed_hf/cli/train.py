"""`seed-hf train`: one training stage from a recipe."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .shared import plain_errors, quiet_libraries, say, show_messages


class Stage(StrEnum):
    contrastive = "contrastive"
    quantization = "quantization"
    lm = "lm"
    instruct = "instruct"


def train(
    stage: Annotated[
        Stage,
        typer.Argument(
            help="contrastive and quantization train the tokenizer (stages I and II), lm the language model on "
            "captions and codes, instruct on conversations."
        ),
    ],
    config: Annotated[Path, typer.Option("--config", help="Recipe: a YAML file with the settings of the stage.")],
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="SECTION.KEY=VALUE",
            help="Override a setting of the recipe, at any depth (model.settings.codebook_size=64); repeat for more.",
        ),
    ] = None,
    full: Annotated[
        bool,
        typer.Option("--full", help="lm, instruct: train all weights, not LoRA. Short for --set trainer.lora_r=0."),
    ] = False,
    watch: Annotated[
        int | None,
        typer.Option(
            "--watch",
            metavar="ROWS",
            help="Show what the model makes of so many validation rows at each evaluation. Short for "
            "--set trainer.watch_images=ROWS.",
            min=0,
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Open everything the recipe names but weights, print what would run, and stop."),
    ] = False,
):
    """Train one stage. Resumes from the last checkpoint if there is one."""
    with plain_errors():
        if not config.is_file():
            raise ValueError(f"{config}: no such file. Give a YAML file with the settings of stage {stage}.")
        if full and stage not in (Stage.lm, Stage.instruct):
            raise ValueError(f"--full is for the stages lm and instruct, which train LoRA by default; got {stage}.")
        changes = [*(change or ()), *(["trainer.lora_r=0"] if full else ())]
        changes += [] if watch is None else [f"trainer.watch_images={watch}"]
        if check:
            _check(stage.value, config, changes)
            return
        from seed_hf.recipes.running import run_stage

        show_messages()
        output_dir = run_stage(stage.value, config, changes)
    say(output_dir)


def _check(stage: str, config: Path, changes: list[str]) -> None:
    from seed_hf.recipes.checking import check_recipe
    from seed_hf.recipes.reading import read_recipe

    quiet_libraries()
    recipe = read_recipe(stage, config, changes)
    try:
        plan = check_recipe(recipe)
    except ValueError as error:
        problems = str(error).splitlines()
        if len(problems) == 1:
            raise
        for problem in problems:  # a line each: all can be mended before the next try
            typer.echo(f"seed-hf: {problem}", err=True)
        raise typer.Exit(2) from None
    say("\n".join([f"{config} is a valid recipe of the stage {stage}.", *plan.lines()]))
