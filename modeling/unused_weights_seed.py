"""Weights of a folder that a visual tokenizer does without."""

from collections.abc import Mapping

from .configuration_seed import SeedTokenizerConfig


def weights_left_out(config: SeedTokenizerConfig, parts: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Patterns of the weights in a folder that a tokenizer of this configuration does without.

    Args:
        config: Of the tokenizer.
        parts: [`SeedTokenizer.PARTS`].
    """
    names = [r"language_model\."]  # of the whole model that it is a part of
    if not config.text_tower:
        names += [rf"{name}(\.|$)" for name in parts["matching"]]
        names.append(r"qformer\.encoder\.layer\.\d+\.(intermediate|output)\.")
    if not config.embedding_decoder:
        names.append(r"embedding_decoder\.")
    return [rf"^(visual_tokenizer\.)?{name}" for name in names]


__all__ = ["weights_left_out"]
