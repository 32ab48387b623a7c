"""`seed-hf evaluate`: figures of a model, measured by one command."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .evaluate_images import generation, judge, prompts, roundtrip, similarity
from .evaluate_texts import caption, choice, codebook, retrieval, vqa
from .paper_table import paper_table
from .shared import Device, comma_separated, plain_errors, quiet_libraries, show_messages


evaluate = typer.Typer(no_args_is_help=True, invoke_without_command=True, callback=paper_table)
for task in (codebook, retrieval, caption, vqa, choice, generation, similarity, roundtrip, judge, prompts):
    evaluate.command()(task)


@evaluate.command()
def report(
    data: Annotated[Path, typer.Option("--data", help="Folder of the pictograms.")],
    out: Annotated[Path, typer.Option("--out", help="JSON file to write; the table goes beside it as .md.")],
    model: Annotated[
        str | None, typer.Option("--model", help="Folder or Hub id of the model. Default: seed-tiny.")
    ] = None,
    pipeline: Annotated[
        str | None,
        typer.Option("--pipeline", help="Folder or Hub id of the pipeline that draws. Default: seed-tiny."),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option("--cache", help="Folder that keeps the judge and its image features.")
    ] = None,
    sets: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES", help="Splits, separated by commas. Default: validation,test_concept,test_style."
        ),
    ] = None,
    codebook_sets: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Further splits for the section codebook; '' for none. Default: train."),
    ] = None,
    sections: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Some of codebook, retrieval, captions, questions, judge, drawing, reconstruction. Default: all.",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="At most this many images of each set: quick, but not comparable.")
    ] = None,
    max_questions_per_topic: Annotated[int | None, typer.Option(help="Default: 200.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images at a time. Default: 64.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the drawings. Default: 0.")] = None,
    judge_seed: Annotated[int | None, typer.Option(help="Of the judge. Default: its own, 7919.")] = None,
    num_inference_steps: Annotated[int | None, typer.Option(help="Denoising steps. Default: 25.")] = None,
    guidance_scale: Annotated[float | None, typer.Option(help="Default: the pipeline's setting.")] = None,
    num_candidates: Annotated[
        int | None, typer.Option(help="Code sequences sampled for a drawing. Default: the pipeline's setting.")
    ] = None,
    device: Device = None,
):
    """All figures of a model on the pictograms, as JSON and as a Markdown table. Resumes an interrupted report."""
    with plain_errors():
        from seed_hf.evaluation.report import EvaluationSettings
        from seed_hf.evaluation.report import evaluate as run
        from seed_hf.evaluation.report_table import markdown

        given: dict[str, Any] = {
            "sets": comma_separated(sets),
            "codebook_sets": comma_separated(codebook_sets),
            "sections": comma_separated(sections),
            "limit": limit,
            "max_questions_per_topic": max_questions_per_topic,
            "batch_size": batch_size,
            "seed": seed,
            "judge_seed": judge_seed,
            "num_inference_steps": num_inference_steps,
            "guidance_scale": guidance_scale,
            "num_candidates": num_candidates,
        }
        settings = EvaluationSettings(**{name: value for name, value in given.items() if value is not None})
        quiet_libraries()
        show_messages()
        result = run(model, pipeline, data, out, settings, cache_dir=cache, device=device)
    typer.echo(markdown(result))
