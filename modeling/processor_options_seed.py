"""The options of a processor's call: which there are, which hold, and which a call of SEED cannot have.

The rules are those of transformers' processors. An option may be given by its name; inside `text_kwargs` or
`images_kwargs`; inside `common_kwargs`, for all that know it; or when the text tokenizer is loaded. What stands first
in this list holds. Other than in transformers, an option that is unknown or would change nothing is an error.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from transformers.tokenization_utils_base import PreTrainedTokenizerBase


TEXT_DEFAULTS: dict[str, Any] = {
    "add_special_tokens": True,
    "padding": "longest",
    "padding_side": "left",
    "pad_to_multiple_of": None,
    "truncation": False,
    "max_length": None,
    "return_tensors": "pt",
    "return_attention_mask": True,
    "return_mm_token_type_ids": False,
    "return_special_tokens_mask": False,
    "return_offsets_mapping": False,
    "return_text_replacement_offsets": False,
    "return_length": False,
    "sanitize_control_tokens": False,
    "verbose": True,
}
# Options of transformers' text tokenizers that a text with images cannot have, and why.
_NOT_FOR_TEXT = {
    "text_pair": "a row is one text",
    "text_target": "labels are made by the collators of seed_hf.data.batches",
    "text_pair_target": "a row is one text",
    "is_split_into_words": "a text is a string",
    "stride": "what truncation cuts off is not returned",
    "return_overflowing_tokens": "what truncation cuts off is not returned",
    "return_token_type_ids": "the model has no token types; return_mm_token_type_ids marks the images",
}
TEXT_OPTIONS = frozenset([*TEXT_DEFAULTS, *_NOT_FOR_TEXT])
GROUPS = frozenset(["text_kwargs", "images_kwargs", "common_kwargs", "videos_kwargs", "audio_kwargs"])
# transformers' chat and pipeline code names them in every call, as None.
_OTHER_INPUTS = frozenset(["videos", "audio"])
_PADDING: dict[Any, str] = {
    **{True: "longest", "longest": "longest", "max_length": "max_length"},
    **{False: "do_not_pad", "do_not_pad": "do_not_pad"},
}
_TRUNCATION: dict[Any, bool] = {
    **{True: True, "longest_first": True, "only_first": True},
    **{None: False, False: False, "do_not_truncate": False},
}
_FLAGS = [name for name, value in TEXT_DEFAULTS.items() if isinstance(value, bool) and name != "truncation"]


@dataclass
class CallOptions:
    """What holds in one call.

    Args:
        text: Every name of `TEXT_DEFAULTS` with its value.
        images: For the image processor.
        bounded: Whether the call itself gives a `max_length`.
    """

    text: dict[str, Any]
    images: dict[str, Any] = field(default_factory=lambda: {"return_tensors": "pt"})
    bounded: bool = False


def merged_options(
    given: dict[str, Any], tokenizer: PreTrainedTokenizerBase, image_options: Iterable[str]
) -> CallOptions:
    """The options of a call, in the order of transformers: by name, by group, in common, loaded, default.

    Args:
        given: As they were given.
        tokenizer: The text tokenizer. What it was loaded or saved with holds where a call says nothing.
        image_options: The names that the image processor knows.

    Raises:
        TypeError: An unknown name.
        ValueError: An option that is given twice, that SEED cannot have, or that has another value than allowed.
    """
    saved = tokenizer.init_kwargs
    loaded = {name: getattr(tokenizer, name, saved[name]) for name in TEXT_OPTIONS if name in saved}
    options = CallOptions({**TEXT_DEFAULTS, **loaded})
    if not given and not loaded:
        return options
    if given:
        _check_names(given, image_options)
        given = {name: value for name, value in given.items() if name not in _OTHER_INPUTS}
        common, flat = given.get("common_kwargs") or {}, {name: given[name] for name in given if name not in GROUPS}
        for known, group, values in (
            (TEXT_OPTIONS, "text_kwargs", options.text),
            (image_options, "images_kwargs", options.images),
        ):
            by_group = given.get(group) or {}
            if twice := by_group.keys() & flat.keys():
                raise ValueError(f"{min(twice)} was passed two times: in {group} and by its name. Give it once.")
            for source in (common, by_group, flat):
                values.update({name: value for name, value in source.items() if name in known})
        options.bounded = any("max_length" in source for source in (common, given.get("text_kwargs") or {}, flat))
    _check_values(options.text)
    return options


def _check_names(given: dict[str, Any], image_options: Iterable[str]) -> None:
    for group in GROUPS & given.keys():
        if not isinstance(given[group], dict | None):
            raise TypeError(f"{group} must be a dict of options, got {type(given[group]).__name__}.")
    if given.get("videos_kwargs") or given.get("audio_kwargs") or any(given.get(n) is not None for n in _OTHER_INPUTS):
        raise ValueError("SEED reads text and images; it has no input for videos or audio.")
    known = {"text_kwargs": TEXT_OPTIONS, "images_kwargs": image_options}
    everything = [*TEXT_OPTIONS, *image_options]
    for group in ("text_kwargs", "images_kwargs", "common_kwargs"):
        _refuse_unknown(given.get(group) or {}, known.get(group, everything), f" in {group}")
    _refuse_unknown(given.keys() - GROUPS - _OTHER_INPUTS, everything)


def _refuse_unknown(names: Iterable[str], known: Iterable[str], where: str = "") -> None:
    known = sorted(set(known))
    if unknown := sorted(set(names) - set(known)):
        raise TypeError(
            f"SeedProcessor has no option {', '.join(unknown)}{where}. It has {', '.join(known)}. Options of "
            "`generate` belong to the model."
        )


def _check_values(text: dict[str, Any]) -> None:
    for name, reason in _NOT_FOR_TEXT.items():
        if text.get(name):
            raise ValueError(f"SeedProcessor has no {name}={text[name]!r}: {reason}.")
    for name in ("padding_side", *_FLAGS):
        text[name] = TEXT_DEFAULTS[name] if text[name] is None else text[name]
    for name in _FLAGS:
        if not isinstance(text[name], bool):
            raise ValueError(f"{name} must be True or False, got {text[name]!r}.")
    for name in ("max_length", "pad_to_multiple_of"):
        value = text[name]
        if value is not None and (type(value) is not int or value < 1):
            raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}.")
    if text["padding_side"] not in ("left", "right"):
        raise ValueError(f"padding_side must be 'left' or 'right', got {text['padding_side']!r}.")
    text["padding"] = _one_of(text, "padding", _PADDING)
    text["truncation"] = _one_of(text, "truncation", _TRUNCATION)
    if text["pad_to_multiple_of"] and text["padding"] == "do_not_pad":
        raise ValueError("pad_to_multiple_of needs padding: padding=False leaves rows as they are.")
    if text["sanitize_control_tokens"] and (text["return_offsets_mapping"] or text["return_text_replacement_offsets"]):
        raise ValueError("sanitize_control_tokens and offsets do not go together: its marks are characters, too.")


def _one_of(text: dict[str, Any], name: str, meanings: dict) -> Any:
    value = getattr(text[name], "value", text[name])  # transformers' PaddingStrategy and TruncationStrategy
    if not isinstance(value, str | bool | None) or value not in meanings:
        allowed = ", ".join(repr(each) for each in meanings)
        raise ValueError(f"{name} must be one of {allowed}; got {text[name]!r}.")
    return meanings[value]


__all__ = ["CallOptions", "GROUPS", "TEXT_DEFAULTS", "TEXT_OPTIONS", "merged_options"]
