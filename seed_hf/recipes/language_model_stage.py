"""The trainers of the language-model and the instruction stage, as a recipe describes them."""

import logging
import os
from typing import Any

import pyarrow.compute as pc
from datasets import Dataset
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase, set_seed

from seed_hf.artifacts.hub_ids import is_hub_id
from seed_hf.data.batches.instruction import InstructionCollator
from seed_hf.data.batches.language_model import LanguageModelCollator
from seed_hf.data.batches.packing import installed_flash_attention
from seed_hf.data.batches.row_values import naming_the_row
from seed_hf.data.sources.checked_table import ROW
from seed_hf.data.sources.remote import is_remote
from seed_hf.data.sources.rows import holds_parquet, open_rows
from seed_hf.data.sources.sequence_rows import Encode, holds_conversations, sequence_rows
from seed_hf.modeling.configuration_seed import VisualVocabularyConfig
from seed_hf.modeling.visual_tokens_seed import BOI_TOKEN, extend_text_tokenizer, read_vocabulary
from seed_hf.training.instruction import InstructionTrainer
from seed_hf.training.language_model import LanguageModelTrainer

from .image_codes import check_stored_codes, encoder_of
from .language_models import has_visual_tokens, open_language_model, set_format
from .mixture import entries_of, mixed
from .places import load_words
from .schema import LanguageModelRecipe, SequenceData


logger = logging.getLogger(__name__)
_PROMPTS = ("caption_prompt", "image_prompt", "question_prompt")
_LENGTHS = ("max_length", "pack_length")
_OF_IMAGES = ("directions", *_PROMPTS, "max_images", "swap_images")
_COLLATOR_OPTIONS = (*_OF_IMAGES, "loss_on", "special_tokens", "cut", "requests", *_LENGTHS)
_COLLATORS: dict[str, type[LanguageModelCollator]] = {"lm": LanguageModelCollator, "instruct": InstructionCollator}
_TRAINERS: dict[str, type[LanguageModelTrainer]] = {"lm": LanguageModelTrainer, "instruct": InstructionTrainer}


def language_model_trainer(recipe: LanguageModelRecipe) -> tuple[LanguageModelTrainer, list[PreTrainedTokenizerBase]]:
    """The trainer, ready to run, and what is saved with what it trains: the text tokenizer.

    Args:
        recipe: Of the language-model or the instruction stage.

    Raises:
        ValueError, FileNotFoundError: What the recipe names is absent, or something else.
    """
    model, data, args = recipe.model, recipe.data, recipe.trainer
    key = "text_tokenizer" if model.text_tokenizer else "language_model"
    text_tokenizer = load_words(getattr(model, key), f"model.{key}")
    set_seed(args.seed)
    language_model = set_format(model, open_language_model(model, text_tokenizer))
    if attention := attention_of(recipe):
        language_model.set_attn_implementation(attention)
    collator = sequence_collator(recipe, text_tokenizer, language_model.config)
    encode = encoder_of(recipe, language_model.config)
    train = open_sequences(recipe, "train", language_model, collator, encode)
    validation = open_sequences(recipe, "validation", language_model, collator, encode) if data.validation else None
    trainer = _TRAINERS[recipe.stage](
        language_model, args, data_collator=collator, train_dataset=train, eval_dataset=validation
    )
    return trainer, [_with_visual_tokens(text_tokenizer, language_model.config)]


def _with_visual_tokens(words: PreTrainedTokenizerBase, config: PreTrainedConfig) -> PreTrainedTokenizerBase:
    """The text tokenizer of a model that has just been extended, as a [`SeedProcessor`] takes it."""
    if not isinstance(config, VisualVocabularyConfig) or BOI_TOKEN in words.get_vocab():
        return words
    extended = extend_text_tokenizer(words, config.codebook_size)
    ids = read_vocabulary(extended, config.num_query_tokens)
    names = ("boi_token_id", "eoi_token_id", "visual_token_offset", "image_token_id")
    return extended if all(getattr(ids, name) == getattr(config, name) for name in names) else words


def sequence_collator(recipe: LanguageModelRecipe, words: PreTrainedTokenizerBase, config: PreTrainedConfig):
    """What makes the batches of a recipe.

    Args:
        recipe: Of the language-model or the instruction stage.
        words: The text tokenizer.
        config: Of the language model.

    Raises:
        ValueError: As [`LanguageModelCollator`].
    """
    options = collator_options(recipe.data)
    return _COLLATORS[recipe.stage](words, config, seed=recipe.trainer.seed, **options)


def collator_options(data: SequenceData) -> dict[str, Any]:
    """What a recipe says to the collator.

    Args:
        data: `data:` of the recipe.
    """
    return {name: getattr(data, name) for name in _COLLATOR_OPTIONS if getattr(data, name) is not None}


def open_sequences(
    recipe: LanguageModelRecipe,
    split: str,
    language_model: PreTrainedModel | None,
    collator: LanguageModelCollator | None,
    encode: Encode | None = None,
) -> Dataset:
    """The rows of a split, held in memory.

    Args:
        recipe: Of the language-model or the instruction stage.
        split: "train" or "validation".
        language_model: That is trained, with or without weights; `None` to check the data alone.
        collator: That reads the rows; `None` if it cannot be made.
        encode: From the images of the data to their codes.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The rows are not what a language model learns from, or not this one, or too long for it.
    """
    key, parts = f"data.{split}", []
    entries = entries_of(getattr(recipe.data, split), key)
    for number, entry in enumerate(entries):
        where = f"{key}: {entry.source}" if len(entries) == 1 else f"{key}[{number}]: {entry.source}"
        if recipe.stage == "instruct" or _holds_sequences(entry.source, split):
            rows = sequence_rows(
                entry.source,
                split,
                encode=encode,
                ignore_columns=recipe.data.ignore_columns or (),
                caption_column=None if recipe.data.caption_column == "caption" else recipe.data.caption_column,
                on_error=recipe.data.on_error or "raise",
                where=where,
            )
        else:
            rows = open_rows(entry.source, split, caption_column=recipe.data.caption_column)
        parts.append(rows)
    for rows, entry in zip(parts, entries):
        _check_rows(recipe, rows, language_model, f"{key}: {entry.source}")
    stored = {f"{key}: {e.source}": e.source for rows, e in zip(parts, entries) if "codes" in rows.column_names}
    check_stored_codes(recipe, stored)
    rows = mixed(parts, entries, recipe.trainer.seed) if isinstance(getattr(recipe.data, split), list) else parts[0]
    return rows if collator is None else _that_fit(rows, collator, recipe.data.on_error or "raise", key)


def _holds_sequences(source: str, split: str) -> bool:
    """Whether the language-model stage reads a source as the instruction stage does: not as Parquet in memory."""
    if os.path.exists(source) and holds_parquet(source):
        return holds_conversations(source, split)
    return os.path.exists(source) or source.endswith(".jsonl") or is_remote(source) or is_hub_id(source)


def _check_rows(recipe: LanguageModelRecipe, rows: Dataset, model: PreTrainedModel | None, where: str) -> None:
    """Refuse rows and settings that do not go together."""
    present = set(rows.column_names)
    if not {"text", "caption", "captions", "messages", "document"} & present:
        raise ValueError(f"{where} has neither text nor captions; it has {', '.join(rows.column_names)}.")
    if "messages" in present and recipe.stage == "lm":
        raise ValueError(f"{where} has conversations (messages), which the stage instruct trains on.")
    if "image" in present and "codes" not in present:
        raise ValueError(
            f"{where} has images without codes. Train on what `seed-hf tokenize` makes of it, or leave the column "
            "image out to train on the texts alone."
        )
    if present & {"codes", "document"} or "text" not in present and "messages" not in present:
        if model is not None and not has_visual_tokens(model):
            raise ValueError(
                "A plain language model has no visual tokens: give model.visual_tokenizer, or data with `text`."
            )
        if model is not None:
            _check_codes(rows, model.config, where)
    elif unused := [f"data.{name}" for name in collator_options(recipe.data) if name in _OF_IMAGES]:
        if "messages" not in present and not isinstance(recipe.data.train, list):
            raise ValueError(
                f"{', '.join(unused)} is not used: the rows of {where.partition(': ')[2]} are texts, without codes."
            )


def _that_fit(rows: Dataset, collator: LanguageModelCollator, on_error: str, where: str) -> Dataset:
    """The rows without those that do not fit into `max_length`. How many are cut is said."""
    if not isinstance(collator, InstructionCollator) and "document" not in rows.column_names:
        return rows
    kept, wrong, cut, left_out = [], [], [], 0
    for number, row in enumerate(rows):
        try:
            with naming_the_row([row], 0):
                fit, turns = collator.turns_that_fit(row)
        except ValueError as error:
            wrong.append(str(error))
            continue
        kept.append(number)
        if fit < turns:
            cut.append(row[ROW])
            left_out += turns - fit
    if wrong and (on_error == "raise" or not kept):
        more = f" ({len(wrong)} such rows in all)" if len(wrong) > 1 else ""
        raise ValueError(f"{where}: {wrong[0]}{more}")
    if wrong:
        logger.warning("%s: left out %d rows, the first: %s", where, len(wrong), wrong[0])
    if cut:
        logger.warning(
            "%s: %d of %d conversations are longer than max_length, which is %d. They are cut at the end of a turn, "
            "%d turns in all; the first is %s.",
            where, len(cut), len(rows), collator.max_length, left_out, cut[0],
        )  # fmt: skip
    return rows.select(kept) if wrong else rows


def _check_codes(rows: Dataset, config: PreTrainedConfig, where: str) -> None:
    """Refuse codes of another codebook before the first batch of them."""
    if "codes" in rows.column_names and len(rows):
        codes = pc.list_flatten(rows.data["codes"])
        found = pc.min_max(codes).as_py()
        size: int = config.codebook_size  # a model with visual tokens has one
        if found["max"] is not None and not 0 <= found["min"] <= found["max"] < size:
            raise ValueError(
                f"{where} has codes from {found['min']} to {found['max']}, but the language model has "
                f"{size}: they are of another visual tokenizer."
            )


def attention_of(recipe: LanguageModelRecipe) -> str | None:
    """What the recipe says, else a flash kernel for packed sequences in half precision on a GPU, if one is there.

    Args:
        recipe: Of the language-model stage.
    """
    args = recipe.trainer
    if recipe.model.attn_implementation is not None:
        return recipe.model.attn_implementation
    if recipe.data.pack_length and args.device.type == "cuda" and (args.bf16 or args.fp16):
        return installed_flash_attention()
    return None
