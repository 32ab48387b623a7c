"""One evaluation: a task over the rows of some data, in batches, resumed where it was interrupted.

    result = run_task(Retrieval(tokenizer, image_processor, text_tokenizer), data, "retrieval.json")

A task sees the distinct images of some hundred rows, then measures these rows in the order of their length. What it
measures of a row does not depend on the rows beside it. Under torchrun the processes share the rows; the last one to
finish writes the result.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from tqdm.auto import tqdm

from seed_hf.files import write_text
from seed_hf.images import SeedImageError, load_image

from .done_rows import DoneRows
from .result import check_replaceable, environment_of, markdown
from .rows import EvaluationData, EvaluationRow, Reread


logger = logging.getLogger(__name__)

ALL = "all"  # the group that is all rows
_WINDOW = 32  # batches that are sorted by length together, or fewer
_WINDOW_BYTES = 256 * 2**20  # of their encoded images


class Task(Protocol):
    """What is measured of a row, and what the figures of all rows are. One class in each file of `tasks`."""

    name: str

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that decides the figures beside model and data: prompts, decoding, seeds. Ready for JSON."""

    @property
    def protocol(self) -> Mapping[str, Any]:
        """Of the settings, those that the authors of the model used, where they are known. Others are deviations."""

    @property
    def model(self) -> Mapping[str, Any]:
        """What `model_facts` says of each model that takes part."""

    def fault(self, row: EvaluationRow) -> str:
        """Why a row cannot be used for this task, such as "no captions"; empty if it can."""

    def length(self, row: EvaluationRow) -> int:
        """How much work a row is, compared with others."""

    def see(self, images: list) -> Sequence[Any]:
        """What the model needs of each RGB image, such as its codes. It is kept for some hundred rows."""

    def measure(self, rows: list[EvaluationRow], seen: list[Any]) -> list[dict[str, Any]]:
        """What is recorded of each row, ready for JSON. `seen` has what `see` made of its image, or `None`."""

    def figures(self, records: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """The figures of all rows: from groups ("all", a domain ...) to metrics to numbers.

        The records can be iterated several times.
        """


def run_task(
    task: Task,
    data: EvaluationData,
    out: str | os.PathLike,
    *,
    batch_size: int = 64,
    limit: int | None = None,
    on_error: str = "raise",
    rank: int | None = None,
    world_size: int | None = None,
) -> dict[str, Any] | None:
    """Evaluate; write `out` and, beside it, a Markdown file of the same name.

    Args:
        task: What to measure, with its model.
        data: On what.
        out: JSON file to write. The rows that are done are kept beside it, and not done again.
        batch_size: Rows, or images, at a time. The figures do not depend on it.
        limit: Only the first rows: quick, but not comparable.
        on_error: What to do about rows that cannot be used: "raise", or "skip" to list them in the result.
        rank, world_size: Number of this process and how many share the rows; by default what torchrun says.

    Returns:
        The content of `out`; `None` if other processes are still at work, the last of which writes it.

    Raises:
        ValueError: No rows; a row that cannot be used; `out` belongs to another evaluation, or is no result at all; a
            row that is done has other content by now.
        BlockingIOError: Another evaluation is writing there.
    """
    _check_options(batch_size, limit, on_error)
    rank = int(os.environ.get("RANK", 0)) if rank is None else rank
    world_size = int(os.environ.get("WORLD_SIZE", 1)) if world_size is None else world_size
    out = Path(out)
    check_replaceable(out, task.name)
    out.parent.mkdir(parents=True, exist_ok=True)
    facts = {"task": task.name, "settings": dict(task.settings), "model": dict(task.model)}
    identity = {**facts, "data": {"format": data.format, **data.identity, **({"limit": limit} if limit else {})}}
    if isinstance(data.rows, Sequence):
        _check_rows(data.rows[:limit], task.fault, on_error)
    begin = time.monotonic()
    done = DoneRows(out, identity, rank)
    try:
        done.forget([record["row"] for record in done if "bad" in record])  # they may have been mended
        count = 0
        mine = _mine(islice(data.rows, limit), rank, world_size)
        total = len(data.rows[rank:limit:world_size]) if isinstance(data.rows, Sequence) else None
        with tqdm(desc=task.name, unit="row", total=total, disable=rank != 0) as bar:
            for window, count in _windows(mine, _WINDOW * batch_size):  # noqa: B007
                todo = [(number, row) for number, row in window if number not in done]
                _check_done(done, window)
                bar.update(len(window) - len(todo))
                for records in _measured(task, todo, batch_size, on_error):
                    done.add(records)
                    bar.update(len(records))
        if not count:
            raise ValueError(f"The data ({data.format}) has no rows{f' but {limit}' if limit else ''}.")
        done.read()
        if len(done) < count:
            logger.info("%s: this process is done, others are still at work", out)
            return None
        environment = {**environment_of(), "batch_size": batch_size, "processes": world_size}
        result = _result(task, identity, done, environment)
    finally:
        done.close()
    result["seconds"] = round(time.monotonic() - begin, 1)
    write_text(out, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    write_text(out.with_suffix(".md"), markdown(result))
    return result


def _check_options(batch_size: int, limit: int | None, on_error: str) -> None:
    if batch_size < 1 or limit is not None and limit < 1:
        raise ValueError(f"batch_size and limit must be at least 1, got {batch_size} and {limit}.")
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error must be raise or skip, got {on_error!r}.")


def _check_rows(rows: Sequence[EvaluationRow], fault: Callable[[EvaluationRow], str], on_error: str) -> None:
    """Raises `ValueError` before the work begins if rows, or the files of their images, cannot be used."""
    if on_error == "skip":
        return
    bad = [(_written(row.id), reason) for row in rows if (reason := _fault(row, fault))]
    if bad:
        raise ValueError(
            f"{len(bad)} of {len(rows)} rows cannot be used, the first: {bad[0][0]}: {bad[0][1]}. "
            "--on-error skip leaves them out and lists them in the result."
        )


def _reason(row: EvaluationRow, fault: Callable[[EvaluationRow], str]) -> str:
    """Why a row cannot be used, as far as it tells without its image."""
    if row.fault:
        return row.fault
    if row.group == ALL:
        return f"its group has the name {ALL!r}, which is that of all rows together"
    texts = (row.id, row.question, row.instruction, row.group, *row.captions, *row.answers, *row.choices)
    if broken := [text for text in texts if _written(text) != text]:
        return f"{broken[0]!r:.60} holds half a surrogate pair, which is no character"
    return fault(row)


def _written(text: str) -> str:
    """A text that can be written to a file, equal to the given one if that can."""
    return text.encode(errors="backslashreplace").decode()


def _fault(row: EvaluationRow, fault: Callable[[EvaluationRow], str]) -> str:
    if reason := _reason(row, fault):
        return reason
    return f"no file {row.image}" if isinstance(row.image, str) and not os.path.isfile(row.image) else ""


def _mine(rows: Iterable[EvaluationRow], rank: int, world_size: int) -> Iterator[tuple[int, EvaluationRow | None]]:
    """All rows with their numbers; `None` in place of those of other processes."""
    for number, row in enumerate(rows):
        yield number, row if number % world_size == rank else None


def _windows(
    rows: Iterable[tuple[int, EvaluationRow | None]], size: int
) -> Iterator[tuple[list[tuple[int, EvaluationRow]], int]]:
    """Lists of at most `size` rows of this process, each with how many rows of all processes were read so far.

    Also not more than some bytes of images: photographs in Parquet are megabytes each.
    """
    window, count, held = [], 0, 0
    for number, row in rows:
        count = number + 1
        if row is not None:
            window.append((number, row))
            held += len(row.image) if isinstance(row.image, bytes) else 0
        if len(window) == size or held >= _WINDOW_BYTES:
            yield window, count
            window, held = [], 0
    if count:
        yield window, count


def _measured(
    task: Task, window: list[tuple[int, EvaluationRow]], batch_size: int, on_error: str
) -> Iterator[list[dict[str, Any]]]:
    """The records of the rows, in batches."""
    bad = {number: reason for number, row in window if (reason := _reason(row, task.fault))}
    images = {row.image: row.id for number, row in window if number not in bad and row.image is not None}
    seen, digests, broken = _see(task, images, batch_size)
    bad |= {number: broken[row.image] for number, row in window if row.image in broken}
    if bad and on_error == "raise":
        number, reason = min(bad.items())
        row_id = next(row.id for found, row in window if found == number)
        raise ValueError(f"Row {number} ({row_id}): {reason}. --on-error skip leaves such rows out and lists them.")
    yield [{"row": number, "id": _written(row.id), "bad": bad[number]} for number, row in window if number in bad]
    sound = [(number, row) for number, row in window if number not in bad]
    sound.sort(key=lambda pair: (-task.length(pair[1]), pair[0]))
    for start in range(0, len(sound), batch_size):
        batch = sound[start : start + batch_size]
        measured = task.measure([row for _, row in batch], [seen.get(row.image) for _, row in batch])
        yield [
            {"row": number, "id": row.id, "sha256": _digest(row, digest), "image": _image_name(row, digest), **record}
            for (number, row), record in zip(batch, measured, strict=True)
            for digest in [digests.get(row.image)]
        ]


def _check_done(done: DoneRows, window: list[tuple[int, EvaluationRow]]) -> None:
    """Raises `ValueError` if rows have other captions, answers or images than when they were measured."""
    digests: dict[Any, str] = {}
    for number, row in window:
        if number not in done or "bad" in (record := done[number]):
            continue
        if row.image is not None and row.image not in digests:
            with suppress(OSError):  # gone, which is other content, too
                digests[row.image] = _content(row.image)
        if record["sha256"] != _digest(row, digests.get(row.image)):
            raise ValueError(
                f"{done.path}: row {number} ({row.id}) was evaluated with other content than it has now. Give another "
                "--out, or remove the file."
            )


def _see(
    task: Task, images: Mapping[bytes | str, str], batch_size: int
) -> tuple[dict[Any, Any], dict[Any, str], dict[Any, str]]:
    """What the task sees in each image, the hash of its file, and what is wrong with those that cannot be read.

    Args:
        task: Sees.
        images: The distinct images, each with the id of a row that has it.
        batch_size: Images at a time.
    """
    seen: dict[Any, Any] = {}
    digests: dict[Any, str] = {}
    broken: dict[Any, str] = {}
    keys = list(images)
    for start in range(0, len(keys), batch_size):
        loaded = {}
        for image in keys[start : start + batch_size]:
            try:
                loaded[image] = load_image(image, name=image if isinstance(image, str) else images[image])
                digests[image] = _content(image)
            except SeedImageError as error:
                broken[image] = str(error).rstrip(".")
        if loaded:
            seen |= zip(loaded, task.see(list(loaded.values())), strict=True)
    return seen, digests, broken


def _content(image: bytes | str) -> str:
    if isinstance(image, bytes):
        return hashlib.sha256(image).hexdigest()
    with open(image, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(row: EvaluationRow, image: str | None) -> str:
    """Hash of all that a row says, with the content of its image."""
    said = [row.id, image, row.captions, row.question, row.answers, row.choices, row.right, row.group]
    said += [text for text in (row.shows, row.instruction) if text]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _image_name(row: EvaluationRow, digest: str | None) -> str | None:
    """What is equal in rows of one image: by its file's name and content, or where it has none by its content."""
    name = os.path.basename(row.image) if isinstance(row.image, str) else ""
    return None if digest is None else hashlib.sha256(f"{name} {digest}".encode()).hexdigest()[:32]


def _result(task: Task, identity: Mapping[str, Any], done: DoneRows, environment: Mapping[str, Any]) -> dict[str, Any]:
    bad, rows, digest = [], 0, hashlib.sha256()
    for record in done:
        if "bad" in record:
            bad.append({name: record[name] for name in ("row", "id", "bad")})
        else:
            rows += 1
            digest.update(record["sha256"].encode())
    if not rows:
        raise ValueError(f"None of {len(bad)} rows can be used, the first: {bad[0]['id']}: {bad[0]['bad']}.")
    deviations = [
        f"{name} is {task.settings[name]!r}; the authors' is {value!r}"
        for name, value in task.protocol.items()
        if task.settings[name] != value
    ]
    return {
        **{name: identity[name] for name in ("task", "model", "settings")},
        "deviations": deviations,
        "data": {**identity["data"], "rows": rows, "rows_sha256": digest.hexdigest(), "bad_rows": bad},
        "figures": task.figures(Reread(_sound, done)),
        "environment": dict(environment),
    }


def _sound(records: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The records of the rows that could be used."""
    return (record for record in records if "bad" not in record)
