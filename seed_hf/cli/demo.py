"""`seed-hf demo`: draw prompts, see images."""

from pathlib import Path
from typing import Annotated

import typer

from .shared import Device, Pipeline, plain_errors, quiet_libraries, say, show_messages


def demo(
    out: Annotated[
        Path, typer.Option("--out", file_okay=False, help="Folder for the results; made if missing.")
    ] = Path("outputs"),
    model: Pipeline = None,
    device: Device = None,
):
    """Draw twelve prompts and see eight images, chosen by seed; writes see_and_draw.png and see_and_draw.json."""
    with plain_errors():
        from seed_hf.artifacts.loading import locate
        from seed_hf.devices import usable_device

        locate(model, "pipeline")  # a wrong name or a broken installation ends here, before anything is written
        where = usable_device(device)
        quiet_libraries()
        from seed_hf.demo import run_demo

        show_messages()
        result = run_demo(out, model=model, device=str(where))
    for row in result["prompts"]:
        say(f"drew {row['prompt']!r}{_never(row)}")
        if row["note"]:
            say(f"    {row['note']}")
    for row in result["pictures"]:
        say(f"saw {row['caption']!r}{_never(row)}: said {row['guess'] or row['model_caption']!r}")
        say(f"    {row['question']} {row['model_answer']} (right: {row['answer']})")
    say(f"{out / 'see_and_draw.png'} and {out / 'see_and_draw.json'}, in {result['seconds']} seconds")


def _never(row: dict) -> str:
    return f" (never trained on: {row['new']})" if row["new"] else ""
