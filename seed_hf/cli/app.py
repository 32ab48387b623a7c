"""The command line `seed-hf`.

A command parses its arguments, calls the library and prints. It imports heavy libraries only when it runs, so that
`--help` and `--version` answer at once. A user's mistake becomes one line on stderr and exit status 2.
"""

import os
from typing import Annotated

import typer

from seed_hf.threads import prepare_threads
from seed_hf.version import __version__

from .bench import bench
from .cache_features import cache_features
from .convert import convert
from .data import data
from .demo import demo
from .drawing import draw, reconstruct
from .env import env
from .evaluate import evaluate
from .export import export
from .option_groups import expanded
from .publish import card, push
from .seeing import ask, see, words
from .serve import serve
from .shared import DEBUG
from .tokenize import tokenize
from .train import train


app = typer.Typer(
    name="seed-hf",
    help="One language model that sees and draws: images become 32 discrete codes, and codes become images.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for work in (see, ask, draw, reconstruct, serve, tokenize, cache_features, train, convert, export):
    app.command()(expanded(work))
for name, group in (("data", data), ("evaluate", evaluate), ("bench", bench)):
    app.add_typer(group, name=name)
for other in (words, card, push, demo, env):
    app.command()(other)


def main():
    """Entry point of the `seed-hf` command."""
    prepare_threads()
    app()


def _print_version(asked: bool):
    if asked:
        typer.echo(f"seed-hf {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
):
    if debug:
        os.environ[DEBUG] = "1"
