"""The types of models that SEED meets, by their `model_type`: what each is, and what takes it."""

from typing import Any


# The decorator of a family of language models adds its two types: with visual tokens, and plain.
MODEL_TYPES = {
    "seed_tokenizer": ("a SeedTokenizer", "SeedTokenizer.from_pretrained loads it"),
    "seed": ("a SeedForConditionalGeneration", "SeedForConditionalGeneration.from_pretrained loads it"),
    "blip-2": ("a BLIP-2", "SeedTokenizer.from_blip2 makes the starting point of stage I of it"),
}


def described(model_type: Any) -> str:
    """What a model is, and what takes it, as a sentence; empty for types that SEED does not know.

    Args:
        model_type: From a configuration, whatever stands there.
    """
    if not isinstance(model_type, str) or model_type not in MODEL_TYPES:
        return ""
    return "It is {}: {}.".format(*MODEL_TYPES[model_type])


def check_model_type(values: dict[str, Any], config_class, source) -> None:
    """Raises `ValueError` if a configuration is that of another model: what it is, and what takes it.

    Args:
        values: Content of `config.json`.
        config_class: The configuration that is wanted. A larger model's, with the wanted one as a part, will do.
        source: Folder or Hub id, for the message.
    """
    wanted, found = config_class.model_type, values.get("model_type")
    parts = [value.get("model_type") for value in values.values() if isinstance(value, dict)]
    if found == wanted or wanted in parts:
        return
    holds = "config.json names no model_type" if found is None else f"holds a {str(found)[:80]!r} model"
    noun = MODEL_TYPES.get(wanted, (f"a {wanted!r}",))[0]
    raise ValueError(" ".join(f"{source}: {holds}, not {noun}. {described(found)}".split()))


def read_config(config_class, source, **place) -> dict:
    """The content of `config.json`, whatever it configures.

    Args:
        config_class: `PreTrainedConfig`, whose reader is used.
        source: Folder or Hub id.
        place: `revision`, `token` and the like.

    Raises:
        ValueError: It is no JSON object.
        OSError: There is none, or it is no JSON.
    """
    return _object_in(config_class.get_config_dict, source, place)[0]


def _object_in(read, source, options: dict) -> tuple[dict, dict]:
    try:
        values, rest = read(source, **options)
    except (AttributeError, IndexError, KeyError, RecursionError, TypeError) as error:
        raise ValueError(
            f"{source}: config.json must hold the JSON object of a configuration. {type(error).__name__}: {error}"
        ) from error
    if not isinstance(values, dict):
        raise ValueError(f"{source}: config.json must hold a JSON object, got {type(values).__name__}.")
    return values, rest


class OwnModelType:
    """A mix-in for configurations: `from_pretrained` refuses the folder of another model.

    transformers only logs a line, and goes on with default sizes.
    """

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path, **kwargs):
        read = super().get_config_dict  # type: ignore[misc] # a mix-in
        values, rest = _object_in(read, pretrained_model_name_or_path, kwargs)
        check_model_type(values, cls, pretrained_model_name_or_path)
        return values, rest


__all__ = ["MODEL_TYPES", "OwnModelType", "check_model_type", "described", "read_config"]
