"""Rows of ids to one length: cut, but never through an image, and padded."""

from dataclasses import dataclass, field
from typing import Any

from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from .processor_options_seed import CallOptions
from .visual_vocabulary_seed import VisualVocabulary


_NO_LIMIT = 10**9  # a tokenizer without a length of its own has a `model_max_length` beyond this


@dataclass
class TokenRow:
    """The ids of one text.

    Args:
        ids: All of them.
        first, last: How many at the start and at the end are not of the text, and stay when it is cut: bos, and the
            `<img>` that begins an image.
        offsets: First character and the one behind the last of every token; none unless asked for.
        ends: Whether the last id is eos. A row whose end is cut has none.
    """

    ids: list[int]
    first: int = 0
    last: int = 0
    offsets: list[tuple[int, int]] = field(default_factory=list)
    ends: bool = False

    def special_tokens_mask(self) -> list[int]:
        """1 for the ids that are not of the text."""
        return [1] * self.first + [0] * (len(self.ids) - self.first - self.last) + [1] * self.last


def max_length_of(options: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The limit of truncation and of `padding="max_length"`: `max_length`, or else that of the text tokenizer.

    Args:
        options: As in `CallOptions.text`.
        tokenizer: The text tokenizer.

    Raises:
        ValueError: A limit is needed, and there is none; or it is no multiple of `pad_to_multiple_of`.
    """
    needed, limit = options["truncation"] or options["padding"] == "max_length", options["max_length"]
    if needed and limit is None:
        limit = tokenizer.model_max_length
        if limit is None or limit > _NO_LIMIT:
            what = "truncation" if options["truncation"] else "padding='max_length'"
            raise ValueError(f"{what} needs max_length: the text tokenizer has no model_max_length.")
    multiple = options["pad_to_multiple_of"]
    if options["truncation"] and multiple and options["padding"] != "do_not_pad" and limit % multiple:
        raise ValueError(f"Rows are cut to max_length={limit}, which is no multiple of pad_to_multiple_of={multiple}.")
    return limit


def fit(rows: list[TokenRow], limit: int, cuts: bool, side: str, vocabulary: VisualVocabulary) -> list[TokenRow]:
    """Rows of at most `limit` ids.

    Args:
        rows: Of any length.
        limit: Most ids of a row.
        cuts: Whether longer rows are cut. Else they are an error.
        side: Where: "right" cuts the end of a text, "left" its beginning.
        vocabulary: Where the visual tokens lie.

    Raises:
        ValueError: A row is longer and may not be cut, or the cut would take something of an image.
    """
    fitting = []
    for number, row in enumerate(rows):
        if len(row.ids) > limit:
            if not cuts:
                raise ValueError(
                    f"Text {number} has {len(row.ids)} tokens, but max_length is {limit}. Give truncation=True to cut "
                    "its end, or a larger max_length."
                )
            row = _cut(row, number, limit, side, vocabulary)
        fitting.append(row)
    return fitting


def _cut(row: TokenRow, number: int, limit: int, side: str, vocabulary: VisualVocabulary) -> TokenRow:
    if row.ends and side == "right":
        row = TokenRow(row.ids[:-1], row.first, row.last - 1, row.offsets[:-1])
    size, room = len(row.ids), limit - row.first - row.last
    if room < 0:
        raise ValueError(f"max_length={limit} has no room for the {row.first + row.last} tokens around text {number}.")
    surplus = size - limit
    start = row.first if side == "left" else size - row.last - surplus
    lost = row.ids[start : start + surplus]
    if not all(map(vocabulary.is_text, lost)):
        raise ValueError(
            f"Truncation to {limit} of the {size} tokens of text {number} would cut an image: an image is "
            f"{vocabulary.num_query_tokens + 2} tokens, which stay together. Give a larger max_length, or shorter "
            "text before the image."
        )
    offsets = row.offsets[:start] + row.offsets[start + surplus :]
    return TokenRow(row.ids[:start] + row.ids[start + surplus :], row.first, row.last, offsets)


def padded_length(options: dict[str, Any], longest: int, limit: int | None) -> int | None:
    """The length to which rows are padded; `None` to leave them.

    Args:
        options: As in `CallOptions.text`.
        longest: Ids of the longest row.
        limit: As of `max_length_of`.
    """
    if options["padding"] == "do_not_pad":
        return None
    length = limit if options["padding"] == "max_length" and limit is not None else longest
    multiple = options["pad_to_multiple_of"] or 1
    return -(-length // multiple) * multiple


def padded(rows: list[list], fill, length: int | None, side: str = "left") -> list[list]:
    """Rows of one length.

    Args:
        rows: Of values.
        fill: The value that is added.
        length: Of all rows; `None` leaves them as they are.
        side: Where it is added: "left" or "right".
    """
    if length is None:
        return rows
    gaps = ([fill] * (length - len(row)) for row in rows)
    return [gap + row if side == "left" else row + gap for gap, row in zip(gaps, rows)]


def text_columns(
    rows: list[TokenRow], options: CallOptions, tokenizer: PreTrainedTokenizerBase, vocabulary=None
) -> dict[str, list]:
    """What a call returns for texts: rows of one length.

    Args:
        rows: Of the texts.
        options: Of the call.
        tokenizer: The text tokenizer.
        vocabulary ([`VisualVocabulary`], *optional*): Needed to cut rows and to mark images.

    Raises:
        ValueError: As of `fit` and `max_length_of`.
    """
    wanted = options.text
    limit = max_length_of(wanted, tokenizer)
    if limit is not None and (wanted["truncation"] or options.bounded or wanted["padding"] == "max_length"):
        rows = fit(rows, limit, wanted["truncation"], tokenizer.truncation_side, vocabulary)
    ids = [row.ids for row in rows]
    length, side = padded_length(wanted, max(map(len, ids)), limit), wanted["padding_side"]
    fill = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    columns: dict[str, list] = {"input_ids": padded(ids, fill, length, side)}
    if wanted["return_attention_mask"]:
        columns["attention_mask"] = padded([[1] * len(row) for row in ids], 0, length, side)
    if wanted["return_mm_token_type_ids"]:
        columns["mm_token_type_ids"] = padded([image_mask(row, vocabulary) for row in ids], 0, length, side)
    if wanted["return_special_tokens_mask"]:
        columns["special_tokens_mask"] = padded([row.special_tokens_mask() for row in rows], 1, length, side)
    if wanted["return_offsets_mapping"]:
        columns["offset_mapping"] = padded([row.offsets for row in rows], (0, 0), length, side)
    if wanted["return_length"]:
        columns["length"] = [len(row) for row in columns["input_ids"]]
    return columns


def image_mask(ids: list[int], vocabulary: VisualVocabulary) -> list[int]:
    """1 for every placeholder and every code of an image, 0 for all other tokens.

    Args:
        ids: Of a row.
        vocabulary: Where the visual tokens lie.
    """
    return [int(i == vocabulary.image_token_id or vocabulary.is_code(i)) for i in ids]


__all__ = ["TokenRow", "fit", "image_mask", "max_length_of", "padded", "padded_length", "text_columns"]
