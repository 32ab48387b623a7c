"""The YAML block at the top of a card, checked without asking the Hub."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from reprlib import repr as shown
from typing import Any

from huggingface_hub import DatasetCardData, ModelCardData
from huggingface_hub.repocard import RepoCard

from seed_hf.artifacts.hub_ids import is_hub_id
from seed_hf.yaml_text import parse_yaml


PIPELINE_TAGS = (
    "any-to-any image-feature-extraction image-text-to-text image-to-image image-to-text feature-extraction "
    "text-generation text-to-image unconditional-image-generation visual-question-answering "
    "zero-shot-image-classification"
).split()
# Licences of the Hub's list that weights and image data come under. "unknown" is on that list, too, but says nothing.
LICENSES = (
    "afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0 bigscience-openrail-m bsd "
    "bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 "
    "cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 "
    "cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0 "
    "cdla-sharing-1.0 creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 "
    "gemma gfdl gpl gpl-2.0 gpl-3.0 intel-research isc lgpl lgpl-2.1 lgpl-3.0 llama2 llama3 llama3.1 llama3.2 "
    "llama3.3 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 open-mdw openrail openrail++ osl-3.0 other pddl "
    "postgresql unlicense wtfpl zlib"
).split()
SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "1B<n<10B")
_MOST_ERRORS = 10  # in one message
# Key -> what each of its values has to be, and a test of it.
_FORMS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "datasets": ("the id of a repository", partial(is_hub_id, owner_optional=True)),
    "base_model": ("the id of a repository", partial(is_hub_id, owner_optional=True)),
    "language": ("an ISO 639 code", re.compile("[a-z]{2,3}").fullmatch),
}


def check_card(text: str, kind: str) -> dict[str, Any]:
    """The metadata of a card's text.

    Args:
        text: Of `README.md`.
        kind: From `kind_of`.

    Raises:
        ValueError: There is no metadata, or the Hub would not take it. The message lists everything that is wrong.
    """
    block = _block(text)
    if not (block or "").strip():
        raise ValueError("README.md has no front matter: it must begin with a YAML block between two lines of ---.")
    try:
        found = parse_yaml(f"\n{block}")  # lines count as in the card
        theirs = RepoCard(f"---\n{block}\n---\n").data.to_dict() if isinstance(found, dict) else None
    except Exception as error:  # yaml's errors are of several classes
        raise ValueError(f"README.md: its front matter: {error}") from error
    if theirs is None or {key: value for key, value in found.items() if value is not None} != theirs:
        raise ValueError(
            "README.md: the front matter must be a mapping of which huggingface_hub reads the same values. Put a text "
            "in quotes that looks like a number."
        )
    found = theirs
    if wrong := wrong_keys(found, kind):
        raise ValueError(f"README.md: {'; '.join(wrong[:_MOST_ERRORS])}.")
    data = DatasetCardData if kind == "dataset" else ModelCardData
    if data(**found).to_dict() != found:
        raise ValueError("README.md: the front matter does not come back as it was when huggingface_hub reads it.")
    return found


def _block(text: str) -> str | None:
    """The text between the two lines of ---, if the card begins with the first of them."""
    first, *lines = text.lstrip().splitlines() or [""]
    ends = (number for number, line in enumerate(lines) if line.rstrip(" \t") == "---")
    end = next(ends, None) if first == "---" else None
    return None if end is None else "\n".join(lines[:end])


def wrong_keys(metadata: Mapping[str, Any], kind: str) -> list[str]:
    """Everything in the metadata that the Hub would refuse or misread.

    Args:
        metadata: Front matter of a card.
        kind: From `kind_of`.
    """
    wrong = []
    needed = ("tags",) if kind == "dataset" else ("library_name", "pipeline_tag", "tags")
    wrong += [f"no {key}" for key in needed if not metadata.get(key)]
    for key in ("library_name", "pipeline_tag", "license", "license_name", "license_link"):
        if key in metadata and not isinstance(metadata[key], str):
            wrong.append(f"{key} must be text, got {shown(metadata[key])}")
    for key in ("tags", "datasets", "metrics", "base_model", "language"):
        values = metadata.get(key, [])
        if not isinstance(values, (str, list)) or not all(isinstance(value, str) for value in values):
            wrong.append(f"{key} must be text or a list of texts, got {shown(values)}")
            continue
        if key in _FORMS:
            meaning, fits = _FORMS[key]
            names = [values] if isinstance(values, str) else values
            wrong += [f"{key}: {shown(name)} is not {meaning}" for name in names if not fits(name)]
    wrong += _wrong_choice(metadata, "pipeline_tag", PIPELINE_TAGS) + _wrong_choice(metadata, "license", LICENSES)
    if metadata.get("license") == "other":
        wrong += [f"license: other needs {key}" for key in ("license_name", "license_link") if not metadata.get(key)]
    sizes = metadata.get("size_categories", [])
    for size in sizes if isinstance(sizes, list) else [sizes]:
        wrong += [] if size in SIZES else [f"size_categories: {shown(size)} is none of {', '.join(SIZES)}"]
    return wrong


def _wrong_choice(metadata: Mapping[str, Any], key: str, known) -> list[str]:
    value = metadata.get(key)
    return [f"{key}: {shown(value)} is not known to the Hub"] if isinstance(value, str) and value not in known else []


def size_category(rows: int) -> str:
    """The Hub's name for a number of rows, such as `"1K<n<10K"`."""
    return SIZES[min(max(len(str(rows)) - 3, 0), len(SIZES) - 1)]
