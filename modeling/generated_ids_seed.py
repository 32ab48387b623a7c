"""Ids that were generated, in whatever form, as rows."""

from collections.abc import Iterable, Mapping

from .visual_vocabulary_seed import VisualVocabulary


def rows_of(output) -> list[list[int]]:
    """The rows of an output.

    Args:
        output: Ids `(rows, length)` or `(length,)`, as tensors, arrays or lists, or what `generate` returns with
            `return_dict_in_generate=True`.
    """
    rows = plain_ids(getattr(output, "sequences", output))
    if all(isinstance(row, int) for row in rows):
        return [rows] if rows else []
    return rows


def plain_ids(ids):
    """Ids, in tensors, arrays, their numbers or lists of these, as Python's numbers and lists.

    Raises:
        TypeError: Something else, such as a text.
    """
    ids = ids.tolist() if hasattr(ids, "tolist") else ids
    if isinstance(ids, (str, bytes, Mapping)):
        raise TypeError(f"Ids are numbers, in tensors, arrays or lists; got {ids!r:.80}.")
    return [plain_ids(each) for each in ids] if isinstance(ids, Iterable) else ids


def without_prompt(rows: list[list[int]], prompt, vocabulary: VisualVocabulary) -> list[list[int]]:
    """What was generated, without the prompt before it.

    Args:
        rows: Prompts and what follows them, a whole number for each prompt.
        prompt: `input_ids` of the prompts. Where they have placeholders, the rows have codes.
        vocabulary: Where the visual tokens lie.

    Raises:
        ValueError: Rows that do not begin with their prompts.
    """
    prompts = rows_of(prompt)
    if not prompts or len(rows) % len(prompts):
        raise ValueError(f"{len(rows)} rows are not a whole number for each of {len(prompts)} prompts.")
    each = len(rows) // len(prompts)
    for number, row in enumerate(rows):
        wanted = prompts[number // each]
        same = len(row) >= len(wanted) and all(a == b or b == vocabulary.image_token_id for a, b in zip(row, wanted))
        if not same:
            raise ValueError(f"Row {number} does not begin with its prompt. Leave input_ids out if rows have none.")
    return [row[len(prompts[number // each]) :] for number, row in enumerate(rows)]


__all__ = ["plain_ids", "rows_of", "without_prompt"]
