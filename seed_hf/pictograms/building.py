"""Building the pictogram set: 128 x 128 images with captions, from emoji packages and public-domain clip art.

npm packages of fixed versions hold ten drawing styles of emoji. Two Debian packages hold an eleventh style, clip art,
and the definitions. Nothing in the packages is run. NOTICE names the licences.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image as PILImage

from .clipart import CLIP_ART_PACKAGE, clip_art_rows
from .drawings import Drawing, fingerprint, kept_drawings
from .emoji import STYLES, TEXT_PACKAGES, EmojiConcepts, IconSet
from .packages import PackageError, fetch_debian, fetch_npm
from .reading import SPLITS
from .rows import TEXT_COLUMNS, make_row, write_split
from .splits import split_of
from .wordnet import WordNet


logger = logging.getLogger(__name__)

WORDNET_PACKAGE = "wordnet-base"


def build_pictograms(
    out: str | Path,
    *,
    work_dir: str | Path | None = None,
    sources: Mapping[str, str | Path] | None = None,
    clip_art: bool = True,
) -> dict[str, int]:
    """Write train.parquet, validation.parquet, test_concept.parquet and test_style.parquet.

    Ids, captions, splits and order are the same on every machine; images differ at most by rounding in the renderer.
    A stopped build resumes at the package or the style that it had reached.

    Args:
        out: Folder for the four files.
        work_dir: Folder for unpacked packages and drawn styles, 450 MB; `out`/.work by default. It may be deleted
            after the build.
        sources: Folders of unpacked packages by package name; these packages are not fetched.
        clip_art: Whether to draw the clip art of the Debian package openclipart-svg. Without it apt-get and dpkg-deb
            are not required; definitions are left empty if wordnet-base is not available.

    Returns:
        The number of rows of each split.

    Raises:
        PackageError: A package or the client that fetches it is missing; the message says how to get it.
    """
    out = Path(out)
    work_dir = Path(work_dir) if work_dir is not None else out / ".work"
    given = {name: Path(folder) for name, folder in (sources or {}).items()}
    packages = _npm_packages(work_dir / "packages", given)
    wordnet, clip_folder = _debian_packages(work_dir / "packages", given, clip_art)

    rows: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    seen: set[str] = set()
    all_rows = [_emoji_rows(packages, wordnet, work_dir / "rendered")]
    if clip_folder is not None and wordnet is not None:  # as asked for
        all_rows.append(clip_art_rows(clip_folder, wordnet, work_dir / "rendered"))
    for source in all_rows:
        for name, row, drawing in source:
            if drawing.pixels not in seen:  # many packages repeat a drawing under several names
                seen.add(drawing.pixels)
                rows[split_of(row["id"], name, row["licence"])].append(row)
    for split, split_rows in rows.items():
        write_split(split_rows, out / f"{split}.parquet")
    counts = {split: len(split_rows) for split, split_rows in rows.items()}
    logger.info("wrote %s to %s", ", ".join(f"{count} {split}" for split, count in counts.items()), out)
    return counts


def compare_pictograms(built: str | Path, reference: str | Path) -> dict[str, dict[str, float]]:
    """Compare two built sets, split by split.

    Args:
        built: Folder of one set.
        reference: Folder of the other.

    Returns:
        For each split: `rows` and `reference` (their numbers of rows), `common`, `missing` (only in the reference),
        `extra` (only in the build); of the common rows, how many have an equal caption, rich caption, colours and so
        on, and how many are equal in all texts; and `picture_difference_mean` and `picture_difference_max`, over the
        mean absolute difference of each image (RGB values from 0 to 255).

    Raises:
        FileNotFoundError: A folder lacks the file of a split.
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
) -> Iterator[tuple[str, dict[str, Any], Drawing]]:
    """(name of the concept, row, drawing) of every emoji in every style."""
    concepts = EmojiConcepts(packages)
    flat_style = next(style for style in STYLES if style.name == "fluent-flat")
    flat = IconSet(flat_style, packages[flat_style.package], concepts)
    for style in STYLES:
        icons = flat if style is flat_style else IconSet(style, packages[style.package], concepts, flat)
        path = rendered / f"{style.name}-{fingerprint(*icons.fingerprint_parts())}.parquet"
        for code, drawing in kept_drawings(path, icons.codes, icons.draw, style.name).items():
            concept = concepts.concepts[code]
            row = make_row(
                style,
                f"emoji:{code}",
                drawing,
                caption=concept.caption,
                category=concept.category,
                subcategory=concept.subcategory,
                keywords=list(concept.keywords),
                definition=wordnet.define(concept.name, concept.category) if wordnet else "",
                source=f"npm {style.package} {style.version}",
            )
            yield concept.name, row, drawing


def _rows_by_id(path: Path) -> dict[str, dict[str, Any]]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; give the folder of a built pictogram set")
    return {row["id"]: row for row in pq.read_table(path).to_pylist()}


def _pixels(row: Mapping[str, Any]) -> np.ndarray:
    with PILImage.open(io.BytesIO(row["image"]["bytes"])) as image:
        return np.asarray(image.convert("RGB"), dtype=np.float32)
