"""Hashes of the weights and settings that decide a model's results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from seed_hf.files import sha256_of
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer


# Settings that decide the codes and cannot be seen in the shapes of the weights.
_SETTINGS = {
    "vision_config": ("image_size", "patch_size", "num_attention_heads", "hidden_act", "layer_norm_eps"),
    "qformer_config": ("num_attention_heads", "hidden_act", "layer_norm_eps", "cross_attention_frequency"),
}
_INCIDENTAL = ("architectures", "dtype", "transformers_version")


def tokenizer_fingerprint(tokenizer: SeedTokenizer) -> str:
    """SHA-256 of what decides the codes: the configuration of the encoding half and its weights as loaded."""
    return _fingerprint(tokenizer, "seeing", "coding")


def causal_fingerprint(tokenizer: SeedTokenizer) -> str:
    """SHA-256 of what decides the causal embeddings: as `tokenizer_fingerprint`, but only of what stage II freezes.

    The codebook is not included: cached features still fit a tokenizer that stage II has trained on them.
    """
    return _fingerprint(tokenizer, "seeing")


def model_fingerprint(model: nn.Module, text_tokenizer=None) -> str:
    """SHA-256 of what decides a model's results: configuration, weights as loaded, and the text tokenizer's rules.

    Args:
        model: Any model.
        text_tokenizer: That it reads by, if it reads texts.
    """
    digest = hashlib.sha256()
    _add_settings(digest, model)
    if text_tokenizer is not None:
        digest.update(_rules(text_tokenizer))
    _add_weights(digest, model)
    return digest.hexdigest()


def rules_fingerprint(text_tokenizer) -> str:
    """SHA-256 of what decides the ids of a text: a text tokenizer's vocabulary and rules."""
    return hashlib.sha256(_rules(text_tokenizer)).hexdigest()


def _rules(text_tokenizer) -> bytes:
    backend = getattr(text_tokenizer, "backend_tokenizer", None)
    rules = json.loads(backend.to_str()) if backend is not None else {"vocabulary": text_tokenizer.get_vocab()}
    for name in ("padding", "truncation"):  # settings of the last call
        rules.pop(name, None)
    rules["pad_token_id"] = text_tokenizer.pad_token_id
    return json.dumps(rules, sort_keys=True).encode()


def scheduler_settings(scheduler) -> dict[str, Any]:
    """The configuration of a scheduler of diffusers, ready for JSON, without what only tells where it comes from."""
    own = {name: value for name, value in scheduler.config.items() if not name.startswith("_")}
    return json.loads(json.dumps(own, sort_keys=True, default=str))


def weights_fingerprint(model: nn.Module) -> str:
    """SHA-256 over the names and values of all parameters and buffers. The files they came from do not matter.

    Args:
        model: Any module.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def files_fingerprint(files: Iterable[Path], *, names: bool = True) -> str:
    """SHA-256 of the contents of files, whatever folder they lie in.

    Args:
        files: In any order.
        names: Whether the names of the files count, too. They decide the order in any case.
    """
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.name):
        digest.update(f"{file.name if names else ''} {sha256_of(file)}\n".encode())
    return digest.hexdigest()


def _add_settings(digest, encoder: nn.Module) -> None:
    config = getattr(encoder, "config", None)
    settings = config.to_dict() if config is not None else {}
    # The folder and the library version do not matter.
    settings = {name: value for name, value in settings.items() if name not in _INCIDENTAL and name[0] != "_"}
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode())


def _fingerprint(tokenizer: SeedTokenizer, *roles: str) -> str:
    config = tokenizer.config
    digest = hashlib.sha256()
    settings = {name: getattr(config, name) for name in ("causal_queries", "vision_norm_eps", "num_query_tokens")}
    for part, names in _SETTINGS.items():
        settings[part] = {name: getattr(getattr(config, part), name) for name in names}
    digest.update(json.dumps(settings, sort_keys=True).encode())
    _add_weights(digest, tokenizer, {part for role in roles for part in SeedTokenizer.PARTS[role]})
    return digest.hexdigest()


def _add_weights(digest, model: nn.Module, parts: set[str] | None = None) -> None:
    """Adds the weights of the named parts, or all weights."""
    for name, weight in sorted(model.state_dict().items()):
        if parts is None or name.partition(".")[0] in parts:
            digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}\n".encode())
            digest.update(weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
