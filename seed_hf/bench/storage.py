"""Codes on disk, and codes as ids of the language model.

Two comparisons, each side by side in one run:

- storage: one pickle an image in a tar, as the authors store codes, against Parquet with the columns of
  `seed-hf tokenize`: bytes a row, rows a second written, rows a second read into arrays;
- ids: from codes to text to ids and back, as the authors do, against an addition.

Codes are random, which no format can compress. Captions come from a Parquet file, or are random words.
"""

import io
import pickle
import platform
import random
import statistics
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import AutoTokenizer

from seed_hf.artifacts.bundled import bundled


CODES, CODEBOOK = 32, 8192
WORDS = "a red blue man woman with white black face hand cat dog bird heart sun star house car tree flower".split()


def measure(*, data: Path | None = None, rows: int = 50_000, rounds: int = 3) -> dict:
    """Both comparisons.

    Args:
        data: Parquet file with a column `caption`; random words by default.
        rows: Rows that are stored.
        rounds: How often each way is timed, in turn; the median counts.

    Returns:
        A report for JSON: `storage` and `ids`, each with the figures of both ways and their ratio.
    """
    generator = np.random.default_rng(0)
    codes = generator.integers(0, CODEBOOK, (rows, CODES), dtype=np.uint16)
    return {
        "machine": platform.processor() or platform.machine(),
        "rows": rows,
        "storage": storage(codes, caption_list(data, rows), rounds),
        "ids": ids(codes[:2000], rounds),
    }


def table(report: dict) -> str:
    """The figures as lines of text.

    Args:
        report: Of `measure`.
    """
    lines = []
    for name, part in report.items():
        if isinstance(part, dict):
            lines.append(name)
            for way, figures in part.items():
                lines.append(f"  {way:<28}" + "  ".join(f"{key} {value:,.1f}" for key, value in figures.items()))
    return "\n".join(lines)


def caption_list(data: Path | None, rows: int) -> list[str]:
    if data is not None:
        found = pq.read_table(data, columns=["caption"])["caption"].to_pylist()
        return [found[i % len(found)] for i in range(rows)]
    draw = random.Random(0)
    return [" ".join(draw.choices(WORDS, k=draw.randint(2, 8))) for _ in range(rows)]


def seconds(*ways, rounds: int) -> list[float]:
    """Median seconds of each way, timed in turn."""
    taken: list[list[float]] = [[] for _ in ways]
    for _ in range(rounds):
        for way, found in zip(ways, taken):
            begun = time.perf_counter()
            way()
            found.append(time.perf_counter() - begun)
    return [statistics.median(found) for found in taken]


def storage(codes: np.ndarray, captions: list[str], rounds: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        tar, parquet = Path(folder) / "codes.tar", Path(folder) / "codes.parquet"
        wrote = seconds(
            lambda: write_tar(tar, codes, captions), lambda: write_parquet(parquet, codes, captions), rounds=rounds
        )
        read = seconds(lambda: read_tar(tar), lambda: read_parquet(parquet), rounds=rounds)
        assert np.array_equal(read_parquet(parquet)[0], read_tar(tar)[0])
        sizes = [path.stat().st_size for path in (tar, parquet)]
    found = {}
    for number, name in enumerate(("pickles in a tar", "Parquet")):
        found[name] = {
            "bytes a row": sizes[number] / len(codes),
            "rows/s written": len(codes) / wrote[number],
            "rows/s read": len(codes) / read[number],
        }
    ours, theirs = found["Parquet"], found["pickles in a tar"]
    found["ratio"] = {
        "smaller": theirs["bytes a row"] / ours["bytes a row"],
        "faster written": ours["rows/s written"] / theirs["rows/s written"],
        "faster read": ours["rows/s read"] / theirs["rows/s read"],
    }
    return found


def write_tar(path: Path, codes: np.ndarray, captions: list[str]) -> None:
    with tarfile.open(path, "w") as tar:
        for number, (row, caption) in enumerate(zip(codes, captions)):
            content = pickle.dumps({"image_ids": row.tolist(), "text": caption})
            member = tarfile.TarInfo(f"{number:09d}.pkl")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


class _PlainUnpickler(pickle.Unpickler):
    """Reads lists, numbers and text; a pickle that names a class or function is refused."""

    def find_class(self, module: str, name: str):
        raise pickle.UnpicklingError(f"The pickle names {module}.{name}; only plain values are read.")


def read_tar(path: Path) -> tuple[np.ndarray, list[str]]:
    rows, captions = [], []
    with tarfile.open(path) as tar:
        for member in tar:
            pickled = tar.extractfile(member)
            assert pickled is not None  # all members are files
            content = _PlainUnpickler(pickled).load()
            rows.append(content["image_ids"])
            captions.append(content["text"])
    return np.asarray(rows, np.uint16), captions


def write_parquet(path: Path, codes: np.ndarray, captions: list[str]) -> None:
    column = pa.FixedSizeListArray.from_arrays(pa.array(codes.reshape(-1)), CODES)
    ids = [f"{number:09d}" for number in range(len(codes))]
    pq.write_table(pa.table({"id": ids, "caption": captions, "codes": column}), path)


def read_parquet(path: Path) -> tuple[np.ndarray, list[str]]:
    table = pq.read_table(path, columns=["caption", "codes"])
    codes = table["codes"].combine_chunks().flatten().to_numpy().reshape(-1, CODES)
    return codes, table["caption"].to_pylist()


def ids(codes: np.ndarray, rounds: int) -> dict:
    """Codes to ids of the language model and back, row by row: through text, and by an addition."""
    tokenizer = AutoTokenizer.from_pretrained(bundled("seed-tiny", "model"), trust_remote_code=False)
    size = sum(name.startswith("<img_") for name in tokenizer.get_vocab())
    offset = tokenizer.convert_tokens_to_ids("<img_00000>")
    rows = torch.from_numpy(codes.astype(np.int64)) % size

    def by_text() -> torch.Tensor:
        found = []
        for row in rows:
            text = "".join(f"<img_{code:05d}>" for code in row.tolist())
            read = tokenizer(text, add_special_tokens=False)["input_ids"]
            names = tokenizer.convert_ids_to_tokens(read)
            found.append([int(name[5:-1]) for name in names])
        return torch.tensor(found)

    def by_adding() -> torch.Tensor:
        return torch.stack([(row + offset) - offset for row in rows])

    assert torch.equal(by_text(), rows) and torch.equal(by_adding(), rows)
    text, adding = seconds(by_text, by_adding, rounds=rounds)
    return {
        "through text": {"rows/s": len(rows) / text},
        "integers": {"rows/s": len(rows) / adding},
        "ratio": {"faster": text / adding},
    }
