"""`seed-hf evaluate --paper-table N`: a whole table of the SEED paper."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seed_hf.files import read_json, write_text

from . import evaluate_options as options
from .shared import comma_separated, plain_errors, say


if TYPE_CHECKING:
    from seed_hf.evaluation.running import Task


def paper_table(
    context: typer.Context,
    table: Annotated[
        int | None, typer.Option("--paper-table", help="Measure a whole table of the SEED paper: 1, 2 or 3.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Folder of all data, laid out as docs/reproduce.md says.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", file_okay=False, help="Folder for a result of each row, and the table.")
    ] = None,
    rows: Annotated[str | None, typer.Option(metavar="NAMES", help="Some rows of the table. Default: all.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Folder or Hub id; of table 2 a pipeline. Default: seed-tiny.")
    ] = None,
    encoder: Annotated[str | None, typer.Option(help="Folder of the CLIP of table 2.")] = None,
    num_beams: Annotated[int | None, typer.Option(help="Of captions and answers.", min=1)] = None,
    *,
    running: options.Running,
):
    """Measure a model, task by task; or with --paper-table a whole table of the SEED paper."""
    if context.invoked_subcommand is not None:
        with plain_errors():
            if any(value is not None for value in (table, data_dir, out, rows, model, encoder, num_beams)) or (
                running != options.Running()
            ):
                raise ValueError(
                    f"Options of a task follow its name: seed-hf evaluate {context.invoked_subcommand} ..."
                )
        return
    with plain_errors():
        if table is None or data_dir is None or out is None:
            raise ValueError("Give the name of a task, or --paper-table with --data-dir and --out.")
        from seed_hf.evaluation.formats.opening import open_benchmark
        from seed_hf.evaluation.paper_tables import comparison, rows_of

        chosen = rows_of(table, comma_separated(rows), data_dir)
        if table == 2 and encoder is None:
            raise ValueError("Table 2 compares images by a CLIP: --encoder FOLDER.")
        for name, value, of in (("--encoder", encoder, 2), ("--num-beams", num_beams, 3)):
            if value is not None and table != of:
                raise ValueError(f"{name} is for table {of}; table {table} would not use it.")
        opened = {
            row.name: open_benchmark(
                data_dir / row.data,
                images=data_dir / row.images,
                annotations=data_dir / row.annotations if row.annotations else None,
            )
            for row in chosen
        }
        make = _tasks(model, encoder, {"num_beams": num_beams} if num_beams else {}, running.place)
        places = [out / f"table{table}_{row.name}.json" for row in chosen]
        last = None
        for row, place in zip(chosen, places):
            last = options.run(make(row.task), opened[row.name], place, running)
        # Of several processes another one may have been the last in an earlier row: what counts is what is written.
        if last is not None and all(place.is_file() for place in places):
            page = comparison(table, [(row, read_json(place)) for row, place in zip(chosen, places)])
            write_text(out / f"table{table}.md", page)
            say(page)


def _tasks(
    model: str | None, encoder: str | None, decoding: dict[str, Any], where: dict[str, Any]
) -> "Callable[[str], Task]":
    """From the name of a task to the task; what it needs is loaded once."""
    from functools import cache

    @cache
    def make(name: str) -> "Task":
        if name == "retrieval":
            from seed_hf.artifacts.loading import load_text_tower
            from seed_hf.evaluation.tasks.retrieval import Retrieval

            return Retrieval(*load_text_tower(model, **where))
        if name == "similarity":
            from seed_hf.artifacts.opening import open_pipeline
            from seed_hf.evaluation.drawer import Drawer
            from seed_hf.evaluation.image_encoders import open_encoder
            from seed_hf.evaluation.tasks.similarity import Similarity

            eyes = open_encoder(str(encoder), device=where["device"])
            return Similarity(Drawer(open_pipeline(model, **where)), eyes)
        from seed_hf.artifacts.opening import open_model
        from seed_hf.evaluation.tasks.caption import Caption
        from seed_hf.evaluation.tasks.vqa import Vqa

        return (Caption if name == "caption" else Vqa)(*open_model(model, **where), **decoding)

    return make
