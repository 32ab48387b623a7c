"""The rows of the pictogram set: their columns, and the Parquet file of a split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from .captions import rich_caption
from .drawings import Drawing, write_table
from .emoji import Style


# Besides `id` and `image`.
TEXT_COLUMNS = (
    *("caption", "rich_caption", "style", "style_phrase", "concept", "category", "subcategory"),
    *("keywords", "colours", "definition", "licence", "source"),
)
LIST_COLUMNS = ("keywords", "colours")


def make_row(
    style: Style,
    concept: str,
    drawing: Drawing,
    *,
    caption: str,
    category: str,
    subcategory: str,
    keywords: list[str],
    definition: str,
    source: str,
) -> dict[str, Any]:
    """One row of the set, in the order of its columns."""
    return {
        "id": f"{style.name}/{concept}",
        "image": {"bytes": drawing.webp, "path": None},
        "caption": caption,
        "rich_caption": rich_caption(style.phrase, caption, drawing.colours, definition, keywords),
        "style": style.name,
        "style_phrase": style.phrase,
        "concept": concept,
        "category": category,
        "subcategory": subcategory,
        "keywords": keywords,
        "colours": drawing.colours,
        "definition": definition,
        "licence": style.licence,
        "source": source,
    }


def write_split(rows: list[dict[str, Any]], path: Path) -> None:
    """Write the rows of one split."""
    from datasets import Features, Image, List, Value

    columns = {"id": Value("string"), "image": Image()} | {name: Value("string") for name in TEXT_COLUMNS}
    columns |= {name: List(Value("string")) for name in LIST_COLUMNS}
    schema = Features(columns).arrow_schema  # its metadata tells `datasets` that `image` holds images
    compression = {name: "snappy" for name in schema.names if name not in ("image", *LIST_COLUMNS)}
    compression |= {f"{name}.list.element": "snappy" for name in LIST_COLUMNS}
    compression |= {"image.bytes": "none", "image.path": "none"}  # images are compressed already
    write_table(pa.Table.from_pylist(rows, schema=schema), path, compression=compression)
