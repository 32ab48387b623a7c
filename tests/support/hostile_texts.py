"""Sources with captions and names that are no text, or only look strange: what a stranger's data set may hold."""

import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tiny_sources import noise


# The content of a text file, and the caption that it is; `None` for a bad row.
TEXTS: dict[str, tuple[bytes, str | None]] = {
    "latin-1": ("a café".encode("latin-1"), None),
    "utf-16 with a mark": ("a cat".encode("utf-16"), None),
    "utf-16 without one": ("a cat".encode("utf-16-le"), None),
    "utf-16, big end first": (b"\xfe\xff" + "a cat".encode("utf-16-be"), None),
    "utf-32": ("a cat".encode("utf-32-be"), None),
    "a wrong byte": (b"a cat\xff", None),
    "a cut character": ("a cat €".encode()[:-1], None),
    "a surrogate in UTF-8": (b"a cat \xed\xa0\x80", None),
    "a byte order mark": ("\ufeffa cat".encode(), "a cat"),
    "right to left, and an emoji": ("חתול 🐱\u200d👤".encode(), "חתול 🐱\u200d👤"),
    "digits": (b"007", "007"),
    "a word of pandas": (b"NA", "NA"),
}

# The same for a JSON object of which the field `caption` is read.
OBJECTS: dict[str, tuple[bytes, str | None]] = {
    **{name: (b'{"caption": "%s"}' % data, text) for name, (data, text) in TEXTS.items()},
    "cut": (b'{"caption": "a c', None),
    "a lone surrogate": (rb'{"caption": "a \ud800 cat"}', None),
    "a pair of surrogates": (rb'{"caption": "a \ud83d\udc31"}', "a 🐱"),
    "a NUL": (rb'{"caption": "a \u0000cat"}', None),
    "a number of 5,000 digits": (b'{"caption": "a cat", "n": ' + b"9" * 5000 + b"}", None),
    "nested too deep": (b'{"caption": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", None),
    "a number": (b'{"caption": 7}', None),
    "a fraction": (b'{"caption": 1.5}', None),
    "not a number": (b'{"caption": NaN}', None),
    "a truth value": (b'{"caption": true}', None),
    "a mapping": (b'{"caption": {"en": "a cat"}}', None),
    "a list of numbers": (b'{"caption": [1, 2]}', None),
    "several captions": (b'{"caption": ["a", "b"]}', None),
    "a list of one": (b'{"caption": ["a cat"]}', "a cat"),
}
FILES: dict[str, tuple[bytes, str | None]] = {
    **OBJECTS,
    "empty": (b"", None),
    "a list": (b'["a cat"]', None),
    "a text": (b'"a cat"', None),
    "a mark before the object": (b'\xef\xbb\xbf{"caption": "a cat"}', "a cat"),
    "utf-16 as a whole": ('{"caption": "a cat"}'.encode("utf-16"), None),
}


def tar_of(path: Path, contents: list[bytes], ending: str = "txt", names: list[bytes] | None = None) -> Path:
    """A tar of noise images, each with one of the contents beside it.

    Args:
        path: Where to write it.
        contents: Of the files beside the images.
        ending: Of these files.
        names: Of the samples, as bytes; by default r0, r1 ...
    """
    with tarfile.open(path, "w", encoding="utf-8", errors="surrogateescape", format=tarfile.GNU_FORMAT) as tar:
        for number, content in enumerate(contents):
            name = names[number].decode(errors="surrogateescape") if names else f"r{number}"
            for suffix, data in (("png", noise(number)), (ending, content)):
                member = tarfile.TarInfo(f"{name}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return path


def text_array(values: list[bytes | None], value_type: pa.DataType | None = None) -> pa.Array:
    """A column of text that holds these bytes, whether or not they are UTF-8."""
    stored = pa.array(values, pa.binary())
    return pa.Array.from_buffers(value_type or pa.string(), len(values), stored.buffers(), stored.null_count)


def parquet_of(path: Path, row_group_size: int = 5, **columns) -> Path:
    """A Parquet file of noise images and these columns."""
    arrays = {name: values if isinstance(values, pa.Array) else pa.array(values) for name, values in columns.items()}
    images = pa.array([noise(number) for number in range(len(next(iter(arrays.values()))))])
    pq.write_table(pa.table({"image": images, **arrays}), path, row_group_size=row_group_size)
    return path


def folder_of(path: Path, metadata: bytes, count: int, file: str = "metadata.jsonl") -> Path:
    """A folder of noise images r0.png, r1.png ... and this metadata."""
    path.mkdir(exist_ok=True)
    for number in range(count):
        (path / f"r{number}.png").write_bytes(noise(number))
    (path / file).write_bytes(metadata)
    return path


def lines_of(objects: list[bytes]) -> bytes:
    """Lines of a `metadata.jsonl` of JSON objects, each with the name of its image."""
    named = [item.replace(b"{", b'{"file_name": "r%d.png", ' % row, 1) for row, item in enumerate(objects)]
    return b"".join(item + b"\n" for item in named)


def table_of(values: list[bytes]) -> bytes:
    """A `metadata.csv` of captions."""
    lines = [b'r%d.png,"%s"' % (row, value.replace(b'"', b'""')) for row, value in enumerate(values)]
    return b"\r\n".join([b"file_name,caption", *lines, b""])


def between_sound_rows(cases: dict[str, tuple[bytes, str | None]], sound: bytes = b"sound") -> tuple[list, list]:
    """Contents in which each case stands between sound ones, and the captions that they are."""
    contents, captions = [sound], [json.loads(sound)["caption"] if sound.startswith(b"{") else sound.decode()]
    for data, caption in cases.values():
        contents += [data, sound]
        captions += [caption, captions[0]]
    return contents, captions
