"""Building the pictogram set: 128 x 128 pictures with captions, from emoji packages and public-domain clip art.

    python -m seed_hf.pictograms.building --out DIR [--no-clip-art]
    python -m seed_hf.pictograms.building --compare BUILT REFERENCE

Ten drawing styles of emoji come from npm packages of fixed versions, an eleventh style, clip art, and the definitions
from two Debian packages. Nothing in the packages is run. NOTICE names the licences.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image as PILImage

from .clipart import CLIP_ART_PACKAGE, clip_art_rows
from .dataset import SPLITS
from .emoji import STYLES, TEXT_PACKAGES, EmojiConcepts, IconSet
from .packages import PackageError, fetch_debian, fetch_npm
from .pictures import Picture, fingerprint, kept_pictures, make_row, write_whole
from .splits import split_of
from .wordnet import WordNet


logger = logging.getLogger(__name__)

TEXT_COLUMNS = (
    *("caption", "rich_caption", "style", "style_phrase", "concept", "category", "subcategory"),
    *("keywords", "colours", "definition", "licence", "source"),
)
WORDNET_PACKAGE = "wordnet-base"


def build_pictograms(
    out: str | Path,
    *,
    work_dir: str | Path | None = None,
    sources: Mapping[str, str | Path] | None = None,
    clip_art: bool = True,
) -> dict[str, int]:
    """Write train.parquet, validation.parquet, test_concept.parquet and test_style.parquet.

    Everything is the same on every machine: ids, captions, splits and order; pictures up to rounding in the renderer.
    A stopped build goes on with the package or the style that it was at.

    Args:
        out: the folder for the four files.
        work_dir: where unpacked packages and drawn styles are kept, 450 MB; `out`/.work by default. It may be deleted
            after the build.
        sources: folders of packages that are unpacked already, by package name; these are not fetched.
        clip_art: also draw the clip art of the Debian package openclipart-svg. Without it neither apt-get nor dpkg-deb
            is required; definitions are then left empty if wordnet-base cannot be had.

    Returns:
        The number of rows of each split.

    Raises:
        PackageError: a package or the client that fetches it is missing; the message says how to get it.
    """
    out = Path(out)
    work_dir = Path(work_dir) if work_dir is not None else out / ".work"
    given = {name: Path(folder) for name, folder in (sources or {}).items()}
    packages = _npm_packages(work_dir / "packages", given)
    wordnet, clip_folder = _debian_packages(work_dir / "packages", given, clip_art)

    rows: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    seen: set[str] = set()
    all_rows = [_emoji_rows(packages, wordnet, work_dir / "rendered")]
    if clip_art:
        all_rows.append(clip_art_rows(clip_folder, wordnet, work_dir / "rendered"))
    for source in all_rows:
        for name, row, picture in source:
            if picture.pixels not in seen:  # many packages repeat a picture under several names
                seen.add(picture.pixels)
                rows[split_of(row["id"], name, row["licence"])].append(row)
    for split, split_rows in rows.items():
        _write_split(split_rows, out / f"{split}.parquet")
    counts = {split: len(split_rows) for split, split_rows in rows.items()}
    logger.info("wrote %s to %s", ", ".join(f"{count} {split}" for split, count in counts.items()), out)
    return counts


def compare_pictograms(built: str | Path, reference: str | Path) -> dict[str, dict[str, float]]:
    """Compare two built sets, split by split.

    Returns:
        For each split: rows of both, `missing` (only in the reference), `extra` (only in the build), how many of the
        common rows have an equal caption, rich caption, colours and so on, how many are equal in all texts, and the
        mean and the largest mean absolute difference of a picture (0 to 255 over its RGB values).
    """
    report = {}
    for split in SPLITS:
        ours, theirs = (_rows_by_id(Path(folder) / f"{split}.parquet") for folder in (built, reference))
        common = [row_id for row_id in theirs if row_id in ours]
        pairs = [(ours[row_id], theirs[row_id]) for row_id in common]
        differences = [float(np.abs(_pixels(mine) - _pixels(other)).mean()) for mine, other in pairs]
        entry: dict[str, float] = {"rows": len(ours), "reference": len(theirs), "common": len(common)}
        entry |= {"missing": len(theirs) - len(common), "extra": len(ours) - len(common)}
        for column in ("caption", "rich_caption", "colours", "definition", "keywords", "category"):
            entry[f"{column}_equal"] = sum(mine[column] == other[column] for mine, other in pairs)
        entry["texts_equal"] = sum(all(mine[c] == other[c] for c in TEXT_COLUMNS) for mine, other in pairs)
        entry["picture_difference_mean"] = round(float(np.mean(differences)), 5) if differences else 0.0
        entry["picture_difference_max"] = round(max(differences), 5) if differences else 0.0
        report[split] = entry
    return report


def _npm_packages(folder: Path, given: Mapping[str, Path]) -> dict[str, Path]:
    wanted = {style.package: style.version for style in STYLES} | TEXT_PACKAGES
    return {name: given.get(name) or fetch_npm(name, version, folder) for name, version in wanted.items()}


def _debian_packages(folder: Path, given: Mapping[str, Path], clip_art: bool) -> tuple[WordNet | None, Path | None]:
    try:
        wordnet = WordNet(given.get(WORDNET_PACKAGE) or fetch_debian(WORDNET_PACKAGE, folder))
        return wordnet, (given.get(CLIP_ART_PACKAGE) or fetch_debian(CLIP_ART_PACKAGE, folder)) if clip_art else None
    except PackageError as error:
        if clip_art:
            raise PackageError(f"{error} (clip_art=False, or --no-clip-art, builds the emoji alone)") from None
        logger.warning("definitions are left empty: %s", error)
        return None, None


def _emoji_rows(
    packages: Mapping[str, Path], wordnet: WordNet | None, rendered: Path
) -> Iterator[tuple[str, dict[str, Any], Picture]]:
    """(name of the concept, row, picture) of every emoji in every style."""
    concepts = EmojiConcepts(packages)
    flat_style = next(style for style in STYLES if style.name == "fluent-flat")
    flat = IconSet(flat_style, packages[flat_style.package], concepts)
    for style in STYLES:
        icons = flat if style is flat_style else IconSet(style, packages[style.package], concepts, flat)
        path = rendered / f"{style.name}-{fingerprint(*icons.fingerprint_parts())}.parquet"
        for code, picture in kept_pictures(path, icons.codes, icons.picture, style.name).items():
            concept = concepts.concepts[code]
            definition = wordnet.define(concept.name, concept.category) if wordnet else ""
            yield (
                concept.name,
                make_row(
                    style,
                    f"emoji:{code}",
                    picture,
                    caption=concept.caption,
                    category=concept.category,
                    subcategory=concept.subcategory,
                    keywords=list(concept.keywords),
                    definition=definition,
                    source=f"npm {style.package} {style.version}",
                ),
                picture,
            )


def _write_split(rows: list[dict[str, Any]], path: Path) -> None:
    from datasets import Features, Image, List, Value

    columns = {"id": Value("string"), "image": Image()} | {name: Value("string") for name in TEXT_COLUMNS}
    columns |= {name: List(Value("string")) for name in ("keywords", "colours")}
    schema = Features(columns).arrow_schema  # carries the metadata by which `datasets` knows the pictures
    compression = {name: "snappy" for name in schema.names if name not in ("image", "keywords", "colours")}
    compression |= {f"{name}.list.element": "snappy" for name in ("keywords", "colours")}
    compression |= {"image.bytes": "none", "image.path": "none"}  # pictures are compressed already
    write_whole(pa.Table.from_pylist(rows, schema=schema), path, compression=compression)


def _rows_by_id(path: Path) -> dict[str, dict[str, Any]]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; give the folder of a built pictogram set")
    return {row["id"]: row for row in pq.read_table(path).to_pylist()}


def _pixels(row: Mapping[str, Any]) -> np.ndarray:
    with PILImage.open(io.BytesIO(row["image"]["bytes"])) as picture:
        return np.asarray(picture.convert("RGB"), dtype=np.float32)


def main(arguments: list[str] | None = None) -> int:
    """The command line of this module; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m seed_hf.pictograms.building", description="Build the pictogram set."
    )
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--out", type=Path, help="folder for the four Parquet files")
    task.add_argument("--compare", nargs=2, type=Path, metavar=("BUILT", "REFERENCE"), help="compare two built sets")
    parser.add_argument("--work-dir", type=Path, help="where packages and drawn styles are kept (default: OUT/.work)")
    parser.add_argument("--no-clip-art", action="store_true", help="emoji only; needs no Debian package")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        if options.compare:
            print(json.dumps(compare_pictograms(*options.compare), indent=2))
        else:
            build_pictograms(options.out, work_dir=options.work_dir, clip_art=not options.no_clip_art)
    except (PackageError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
