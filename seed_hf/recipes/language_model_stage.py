"""The trainer of the language-model stage, as a recipe describes it."""

from typing import Any

import pyarrow.compute as pc
from datasets import Dataset
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase, set_seed

from seed_hf.data.batches.language_model import LanguageModelCollator
from seed_hf.data.batches.packing import installed_flash_attention
from seed_hf.data.sources.rows import open_rows
from seed_hf.training.language_model import LanguageModelTrainer

from .language_models import has_visual_tokens, open_language_model
from .places import load_words
from .schema import LanguageModelRecipe, SequenceData


_COLLATOR_OPTIONS = ("directions", "caption_prompt", "image_prompt", "question_prompt", "max_length", "pack_length")


def language_model_trainer(recipe: LanguageModelRecipe) -> tuple[LanguageModelTrainer, PreTrainedTokenizerBase]:
    """The trainer, ready to run, and the text tokenizer that is saved with what it trains.

    Args:
        recipe: Of the language-model stage.

    Raises:
        ValueError, FileNotFoundError: What the recipe names is absent, or something else.
    """
    model, data, args = recipe.model, recipe.data, recipe.trainer
    key = "text_tokenizer" if model.text_tokenizer else "language_model"
    text_tokenizer = load_words(getattr(model, key), f"model.{key}")
    set_seed(args.seed)
    language_model = open_language_model(model, len(text_tokenizer))
    if attention := attention_of(recipe):
        language_model.set_attn_implementation(attention)
    collator = LanguageModelCollator(text_tokenizer, language_model.config, seed=args.seed, **collator_options(data))
    train = open_sequences(recipe, "train", language_model)
    validation = open_sequences(recipe, "validation", language_model) if data.validation else None
    trainer = LanguageModelTrainer(
        language_model, args, data_collator=collator, train_dataset=train, eval_dataset=validation
    )
    return trainer, text_tokenizer


def collator_options(data: SequenceData) -> dict[str, Any]:
    """What a recipe says to the collator.

    Args:
        data: `data:` of the recipe.
    """
    return {name: getattr(data, name) for name in _COLLATOR_OPTIONS if getattr(data, name) is not None}


def open_sequences(recipe: LanguageModelRecipe, split: str, language_model: PreTrainedModel | None):
    """The rows of a split, held in memory.

    Args:
        recipe: Of the language-model stage.
        split: "train" or "validation".
        language_model: That is trained, with or without weights; `None` to check the data alone.

    Raises:
        FileNotFoundError: There is no Parquet file.
        ValueError: The rows are not what a language model learns from, or not this one.
    """
    data, source = recipe.data, getattr(recipe.data, split)
    rows = open_rows(source, split, caption_column=data.caption_column)
    present = set(rows.column_names)
    if not {"text", "caption", "captions"} & present:
        raise ValueError(
            f"data.{split}: {source} has neither text nor captions; it has {', '.join(rows.column_names)}."
        )
    if "codes" in present or "text" not in present:
        if language_model is not None and not has_visual_tokens(language_model):
            raise ValueError(
                "A plain language model has no visual tokens: give model.visual_tokenizer, or data with `text`."
            )
        if language_model is not None:
            _check_codes(rows, language_model.config, f"data.{split}: {source}")
    elif unused := [f"data.{name}" for name in collator_options(data) if name not in ("max_length", "pack_length")]:
        raise ValueError(f"{', '.join(unused)} is not used: the rows of {source} are texts, without codes.")
    return rows


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
