"""A seeded sweep of hostile captions through every format, against an oracle that knows Python's codecs alone."""

import json
import random
from pathlib import Path

import pyarrow as pa

from hostile_texts import folder_of, lines_of, parquet_of, table_of, tar_of, text_array
from seed_hf.data.sources.image_text import image_text_dataset
from seed_hf.data.sources.row_checks import RowReport
from seed_hf.data.sources.source import open_source


WORDS = (
    "a cat",
    "a house",
    "café",
    "猫",
    "חתול",
    "🐱",
    "NA",
    "007",
    "1.50",
    "true",
    '"',
    "'",
    ",",
    "\n",
    "\r",
    "\t",
    "\\",
)
ENCODINGS = ("utf-8",) * 3 + (
    "utf-8-sig",
    "latin-1",
    "cp1252",
    "utf-16",
    "utf-16-le",
    "utf-32",
    "shift_jis",
    "gb18030",
)
FORMATS = ("tar", "tar of json", "parquet", "parquet of bytes", "parquet of lists", "lines", "table")


def random_text(draw: random.Random) -> bytes:
    """Some words in some encoding; in half of all cases with bytes changed, added or cut off."""
    words = "".join(draw.choice(WORDS) for _ in range(draw.randrange(6)))
    data = bytearray(words.encode(draw.choice(ENCODINGS), "ignore"))
    if draw.random() < 0.5:
        for _ in range(draw.randrange(1, 4)):
            place, kind = draw.randrange(len(data) + 1), draw.randrange(3)
            data[place : place + (kind != 1)] = b"" if kind == 2 else draw.randbytes(1)
    return bytes(data)


def random_object(draw: random.Random, text: bytes) -> bytes:
    """A JSON object with the text as its caption, or with something else there; sometimes cut off."""
    caption = text.decode("utf-8", "surrogateescape")
    values = (caption, caption, caption, [caption], None, 7, 1.5, True, {"en": caption}, "\ud800", [None])
    value = json.dumps(draw.choice(values), ensure_ascii=draw.random() < 0.5)
    data = b'{"caption": %s}' % value.encode("utf-8", "surrogatepass" if "\ud800" in value else "surrogateescape")
    return data[: draw.randrange(1, len(data))] if draw.random() < 0.2 else data


def text_in(data: bytes) -> str | None:
    """The caption that a file's content is; `None` if it is no text."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text.removeprefix("\ufeff")


def caption_in(data: bytes) -> tuple[bool, str | None]:
    """Whether a JSON file is a row, and its caption."""
    text = text_in(data)
    try:
        value = json.loads(text)["caption"] if text is not None else 0
    except ValueError:
        return False, None
    if isinstance(value, list):
        value = next((item for item in value if item is not None), None) if len(value) == 1 else value
    if value is not None and not isinstance(value, str):
        return False, None
    if value and text_in(value.encode("utf-8", "surrogatepass")) is None:
        return False, None
    return True, value and value.removeprefix("\ufeff")


def sweep(folder: Path, seed: int, count: int) -> int:
    """Read `count` hostile captions in every format; raise `AssertionError` where a row is lost, changed or invented.

    Args:
        folder: An empty folder.
        seed: Of the captions.
        count: Rows of each format; every other one is sound.

    Returns:
        How many rows were bad.
    """
    draw, bad = random.Random(seed), 0
    for kind in FORMATS:
        texts = [b"sound"] + [random_text(draw) if row % 2 else b"sound" for row in range(1, count)]
        expected = [(text_in(text) is not None, text_in(text)) for text in texts]
        path = folder / kind.replace(" ", "-")
        if kind in ("tar of json", "lines"):
            objects = [random_object(draw, text) if text != b"sound" else b'{"caption": "sound"}' for text in texts]
            expected = [caption_in(item) for item in objects]
        if kind == "tar":
            source = tar_of(path.with_suffix(".tar"), texts)
        elif kind == "tar of json":
            source = tar_of(path.with_suffix(".tar"), objects, "json")
        elif kind == "lines":
            source = folder_of(path, lines_of(objects), count)
        elif kind == "table":
            source = folder_of(path, table_of(texts), count, "metadata.csv")
        else:
            column = pa.array(texts, pa.binary()) if kind == "parquet of bytes" else text_array(texts)
            if kind == "parquet of lists":
                column = pa.ListArray.from_arrays(pa.array(range(count + 1), pa.int32()), column)
            source = parquet_of(path.with_suffix(".parquet"), caption=column)
        report = RowReport(max_bad=None)
        rows = image_text_dataset(source, on_error="skip", report=report)
        found = [row["caption"] if "caption" in row else row["captions"][0] for row in rows]
        assert found == [text for good, text in expected if good and (text or "").strip()], (kind, seed)
        assert [entry["row"] for entry in report.bad] == [row for row, (good, _) in enumerate(expected) if not good]
        named = {row.id for row in open_source(source).rows(0, 0, count)}
        unnamed = sum(f"r{row}.png" not in named for row in range(count)) if path.is_dir() else 0  # by a bad line
        assert report.read == count + unnamed, (kind, seed)
        assert report.read == report.kept + report.bad_count + report.dropped["empty_caption"], (kind, seed)
        bad += report.bad_count
    return bad
