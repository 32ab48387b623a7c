"""The figures of a report as Markdown tables."""

from collections.abc import Collection, Mapping
from typing import Any


# Label, section and format of each line of the table. Lines of sections that were not run are left out.
_LINES = (
    ("Retrieval on codes, R@m", "retrieval", "{codes[R@m]:.1f}"),
    ("image to caption @1 / 5 / 10", "retrieval", "{codes[TR@1]:.1f} / {codes[TR@5]:.1f} / {codes[TR@10]:.1f}"),
    ("caption to image @1 / 5 / 10", "retrieval", "{codes[IR@1]:.1f} / {codes[IR@5]:.1f} / {codes[IR@10]:.1f}"),
    ("Retrieval on continuous embeddings, R@m", "retrieval", "{embeddings[R@m]:.1f}"),
    ("Caption exactly right", "captions", "{exact_match:.1f}"),
    ("Questions answered right (most frequent answer)", "questions", "{exact_match:.1f} ({majority:.1f})"),
    ("Codes used", "codebook", "{used_codes} of {codebook_size} ({usage:.1f})"),
    ("Codebook perplexity", "codebook", "{perplexity:.0f}"),
    ("Different codes in an image, mean", "codebook", "{distinct_per_image:.1f}"),
    ("Drawn from its caption: caption ranks first", "drawing", "{caption_first:.1f}"),
    ("among the first 5 / 10", "drawing", "{caption_in_5:.1f} / {caption_in_10:.1f}"),
    ("of captions that no training image has (how many)", "drawing", "{new_caption_first:.1f} ({num_new_captions})"),
    ("Real image: caption ranks first", "judge", "{real_caption_first:.1f}"),
    ("the same, shrunk to the size of drawings", "judge", "{real_caption_first_at_drawn_size:.1f}"),
    ("Reconstruction: caption ranks first", "reconstruction", "{caption_first:.1f}"),
    ("Reconstruction: cosine to the image (chance)", "reconstruction", "{similarity:.3f} ({chance_similarity:.3f})"),
    ("The judge's own R@m", "judge", "{retrieval[R@m]:.1f}"),
)


def markdown(result: Mapping[str, Any]) -> str:
    """The tables of a report: figures, questions by topic, floor, settings.

    Args:
        result: What [`evaluate`] returns.
    """
    sets, settings = result["sets"], result["settings"]
    parts = ["# Evaluation", ""]
    if settings["limit"]:
        parts += [
            f"**A quick look at {settings['limit']} images of each set at most. Fewer candidates make every figure "
            "better: not comparable with anything.**",
            "",
        ]
    parts += ["Shares in percent. Every set's captions are its own candidates; ties count against the model.", ""]
    parts += figures_table(sets)
    parts += _questions(sets)
    if result.get("floor"):
        lines = [
            [line["figure"], f"{line['reached']:.1f}", f"{line['at_least']:.0f}", "yes" if line["holds"] else "**no**"]
            for line in result["floor"]
        ]
        parts += ["", "## The floor", "", *_table(["figure", "reached", "at least", "holds"], lines)]
    parts += ["", "## Settings", ""]
    parts += [f"- {name}: {value}" for group in ("settings", "environment") for name, value in result[group].items()]
    parts += [f"- SHA-256 of {name}: `{value[:16]}`" for name, value in result["fingerprints"].items()]
    return "\n".join(parts) + "\n"


def figures_table(sets: Mapping[str, Any], sections: Collection[str] | None = None) -> list[str]:
    """Lines of the table of figures, with a column for each set that has one of the sections.

    Args:
        sets: The figures: split, then section, then figure.
        sections: Sections to show; all by default.
    """
    wanted = [line for line in _LINES if sections is None or line[1] in sections]
    sets = {name: found for name, found in sets.items() if any(section in found for _, section, _ in wanted)}
    rows = [[label, *_cells(sets, section, form)] for label, section, form in wanted]
    counts = [f"{found['counts']['pictures']} / {found['counts']['captions']}" for found in sets.values()]
    rows = [["Images / distinct captions", *counts], *(row for row in rows if any(row[1:]))]
    return _table(["", *sets], rows)


def _cells(sets: Mapping[str, Any], section: str, form: str) -> list[str]:
    return [form.format(**found[section]) if section in found else "" for found in sets.values()]


def _questions(sets: Mapping[str, Any]) -> list[str]:
    asked = {name: found["questions"]["topics"] for name, found in sets.items() if "questions" in found}
    if not asked:
        return []
    topics = dict.fromkeys(topic for found in asked.values() for topic in found)
    rows = [[topic, *(_topic(found.get(topic)) for found in asked.values())] for topic in topics]
    title = "Right answers; in brackets what the most frequent answer alone would reach, and the number of questions."
    return ["", "## Questions", "", title, "", *_table(["", *asked], rows)]


def _topic(found: Mapping[str, Any] | None) -> str:
    return "" if found is None else "{exact_match:.1f} ({majority:.1f}, {num_questions})".format(**found)


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]
