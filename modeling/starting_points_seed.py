"""Starting points of the training stages: a BLIP-2 for stage I, a tokenizer of stage I for stage II.

Sources: arXiv 2307.08041, section 3.1; `pretrain_qformer.yaml` and `pretrain_codebook.yaml` of the authors' release.
"""

import copy
import os

import torch
from torch import nn
from transformers import Blip2Config, Blip2ForImageTextRetrieval, Blip2Model
from transformers.configuration_utils import PreTrainedConfig

from .configuration_seed import SeedTokenizerConfig
from .model_types_seed import check_model_type, read_config
from .whole_weights_seed import check_weights, load_whole


def tokenizer_from_blip2(cls, blip2, **settings):
    """See [`SeedTokenizer.from_blip2`]."""
    source: Blip2ForImageTextRetrieval | Blip2Model = blip2 if isinstance(blip2, nn.Module) else _load_blip2(blip2)
    if lacking := set(cls.PARTS["seeing"]) - {name for name, _ in _children(source)}:
        raise TypeError(
            "from_blip2 takes a Blip2ForImageTextRetrieval, a Blip2Model or their folder; "
            f"{type(source).__name__} has no {', '.join(sorted(lacking))}."
        )
    theirs = source.config
    has_text = hasattr(source, "text_projection") and hasattr(source, "embeddings")
    if settings.setdefault("text_tower", has_text) and not has_text:
        raise ValueError(
            f"{type(source).__name__} carries no text tower, only the query path. Start from a "
            "Blip2ForImageTextRetrieval, or give text_tower=False."
        )
    # The source's own epsilon (1e-6 by default) keeps its features; LAVIS and SEED have 1e-5 there.
    settings.setdefault("vision_norm_eps", source.vision_model.post_layernorm.eps)
    qformer_config = copy.deepcopy(theirs.qformer_config)
    config = SeedTokenizerConfig(
        vision_config=copy.deepcopy(theirs.vision_config),
        qformer_config=qformer_config,
        num_query_tokens=source.query_tokens.shape[1],
        **({"projection_dim": source.text_projection.out_features} if has_text else {}),
        **settings,
    )
    model = cls(config)
    copies = {"vision_model": "vision_model", "qformer": "qformer"}
    if config.text_tower:
        copies["text_embeddings"] = "embeddings"
        copies |= {name: name for name in ("vision_projection", "text_projection")}
    for ours, part in copies.items():
        wanted = getattr(model, ours).state_dict()
        there = {name: value for name, value in getattr(source, part).state_dict().items() if name in wanted}
        getattr(model, ours).load_state_dict(there)  # strict: a missing name raises
    with torch.no_grad():
        model.query_tokens.copy_(source.query_tokens)
    return model


def tokenizer_from_stage_one(cls, stage_one, **settings):
    """See [`SeedTokenizer.from_stage_one`]."""
    source = stage_one if isinstance(stage_one, cls) else cls.from_pretrained(stage_one)
    saved = source.config.to_dict()
    fixed = {"vision_config", "qformer_config", "num_query_tokens", "projection_dim", "vision_norm_eps"}
    if taken := sorted(fixed & set(settings)):
        raise ValueError(f"{', '.join(taken)} cannot be set: stage II keeps the values of the stage I tokenizer.")
    if settings.get("text_tower") and not source.config.text_tower:
        raise ValueError("text_tower=True, but the tokenizer to start from has none.")
    if settings.get("generation_target", saved["generation_target"]) != saved["generation_target"]:
        # The new target has its own default sizes.
        for name in ("num_generation_tokens", "generation_dim"):
            saved.pop(name)
    config = SeedTokenizerConfig.from_dict({**saved, **settings})
    model = cls(config)
    stage_one = (*cls.PARTS["seeing"], *cls.PARTS["matching"])
    wanted = {name for name in model.state_dict() if name.split(".")[0] in stage_one}
    kept = {name: value for name, value in source.state_dict().items() if name in wanted}
    check_weights("stage_one", cls.__name__, missing=wanted - kept.keys())
    model.load_state_dict(kept, strict=False)  # the rest is new
    return model


def _load_blip2(folder: str | os.PathLike):
    values = read_config(PreTrainedConfig, folder)
    check_model_type(values, Blip2Config, folder)
    retrieval = "Blip2ForImageTextRetrieval" in (values.get("architectures") or ())
    return load_whole(Blip2ForImageTextRetrieval if retrieval else Blip2Model, folder, dtype=torch.float32)


def _children(module: nn.Module):
    yield from module.named_children()
    yield from module.named_parameters(recurse=False)
