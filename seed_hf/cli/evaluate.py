"""`seed-hf evaluate`: figures of a model, measured by one command."""

import typer

from .evaluate_images import generation, judge, prompts, roundtrip, similarity
from .evaluate_texts import caption, choice, codebook, retrieval, vqa
from .option_groups import expanded
from .paper_table import paper_table


evaluate = typer.Typer(no_args_is_help=True, invoke_without_command=True, callback=expanded(paper_table))
for task in (codebook, retrieval, caption, vqa, choice, generation, similarity, roundtrip, judge, prompts):
    evaluate.command()(expanded(task))
