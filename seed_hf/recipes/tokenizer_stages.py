"""The trainer of stage I or II, as a recipe describes it."""

import logging
import os
from typing import Any

from torch import nn
from transformers import (
    AutoModel,
    Blip2ForImageTextRetrieval,
    CLIPVisionModelWithProjection,
    PreTrainedTokenizerBase,
    set_seed,
)

from seed_hf.artifacts.loading import holds_words, load_image_processor, locate
from seed_hf.data.batches.augmentation import random_crop_flip
from seed_hf.data.batches.image_text import ImageTextCollator
from seed_hf.data.features.cached import are_features, open_features
from seed_hf.data.sources.filters import RowFilters
from seed_hf.data.sources.rows import holds_parquet, open_rows, stream_rows
from seed_hf.modeling.configuration_seed import SeedTokenizerConfig
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from seed_hf.training.contrastive import ContrastiveTrainer
from seed_hf.training.quantization import QuantizationTrainer

from .places import load, load_words, naming_the_key
from .schema import TokenizerModel, TokenizerRecipe


logger = logging.getLogger(__name__)
CAPTION_TOKENS = 32  # of stage I, as in the authors' code
_STREAM_OPTIONS = ("shuffle_buffer", "min_side", "max_aspect", "on_error", "image_column", "caption_column")


def tokenizer_trainer(recipe: TokenizerRecipe) -> tuple[ContrastiveTrainer | QuantizationTrainer, list[Any]]:
    """The trainer, ready to run, and what is saved with what it trains: the image processor, and the text tokenizer
    of the text tower, which reads the captions of retrieval.

    Args:
        recipe: Of stage I or II.

    Raises:
        ValueError, FileNotFoundError: What the recipe names is absent, or something else.
    """
    model, args = recipe.model, recipe.trainer
    set_seed(args.seed)
    tokenizer = _open_tokenizer(model)
    check_text_tower(recipe, tokenizer.config)
    processor = open_processor(model, tokenizer.config)
    check_captions(recipe, tokenizer.config)
    check_filters(recipe)
    encoder = _open_target_encoder(model, tokenizer.config.generation_target)
    if recipe.stage == "quantization" and encoder is None and not recipe.data.features:
        wanted = f"model.{tokenizer.config.generation_target}_encoder"
        logger.warning("Without %s or cached features the generation embeddings have no target.", wanted)
    parts = {
        "data_collator": collator_of(recipe, tokenizer.config, processor, encoder),
        "train_dataset": _open_split(recipe, "train", tokenizer, processor),
        "eval_dataset": _open_split(recipe, "validation", tokenizer, processor),
    }
    words = _words_of_text_tower(recipe, tokenizer.config, parts["data_collator"])
    beside = [processor] if words is None else [processor, words]
    if recipe.stage == "contrastive":
        return ContrastiveTrainer(tokenizer, args, **parts), beside
    return QuantizationTrainer(tokenizer, args, target_encoder=encoder, **parts), beside


def _words_of_text_tower(
    recipe: TokenizerRecipe, config: SeedTokenizerConfig, collator: ImageTextCollator
) -> PreTrainedTokenizerBase | None:
    """The text tokenizer of the text tower: that of the batches, or, in stage II, what is saved where it begins."""
    if not config.text_tower:
        return None
    if recipe.stage == "contrastive" or recipe.trainer.train_qformer:
        return collator.tokenizer
    if recipe.model.start is None:
        return None
    name, start = recipe.model.start
    folder = locate(start, "tokenizer").processor
    return load_words(os.fspath(folder), f"model.{name}") if holds_words(folder) else None


def _open_tokenizer(model: TokenizerModel) -> SeedTokenizer:
    if model.config:
        return SeedTokenizer(SeedTokenizerConfig(**model.config))
    if model.tokenizer:
        return load(SeedTokenizer, model.tokenizer, "model.tokenizer")
    settings = model.settings or {}
    if model.blip2:
        return SeedTokenizer.from_blip2(load(Blip2ForImageTextRetrieval, model.blip2, "model.blip2"), **settings)
    return SeedTokenizer.from_stage_one(load(SeedTokenizer, model.stage_one, "model.stage_one"), **settings)


def open_processor(model: TokenizerModel, config: SeedTokenizerConfig) -> SeedImageProcessor:
    """The image processor that a recipe names, or that is saved where it begins, or else the default one of a model.

    Args:
        model: `model:` of the recipe.
        config: Of the tokenizer.

    Raises:
        FileNotFoundError, ValueError: There is none, or it makes images of another size.
    """
    if model.image_processor:
        name, start = "image_processor", model.image_processor
        processor = load(SeedImageProcessor, start, "model.image_processor")
    elif model.start:
        name, start = model.start
        with naming_the_key(f"model.{name}"):
            processor = load_image_processor(locate(start, "tokenizer").processor, config)
    else:
        return SeedImageProcessor.for_tokenizer(config)
    side, size = config.vision_config.image_size, dict(processor.size)
    if processor.do_resize and (size.get("height"), size.get("width")) != (side, side):
        raise ValueError(
            f"model.{name}: {start} makes images of {size}, but the tokenizer sees {side} x {side} pixels."
        )
    return processor


def _open_target_encoder(model: TokenizerModel, target: str) -> nn.Module | None:
    check_target(model, target)
    if model.text_encoder:
        return load(AutoModel, model.text_encoder, "model.text_encoder")
    if model.image_encoder:
        return load(CLIPVisionModelWithProjection, model.image_encoder, "model.image_encoder")
    return None


def check_target(model: TokenizerModel, target: str) -> None:
    """Refuse an encoder of another target than the tokenizer's.

    Args:
        model: `model:` of the recipe.
        target: `generation_target` of the tokenizer.
    """
    given = "text" if model.text_encoder else "image" if model.image_encoder else None
    if given not in (None, target):
        raise ValueError(f"model.{given}_encoder does not go with the tokenizer's generation_target {target!r}.")


def check_captions(recipe: TokenizerRecipe, config: SeedTokenizerConfig) -> None:
    """Refuse a stage II whose Q-Former learns along without the captions that it needs, or with others.

    Args:
        recipe: Of stage I or II.
        config: Of the tokenizer.
    """
    if recipe.stage != "quantization" or not recipe.trainer.train_qformer:
        return
    model = recipe.model
    if config.text_tower and model.text_tokenizer is None:
        raise ValueError(
            "trainer.train_qformer goes on with stage I's loss, which reads captions: it needs model.text_tokenizer."
        )
    if not config.text_tower and model.text_tokenizer is not None and model.text_encoder is None:
        raise ValueError("model.text_tokenizer is not used: the tokenizer has no text tower.")


def check_text_tower(recipe: TokenizerRecipe, config: SeedTokenizerConfig) -> None:
    """Refuse a stage I without the path that reads captions.

    Args:
        recipe: Of stage I or II.
        config: Of the tokenizer.
    """
    if recipe.stage == "contrastive" and not config.text_tower:
        raise ValueError(
            "Stage I needs the Q-Former's text path, which this model lacks: text_tower is false. Start from a "
            "model with one (model.blip2, or model.config: {text_tower: true})."
        )


def check_filters(recipe: TokenizerRecipe) -> None:
    """Refuse settings about images where the data are cached features.

    Args:
        recipe: Of stage I or II.
    """
    data = recipe.data
    given = [name for name in ("on_error", "min_side", "max_aspect") if getattr(data, name) is not None]
    sources = [source for source in (data.train, data.validation) if source is not None]
    if given and all(isinstance(source, str) and are_features(source) for source in sources):
        raise ValueError(f"data.{given[0]} is not used: cached features have no images to leave out.")


def reads_captions(recipe: TokenizerRecipe) -> bool:
    """Whether the stage needs the captions of the images.

    Args:
        recipe: Of stage I or II.
    """
    if recipe.stage == "contrastive" or recipe.model.text_encoder is not None:
        return True
    return recipe.trainer.train_qformer and recipe.model.text_tokenizer is not None  # no text tower, no captions


def collator_of(
    recipe: TokenizerRecipe, config: SeedTokenizerConfig, processor: SeedImageProcessor, encoder: Any
) -> ImageTextCollator:
    """Makes the batches.

    Args:
        recipe: Of stage I or II.
        config: Of the tokenizer.
        processor: Of the images.
        encoder: Of the targets of stage II.

    Raises:
        ValueError: There is no such text tokenizer, or captions may be longer than what reads them takes.
    """
    # Features of a text encoder are compared place by place, padding included.
    aligned = recipe.stage == "quantization" and recipe.model.text_encoder is not None
    data, words, reader = recipe.data, None, config.qformer_config
    if aligned and encoder is not None:
        reader = encoder.config.get_text_config()
    room = getattr(reader, "max_position_embeddings", 1 << 30)  # T5 has none
    length = data.max_text_tokens or (config.num_generation_tokens if aligned else min(CAPTION_TOKENS, room))
    if reads_captions(recipe):
        words = load_words(recipe.model.text_tokenizer, "model.text_tokenizer", reader.vocab_size)
        if length > room and (encoder is not None or not aligned):
            raise ValueError(f"data.max_text_tokens must be at most {room}: more is not read of a text; got {length}.")
    return ImageTextCollator(
        processor,
        words,
        max_text_tokens=length,
        padding="max_length" if aligned else "longest",
        augment=random_crop_flip if data.augment else None,
        seed=recipe.trainer.seed,
    )


def _seed_of_order(recipe: TokenizerRecipe) -> int:
    args = recipe.trainer
    return args.seed if args.data_seed is None else args.data_seed


def _open_split(recipe: TokenizerRecipe, split: str, tokenizer: SeedTokenizer, processor: SeedImageProcessor):
    """The rows of "train" or "validation"; `None` where the recipe names none."""
    data = recipe.data
    key = "features" if split == "train" and data.features else split
    source = getattr(data, key)
    if source is None:
        return None
    cached = recipe.stage == "quantization" and isinstance(source, str) and are_features(source)
    if key == "features" or cached:
        return open_features(source, f"data.{key}", tokenizer, processor)
    if is_streamed(recipe, split):
        given = {name: value for name in _STREAM_OPTIONS if (value := getattr(data, name)) is not None}
        with naming_the_key(f"data.{split}"):
            return stream_rows(source, split, captions=reads_captions(recipe), seed=_seed_of_order(recipe), **given)
    return open_images(recipe, split)


def is_streamed(recipe: TokenizerRecipe, split: str) -> bool:
    """Whether the images of a split are read a few at a time, instead of being held in memory.

    Args:
        recipe: Of stage I or II.
        split: "train" or "validation".
    """
    source = getattr(recipe.data, split)
    return recipe.data.streaming or split == "validation" and not holds_parquet(source)


def open_images(recipe: TokenizerRecipe, split: str):
    """The images of a split, held in memory.

    Args:
        recipe: Of stage I or II.
        split: "train" or "validation".

    Raises:
        FileNotFoundError, ValueError: As `open_rows`.
    """
    data = recipe.data
    columns = {data.image_column or "image": "image"}
    if reads_captions(recipe):
        columns[data.caption_column or "caption"] = "caption"
    filters = RowFilters(min_side=data.min_side or 0, max_aspect=data.max_aspect)
    return open_rows(getattr(data, split), split, columns, filters=filters, on_error=data.on_error or "raise")
