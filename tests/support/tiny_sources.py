"""Builders of small image-text sources on disk, some of them damaged."""

import io
import json
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def noise(seed: int, width: int = 20, height: int = 16, kind: str = "PNG") -> bytes:
    """An encoded image of random pixels, different for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def bomb() -> bytes:
    """A PNG of under 100 bytes whose header promises 20000 x 20000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def rows(count: int, first: int = 0) -> list[dict]:
    return [{"id": f"id{i}", "caption": f"caption {i}", "image": noise(i)} for i in range(first, first + count)]


def damaged_rows(count: int, every: int = 20) -> tuple[list[dict], dict[str, str]]:
    """Rows of which one in `every` is damaged, and for the id of each of those a word of the reason."""
    made, bad = rows(count), {}
    kinds = (
        (lambda image: image[: len(image) // 2], "cut off"),
        (lambda image: b"", "empty"),
        (lambda image: b"this is a text", "not an image"),
        (lambda image: bomb(), "400000000 pixels|huge|20000 x 20000"),
        (lambda image: None, "none"),
    )
    for number, row in enumerate(made[every // 2 :: every]):
        damage, reason = kinds[number % len(kinds)]
        row["image"] = damage(row["image"])
        bad[row["id"]] = reason
    return made, bad


def write_parquet(path: Path, made: list[dict], row_group_size: int = 10) -> Path:
    """Images as `datasets` stores them: a struct of bytes and path."""
    table = pa.table(
        {
            "id": [row["id"] for row in made],
            "caption": [row["caption"] for row in made],
            "image": pa.array(
                [{"bytes": row["image"], "path": None} for row in made],
                pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
            ),
        }
    )
    pq.write_table(table, path, row_group_size=row_group_size)
    return path


def write_tar(
    path: Path, made: list[dict], caption: str = "txt", image: str = "png", mode: str = "w", **options
) -> Path:
    with tarfile.open(path, mode, **options) as tar:
        for row in made:
            text = json.dumps({"caption": row["caption"]}) if caption == "json" else row["caption"]
            for ending, data in ((image, row["image"]), (caption, text.encode())):
                member = tarfile.TarInfo(f"{row['id']}.{ending}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return path


def write_folder(path: Path, made: list[dict]) -> Path:
    """Images and `metadata.jsonl`; a row without an image has no file."""
    path.mkdir(exist_ok=True)
    with open(path / "metadata.jsonl", "w", encoding="utf-8") as file:
        for row in made:
            name = f"{row['id']}.jpg"
            if row["image"] is not None:
                (path / name).write_bytes(row["image"])
            file.write(json.dumps({"file_name": name, "caption": row["caption"], "id": row["id"]}) + "\n")
    return path
