"""`seed-hf card` and `seed-hf push`: model cards and publishing on the Hub."""

from pathlib import Path
from typing import Annotated

import typer

from .shared import plain_errors, say, show_messages


Folder = Annotated[
    Path, typer.Argument(help="Folder of a tokenizer, model, language model, pipeline, LoRA or data set.")
]


def card(
    folder: Folder,
    title: Annotated[str | None, typer.Option(help="Heading of the card. Default: the name of the folder.")] = None,
    results: Annotated[
        list[Path] | None,
        typer.Option(metavar="JSON", help="Result of `seed-hf evaluate TASK`; repeat for several."),
    ] = None,
    base_model: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Hub id of the base model; repeat for more.")
    ] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Hub id of the training data; repeat for more.")
    ] = None,
    evaluation_dataset: Annotated[
        str | None, typer.Option(metavar="ID", help="Hub id of the evaluation data, for .eval_results.")
    ] = None,
    facts: Annotated[
        Path | None,
        typer.Option(metavar="YAML", help="Your facts: licence, limits ... Default: card.yaml of the folder."),
    ] = None,
    repo_id: Annotated[str | None, typer.Option(metavar="ID", help="Hub id under which it will be published.")] = None,
    run_snippet: Annotated[bool, typer.Option(help="Run the usage snippet and show what it prints.")] = True,
):
    """Write the model card (README.md) of an artifact: what it is, its training, measured results, licences."""
    with plain_errors():
        for path in [*(results or ()), *([facts] if facts else ())]:
            if not path.is_file():
                raise ValueError(f"{path}: no such file.")
        from seed_hf.hub import write_card

        show_messages()
        path = write_card(
            folder,
            title=title,
            results=results or None,
            base_model=base_model or None,
            datasets=dataset or None,
            evaluation_dataset=evaluation_dataset,
            facts=facts,
            repo_id=repo_id,
            run_snippet=run_snippet,
        )
    say(path)


def push(
    folder: Folder,
    repo_id: Annotated[
        str, typer.Argument(metavar="REPO_ID", help="Hub id, owner/name; the repository is made if missing.")
    ],
    private: Annotated[
        bool,
        typer.Option("--private/--public", help="Visibility of a new repository; an existing one stays as it is."),
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the files and send nothing.")] = False,
    include: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A further file or folder of the folder to publish; repeat for more."),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch to commit to.")] = None,
):
    """Publish an artifact on the Hub in one commit. The same command resumes an interrupted push."""
    with plain_errors():
        from huggingface_hub.errors import HfHubHTTPError

        from seed_hf.hub import push as publish

        show_messages()
        try:
            report = publish(
                folder, repo_id, private=private, dry_run=dry_run, include=include or (), revision=revision
            )
        except HfHubHTTPError as error:
            raise ValueError(f"The Hub refused: {error}") from error
        except Exception as error:
            if not type(error).__module__.startswith("httpx"):  # httpx or httpx2, as huggingface_hub has it
                raise
            raise ValueError(
                f"The Hub cannot be reached: {error}. Run the same command again later to resume."
            ) from error
    for name, size in report.files.items():
        say(f"{_readable(size):>10}  {name}")
    for name in report.left_out:
        say(f"{'left out':>10}  {name}")
    for name in report.removed:
        say(f"{'removed':>10}  {name} (in the repository from before; it could be loaded in place of these weights)")
    for name in report.stale:
        say(f"{'stale':>10}  {name} (in the repository from before; it stays)")
    total = f"{len(report.files)} files, {_readable(report.size)}"
    if dry_run:
        seen = "private" if private else "PUBLIC"
        say(f"{total} for {repo_id}, {seen} if it is new; nothing was sent")
        return
    seen = "private" if report.private else "PUBLIC"
    say(f"{report.url} ({seen}): {total}, {f'commit {report.commit}' if report.changed else 'nothing new'}")


def _readable(size: float) -> str:
    if size < 0:
        return "to write"
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
