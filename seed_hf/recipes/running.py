"""`run_stage`: one training stage from one YAML file. It is what `seed-hf train` calls."""

import logging
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from seed_hf.data.sources.rows import open_rows, stream_rows, with_caption
from seed_hf.devices import weights_to_fp32_where_half_is_slow

from .reading import LanguageModel, Recipe, TokenizerModel, read_recipe


logger = logging.getLogger(__name__)
_HUB_ID = re.compile(r"^(?P<repository>[\w-][\w.-]*/[\w-][\w.-]*)(/(?P<subfolder>[\w.-]+))?$")


def run_stage(stage: str, config_path: str | os.PathLike, changes: Sequence[str] = ()) -> Path:
    """Train one stage as a YAML file says, going on from the last whole checkpoint, and save what was trained.

    The file has three sections: `model:` and `data:` (see the classes in `recipe.py`) and `trainer:`, the fields of
    `ContrastiveConfig`, `QuantizationConfig` or `LanguageModelConfig`, of which `output_dir` must be given. Paths are
    relative to the working directory. The trained model is saved into `output_dir`, its checkpoints are beside it.

    Args:
        stage: "contrastive" (stage I), "quantization" (stage II) or "lm".
        config_path: The YAML file.
        changes: Values that replace those of the file: "trainer.max_steps=10".

    Returns:
        `output_dir`.

    Raises:
        ValueError: unknown stage or keys, values of the wrong type, combinations that make no sense.
        FileNotFoundError: a file or folder that the YAML names does not exist.
    """
    recipe = read_recipe(stage, config_path, changes)
    return (_run_language_model if stage == "lm" else _run_tokenizer)(recipe)


def _run_tokenizer(recipe: Recipe) -> Path:
    from transformers import AutoTokenizer, set_seed

    from seed_hf.data.batches.augmentation import random_crop_flip
    from seed_hf.data.batches.image_text import ImageTextCollator
    from seed_hf.modeling.image_processing_seed import SeedImageProcessor
    from seed_hf.training.contrastive import ContrastiveTrainer
    from seed_hf.training.quantization import QuantizationTrainer

    stage, model, data, args = recipe.stage, recipe.model, recipe.data, recipe.trainer
    set_seed(args.seed)
    tokenizer = _open_tokenizer(model)
    config = tokenizer.config
    size = config.vision_config.image_size
    if model.image_processor:
        processor = _open(SeedImageProcessor, model.image_processor, "model.image_processor")
    else:
        processor = SeedImageProcessor(size={"height": size, "width": size})
    encoder = _open_target_encoder(model, config.generation_target)
    if stage == "quantization" and encoder is None and not data.features:
        wanted = f"model.{config.generation_target}_encoder"
        logger.warning("Without %s or cached features the generation embeddings have no target.", wanted)
    with_text = stage == "contrastive" or model.text_encoder is not None
    collator = ImageTextCollator(
        processor,
        _open(AutoTokenizer, model.text_tokenizer, "model.text_tokenizer") if with_text else None,
        max_text_tokens=data.max_text_tokens or (32 if stage == "contrastive" else config.num_generation_tokens),
        padding="longest" if stage == "contrastive" else "max_length",
        augment=random_crop_flip if data.augment else None,
        seed=args.seed,
    )
    train, validation = _image_rows(recipe, tokenizer, processor, with_text)
    common = {"data_collator": collator, "train_dataset": train, "eval_dataset": validation}
    if stage == "contrastive":
        return _train(recipe, ContrastiveTrainer(tokenizer, args, **common), lambda trainer: trainer.model, processor)
    trainer = QuantizationTrainer(tokenizer, args, target_encoder=encoder, **common)
    return _train(recipe, trainer, lambda trainer: trainer.model, processor)


def _open_target_encoder(model: TokenizerModel, target: str):
    from transformers import AutoModel, CLIPVisionModelWithProjection

    given = "text" if model.text_encoder else "image" if model.image_encoder else None
    if given not in (None, target):
        raise ValueError(f"model.{given}_encoder does not go with the tokenizer's generation_target {target!r}.")
    if given == "text":
        return _open(AutoModel, model.text_encoder, "model.text_encoder")
    if given == "image":
        return _open(CLIPVisionModelWithProjection, model.image_encoder, "model.image_encoder")
    return None


def _open_tokenizer(model: TokenizerModel):
    from transformers import Blip2ForImageTextRetrieval

    from seed_hf.modeling.configuration_seed import SeedTokenizerConfig
    from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer

    if model.config:
        return SeedTokenizer(SeedTokenizerConfig(**model.config))
    if model.tokenizer:
        return _open(SeedTokenizer, model.tokenizer, "model.tokenizer")
    settings = model.settings or {}
    if model.blip2:
        return SeedTokenizer.from_blip2(_open(Blip2ForImageTextRetrieval, model.blip2, "model.blip2"), **settings)
    return SeedTokenizer.from_stage_one(_open(SeedTokenizer, model.stage_one, "model.stage_one"), **settings)


def _image_rows(recipe: Recipe, tokenizer, processor, captions: bool):
    """The training rows, and those of the evaluation or `None`."""
    from seed_hf.data.features.cached import are_features, open_features

    data, seed = recipe.data, recipe.trainer.seed
    columns = {data.image_column or "image": "image"}
    if captions:
        columns[data.caption_column or "caption"] = "caption"

    def rows(source, split: str):
        if source is None:
            return None
        features = source is data.features
        if features or (recipe.stage == "quantization" and isinstance(source, str) and are_features(source)):
            return open_features(source, "data.features" if features else f"data.{split}", tokenizer, processor)
        if data.streaming:
            options = ("shuffle_buffer", "min_side", "max_aspect", "on_error", "image_column", "caption_column")
            given = {name: value for name in options if (value := getattr(data, name)) is not None}
            return stream_rows(source, split, captions=captions, seed=seed, **given)
        return open_rows(source, split, columns)

    return rows(data.features or data.train, "train"), rows(data.validation, "validation")


def _run_language_model(recipe: Recipe) -> Path:
    from transformers import AutoTokenizer, OPTConfig, OPTForCausalLM, set_seed

    from seed_hf.data.batches.language_model import LanguageModelCollator
    from seed_hf.data.batches.packing import installed_flash_attention
    from seed_hf.training.language_model import LanguageModelTrainer

    model, data, args = recipe.model, recipe.data, recipe.trainer
    text_tokenizer = _open(AutoTokenizer, model.text_tokenizer or model.language_model, "model.text_tokenizer")
    set_seed(args.seed)
    if model.config:
        language_model = OPTForCausalLM(OPTConfig(**{"vocab_size": len(text_tokenizer), **model.config}))
    else:
        language_model = _open_language_model(model, len(text_tokenizer))
    attention = model.attn_implementation
    if attention is None and data.pack_length and args.device.type == "cuda" and (args.bf16 or args.fp16):
        attention = installed_flash_attention()
    if attention is not None:
        language_model.set_attn_implementation(attention)
    options = ("directions", "caption_prompt", "image_prompt", "question_prompt", "max_length", "pack_length")
    given = {name: getattr(data, name) for name in options if getattr(data, name) is not None}
    collator = LanguageModelCollator(text_tokenizer, language_model.config, seed=args.seed, **given)
    train = open_rows(data.train, "train")
    validation = open_rows(data.validation, "validation") if data.validation else None
    if "text" not in train.column_names:
        train, validation = (with_caption(rows, data.caption_column) for rows in (train, validation))
        if language_model.config.model_type != "seed_text":
            raise ValueError("A plain OPT has no visual tokens: give model.visual_tokenizer, or data with `text`.")
    trainer = LanguageModelTrainer(
        language_model, args, data_collator=collator, train_dataset=train, eval_dataset=validation
    )
    return _train(recipe, trainer, lambda trainer: trainer.merge(), text_tokenizer)


def _open_language_model(model: LanguageModel, text_vocabulary: int):
    from transformers import OPTForCausalLM, PreTrainedConfig

    from seed_hf.modeling.modeling_seed_text import SeedForCausalLM
    from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer

    key = "model.language_model"
    place, options = _place(model.language_model, key)
    if PreTrainedConfig.get_config_dict(place, **options)[0].get("model_type") == "seed_text":
        return _open(SeedForCausalLM, model.language_model, key)
    if model.visual_tokenizer is None:
        return _open(OPTForCausalLM, model.language_model, key)
    visual = _open(SeedTokenizer, model.visual_tokenizer, "model.visual_tokenizer")
    return SeedForCausalLM.from_language_model(
        place,
        codebook_size=visual.config.codebook_size,
        num_query_tokens=visual.config.num_query_tokens,
        code_dim=visual.config.code_dim,
        visual_embedding=model.visual_embedding,
        codebook=visual.quantizer.embedding.weight.detach() if model.visual_embedding == "projected" else None,
        text_vocab_size=text_vocabulary,
        **options,
    )


def _train(recipe: Recipe, trainer, finished, processor) -> Path:
    """Train, then save the finished model, its processor and its card: written aside first, so that no file is half
    there."""
    from seed_hf.hub.callback import ModelCardCallback

    output = Path(trainer.args.output_dir)
    card = ModelCardCallback(recipe)
    trainer.add_callback(card)
    for part in (trainer.model, getattr(trainer, "target_encoder", None)):
        if part is not None:
            weights_to_fp32_where_half_is_slow(part)
    trainer.train(resume_from_checkpoint=True)
    trainer.save_state()
    model = finished(trainer)
    if trainer.args.should_save:
        aside = output / "saving"
        shutil.rmtree(aside, ignore_errors=True)
        model.save_pretrained(aside)
        processor.save_pretrained(aside)
        for file in aside.iterdir():
            os.replace(file, output / file.name)
        aside.rmdir()
        card.write(output)
    return output


# ---- folders and Hub ids ----


def _open(cls, place: str, key: str):
    name, options = _place(place, key)
    return cls.from_pretrained(name, **options)


def _place(place: str, key: str) -> tuple[str, dict[str, str]]:
    """What `from_pretrained` takes: a folder as it is, or the id of a Hub repository and maybe a folder in it."""
    if Path(place).is_dir():
        return place, {}
    hub = _HUB_ID.match(place)
    if hub is None:
        raise FileNotFoundError(
            f"{key}: the folder {place} does not exist, and it is not the id of a Hub repository (owner/name)."
        )
    return hub["repository"], {"subfolder": hub["subfolder"]} if hub["subfolder"] else {}
