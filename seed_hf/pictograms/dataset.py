"""Reading the pictogram set, and the wordings a row's metadata gives for its picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from datasets import Dataset


SPLITS = ("train", "validation", "test_concept", "test_style")


def load_pictograms(folder: str | Path, split: str) -> Dataset:
    """Open one split of the pictogram set.

    Args:
        folder: the folder that `seed_hf.pictograms.building.build_pictograms` wrote, with one Parquet file per split.
        split: "train", "validation", "test_concept" or "test_style". Only "train" is for training.

    Returns:
        A `datasets.Dataset` with the columns as stored (id, image, caption, rich_caption, style, style_phrase,
        concept, category, subcategory, keywords, colours, definition, licence, source). `image` becomes a 128 x 128
        RGB PIL picture when a row is read, not before.

    Raises:
        ValueError: the split has no such name.
        FileNotFoundError: the folder does not hold the split.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; the pictogram set has {', '.join(SPLITS)}")
    path = Path(folder) / f"{split}.parquet"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist; build the pictogram set with `seed-hf data pictograms --out {folder}`"
        )
    import pyarrow.parquet as pq
    from datasets import Dataset, DatasetInfo, Features, NamedSplit

    table = pq.read_table(path)  # 30 MB at most: held in memory, so that nothing is copied to the user's cache folder
    info = DatasetInfo(features=Features.from_arrow_schema(table.schema))
    return Dataset(table, info=info, split=NamedSplit(split))


def join_words(words: list[str]) -> str:
    """`["red", "grey", "tan"]` -> "red, grey and tan"."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def full_description(row: Mapping[str, Any]) -> str:
    """Style, noun phrase and colours of one row, in lower case.

    "a flat twemoji drawing of a fire engine, mainly red and grey"; without measured colours the last part is left out.
    """
    text = f"{row['style_phrase']} of {row['caption']}"
    if row["colours"]:
        text += f", mainly {join_words(list(row['colours']))}"
    return text.lower()


def caption_variants(row: Mapping[str, Any]) -> list[str]:
    """The wordings that one row supports, in lower case, from the shortest to the fullest, without repetitions.

    For a fire engine: "a fire engine"; "a red and grey fire engine"; "a fire engine, mainly red and grey";
    "a flat twemoji drawing of a fire engine"; "a flat twemoji drawing of a fire engine, mainly red and grey".
    The first is always the plain caption and the last is always `full_description(row)`.
    """
    caption = row["caption"].lower()
    colours = list(row["colours"])
    variants = [caption]
    if colours:
        if coloured := _with_adjectives(caption, colours):
            variants.append(coloured)
        variants.append(f"{caption}, mainly {join_words(colours)}")
    variants.append(f"{row['style_phrase'].lower()} of {caption}")
    variants.append(full_description(row))
    return list(dict.fromkeys(variants))


def _with_adjectives(caption: str, colours: list[str]) -> str | None:
    """Colours put before the noun; None where there is no article to move or the caption names a colour itself."""
    article, _, noun = caption.partition(" ")
    words = set(noun.replace("-", " ").split())
    if article not in ("a", "an") or any(colour.split()[-1] in words for colour in (*colours, *_COLOUR_WORDS)):
        return None
    adjectives = join_words(colours)
    return f"{'an' if adjectives[0] in 'aeiou' else 'a'} {adjectives} {noun}"


_COLOUR_WORDS = (
    "red",
    "orange",
    "yellow",
    "green",
    "blue",
    "purple",
    "pink",
    "brown",
    "black",
    "grey",
    "gray",
    "white",
    "gold",
    "golden",
    "silver",
)
