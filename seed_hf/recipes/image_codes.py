"""The visual tokenizer that a recipe names: it encodes images of conversations, and stored codes must be its own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from transformers import PreTrainedConfig

from seed_hf.artifacts.fingerprints import tokenizer_fingerprint
from seed_hf.artifacts.loading import load_tokenizer
from seed_hf.data.sources.sequence_rows import Encode
from seed_hf.files import read_json
from seed_hf.inference import encode_images
from seed_hf.modeling.configuration_seed import SeedTokenizerConfig

from .places import naming_the_key
from .schema import LanguageModelRecipe


def named_tokenizer(recipe: LanguageModelRecipe) -> tuple[str, str] | None:
    """Key and place of the visual tokenizer that encodes images; `None` if the recipe names none.

    Args:
        recipe: Of the language-model or the instruction stage.
    """
    for name in ("image_tokenizer", "visual_tokenizer"):
        if source := getattr(recipe.model, name):
            return f"model.{name}", source
    return None


def encoder_of(recipe: LanguageModelRecipe, config: PreTrainedConfig) -> Encode | None:
    """A function from images to codes, which loads the visual tokenizer when it is first called.

    Args:
        recipe: Of the language-model or the instruction stage.
        config: Of the language model.

    Raises:
        ValueError: The codes of the visual tokenizer are not those of the language model.
    """
    if (named := named_tokenizer(recipe)) is None:
        return None
    key, source = named

    @cache
    def loaded():
        with naming_the_key(key):
            tokenizer, image_processor = load_tokenizer(source, device=recipe.trainer.device)
            check_codebook(tokenizer.config, config)
        return tokenizer, image_processor

    def encode(images):
        tokenizer, image_processor = loaded()
        return encode_images(tokenizer, image_processor, images).tolist()

    return encode


def check_stored_codes(recipe: LanguageModelRecipe, sources: Mapping[str, str]) -> None:
    """Raise `ValueError` if `seed-hf tokenize` made the codes of a folder with another visual tokenizer.

    Nothing else would show it: any code is a code. A folder without its manifest, and a recipe that names no visual
    tokenizer, are believed.

    Args:
        recipe: Of the language-model or the instruction stage.
        sources: Folders or files of rows with codes, by their names in messages.
    """
    if (named := named_tokenizer(recipe)) is None:
        return
    key, place = named
    own: dict[str | None, str] = {}  # by number type: that of the job decides codes, and the hash
    for where, source in sources.items():
        path = Path(source)
        file = (path if path.is_dir() else path.parent) / "manifest.json"
        if not path.exists() or not file.is_file():
            continue
        manifest = read_json(file)
        there, settings = manifest.get("tokenizer"), manifest.get("settings")
        if not isinstance(there, dict) or not isinstance(settings, dict) or "sha256" not in there:
            continue
        if (dtype := settings.get("dtype")) not in own:
            with naming_the_key(key):
                own[dtype] = tokenizer_fingerprint(load_tokenizer(place, device="cpu", dtype=dtype)[0])
        if own[dtype] != there["sha256"]:
            raise ValueError(
                f"{where} has codes of another visual tokenizer than {key} ({place}): {file} has another hash of its "
                "weights. Tokenize the images with this one, or name the one that made the codes."
            )


def check_codebook(tokenizer: SeedTokenizerConfig, language_model: PreTrainedConfig) -> None:
    """Raise `ValueError` unless a visual tokenizer has as many codes as the language model knows.

    Args:
        tokenizer, language_model: Their configurations.
    """
    for name in ("codebook_size", "num_query_tokens"):
        own, wanted = getattr(tokenizer, name), getattr(language_model, name, None)
        if wanted is not None and own != wanted:
            raise ValueError(
                f"the visual tokenizer has {name} {own}, the language model {wanted}. They do not belong together."
            )
