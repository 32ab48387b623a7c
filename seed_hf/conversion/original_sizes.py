"""Which original a state dict is, by its names, and of what sizes, by its shapes."""

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from seed_hf.modeling.configuration_seed import SeedTokenizerConfig

from .original_names import OriginalNames
from .report import ConversionError


ORIGINALS = ("seed1", "seed2", "stage1")
# Both are fixed in the authors' code (paper 3.2; `SEED_Tokenizer/`). A file with fewer is incomplete.
_DECODER_BLOCKS = 4
_REVERSE_LAYERS = 4
# Depths of the published size, by width. A file with fewer is incomplete.
_VIT_DEPTH = {1408: 39}
_QFORMER_DEPTH = {768: 12}
_CORE = ("quantize.", "encode_task_layer.", "decode_task_layer.")
_IMAGE = ("pos_embed_image", "blocks_image.", "distill_image_proj.", "image_down.")
_TEXT = ("pos_embed_text", "blocks_text.", "distill_text_proj.", "Reverse_Qformer_text.", "reverse_tokens_text")
_THREE_AXES = ("query_tokens", "cls_token", "reverse_tokens", "reverse_tokens_text")
_TOWER = (
    "Qformer.bert.embeddings.word_embeddings.weight",
    "Qformer.bert.embeddings.position_embeddings.weight",
    "Qformer.bert.encoder.layer.0.intermediate.dense.weight",
    "vision_proj.weight",
    "text_proj.weight",
    "temp",
)


@dataclass(frozen=True)
class OriginalLayout:
    """Which of the authors' models a state dict belongs to; see [`recognise`].

    Args:
        original: "seed1", "seed2" or "stage1".
        names: The authors' names of the parameters.
        head: "qformer" or "mlp": what makes the generation embeddings.
        text_tower, embedding_decoder: Whether to convert these parts.
    """

    original: str
    names: OriginalNames
    head: str
    text_tower: bool
    embedding_decoder: bool


def recognise(
    state: Mapping[str, torch.Tensor], original: str | None = None, text_tower: bool | None = None
) -> OriginalLayout:
    """Tell SEED-1, SEED-2 (with either head) and stage I apart, by the names of their parts.

    Args:
        state: The authors' key -> tensor.
        original: What it must be. "seed2" includes a checkpoint of its training class that has the text branch alone.
            `None`: a file with both branches is SEED-2, whose release does not use the text branch.
        text_tower: Whether to convert the text tower. `None`: if it is complete; of stage I always.

    Raises:
        ValueError: There is no such original.
    """
    if original is not None and original not in ORIGINALS:
        raise ValueError(f"kind must be one of {', '.join(ORIGINALS)} or None, got {original!r}.")

    def has(*starts: str) -> bool:
        return any(key.startswith(start) for key in state for start in starts)

    image, text = has(*_IMAGE), has(*_TEXT)
    if original is None and not (image or text or has(*_CORE, "Reverse_Qformer", "reverse_tokens")):
        original = "stage1"
    if original == "stage1":
        return OriginalLayout("stage1", OriginalNames(), "qformer", text_tower is not False, True)
    text_suffix = "_text" if has("Reverse_Qformer_text.", "reverse_tokens_text") else ""
    if original is not None:
        image = original == "seed2" and (image or not text_suffix)
    elif image == text:
        image = image or "reverse_tokens" in state and state["reverse_tokens"].shape[1:2] == (1,)
    return OriginalLayout(
        original="seed2" if image else "seed1",
        names=OriginalNames("image") if image else OriginalNames("text", text_suffix),
        head="mlp" if image and _has_mlp(state, has("image_down."), has("Reverse_Qformer.")) else "qformer",
        text_tower=all(key in state for key in _TOWER) if text_tower is None else text_tower,
        embedding_decoder="pos_embed" in state or has("blocks."),
    )


def _has_mlp(state, bottleneck: bool, reverse: bool) -> bool:
    if bottleneck != reverse:
        return bottleneck
    # Both or neither. The projection reads 32 x 32 values of the MLP, or one vector of the Reverse Q-Former.
    projection, queries = state.get("distill_image_proj.weight"), state.get("query_tokens")
    if projection is None or queries is None or projection.ndim != 2:
        return True  # the default of the release
    return projection.shape[1] != queries.shape[-1] or bottleneck and projection.shape[0] == projection.shape[1]


def infer_config(
    state: Mapping[str, torch.Tensor], layout: OriginalLayout, vision_heads: int, qformer_heads: int
) -> SeedTokenizerConfig:
    """The configuration of a model with the sizes of a state dict. Missing keys count as of the published size.

    Args:
        state: The authors' key -> tensor.
        layout: What [`recognise`] found.
        vision_heads, qformer_heads: Attention heads, which no shape tells.

    Raises:
        ConversionError: The sizes contradict each other or the head counts.
    """
    seen = _Shapes(state)
    target, reverse = layout.names.target, layout.names.reverse_suffix
    vision = _vision_config(state, seen, vision_heads)
    qformer = _qformer_config(seen, vision["hidden_size"], qformer_heads)
    config: dict[str, Any] = {
        "vision_config": vision,
        "qformer_config": qformer,
        "reverse_qformer_config": _reverse_qformer_config(seen, reverse, qformer),
        "decoder_config": _decoder_config(seen, target, qformer),
        "num_query_tokens": seen.size(32, (r"query_tokens", 1), (r"pos_embed(_text|_image)?", 1)),
        "codebook_size": seen.size(8192, (r"quantize\.embedding\.weight", 0)),
        "code_dim": seen.size(
            32,
            (r"quantize\.embedding\.weight", 1),
            (r"encode_task_layer\.2\.\w+", 0),
            (r"decode_task_layer\.0\.\w+", 0),
        ),
        "text_tower": layout.text_tower,
        "embedding_decoder": layout.embedding_decoder,
        "generation_target": target,
        "generation_head": layout.head,
    }
    if layout.text_tower:
        embeddings = r"Qformer\.bert\.embeddings"
        config["projection_dim"] = seen.size(256, (r"(vision|text)_proj\.(weight|bias)", 0))
        qformer["vocab_size"] = seen.size(30523, (rf"{embeddings}\.word_embeddings\.weight", 0))
        qformer["max_position_embeddings"] = seen.size(512, (rf"{embeddings}\.position_embeddings\.weight", 0))
    if layout.original != "stage1":
        default = 1024 if target == "image" else 768
        config["generation_dim"] = seen.size(default, (rf"distill_{target}_proj\.(weight|bias)", 0))
        if target == "text":
            config["num_generation_tokens"] = seen.size(77, (rf"reverse_tokens{reverse}", 1))
        if layout.head == "mlp":
            config["mlp_head_dims"] = _mlp_widths(seen)
    return SeedTokenizerConfig(**config)


def _vision_config(state: Mapping[str, torch.Tensor], seen: "_Shapes", heads: int) -> dict[str, Any]:
    block = r"visual_encoder\.blocks\.\d+"
    width = seen.size(1408, (rf"{block}\.norm[12]\.weight", 0), (r"ln_vision\.(weight|bias)", 0), (r".*cls_token", 2))
    patch = seen.size(14, (r"visual_encoder\.patch_embed\.proj\.weight", 3))
    positions = seen.size(257, (r"visual_encoder\.pos_embed", 1))
    side = math.isqrt(max(positions - 1, 0))
    if side * side + 1 != positions:
        raise ConversionError(
            f"visual_encoder.pos_embed has {positions} positions. Expected: a square number, and one for the class.",
            misshapen=["visual_encoder.pos_embed"],
        )
    _divides(width, heads, "vision_heads", "ViT")
    return {
        "hidden_size": width,
        "intermediate_size": seen.size(int(width * 4.3637), (rf"{block}\.mlp\.fc1\.weight", 0)),
        "num_hidden_layers": _vit_depth(state, seen, width),
        "num_attention_heads": heads,
        "image_size": side * patch,
        "patch_size": patch,
        "initializer_range": 0.02,
    }


def _qformer_config(seen: "_Shapes", vision_width: int, heads: int) -> dict[str, Any]:
    layer = r"Qformer\.bert\.encoder\.layer\.\d+"
    hidden = seen.size(
        768,
        (rf"{layer}\.attention\.self\.\w+\.weight", 0),
        (r"Qformer\.bert\.embeddings\.LayerNorm\.weight", 0),
        (r"query_tokens", 2),
    )
    _divides(hidden, heads, "qformer_heads", "Q-Former")
    return {
        "hidden_size": hidden,
        "intermediate_size": seen.size(4 * hidden, (rf"{layer}\.intermediate(_query)?\.dense\.weight", 0)),
        "encoder_hidden_size": vision_width,
        "num_attention_heads": heads,
        **_qformer_depth(seen, "Qformer", _QFORMER_DEPTH.get(hidden, 1)),
    }


def _reverse_qformer_config(seen: "_Shapes", suffix: str, qformer: Mapping[str, Any]) -> dict[str, Any]:
    layer = rf"Reverse_Qformer{suffix}\.bert\.encoder\.layer\.\d+"
    hidden, inner = qformer["hidden_size"], qformer["intermediate_size"]
    return {
        "hidden_size": seen.size(
            hidden, (rf"{layer}\.attention\.self\.\w+\.weight", 0), (rf"reverse_tokens{suffix}", 2)
        ),
        "intermediate_size": seen.size(inner, (rf"{layer}\.intermediate_query\.dense\.weight", 0)),
        "encoder_hidden_size": hidden,
        "use_qformer_text_input": False,
        "num_attention_heads": qformer["num_attention_heads"],
        **_qformer_depth(seen, f"Reverse_Qformer{suffix}", _REVERSE_LAYERS),
    }


def _decoder_config(seen: "_Shapes", target: str, qformer: Mapping[str, Any]) -> dict[str, Any]:
    hidden = qformer["hidden_size"]
    return {
        "hidden_size": hidden,
        "intermediate_size": seen.size(4 * hidden, (rf"blocks(_{target})?\.\d+\.mlp\.fc1\.weight", 0)),
        "num_hidden_layers": max(seen.depth("blocks"), seen.depth(f"blocks_{target}"), _DECODER_BLOCKS),
        "layer_norm_eps": 1e-6,
        "initializer_range": 0.02,
        "num_attention_heads": qformer["num_attention_heads"],
    }


def _vit_depth(state, seen: "_Shapes", width: int) -> int:
    depth = seen.depth("visual_encoder.blocks")
    # EVA's own file has one block more than BLIP-2 and SEED, and the layers after the blocks.
    whole = any(re.match(r"visual_encoder\.(norm|fc_norm|head)\.", key) for key in state)
    published = _VIT_DEPTH.get(width, 1)
    return max(depth - 1 if whole or depth == published + 1 and width in _VIT_DEPTH else depth, published)


def _qformer_depth(seen: "_Shapes", name: str, at_least: int) -> dict[str, int]:
    depth = max(seen.depth(f"{name}.bert.encoder.layer"), at_least)
    crossed = seen.indices(rf"{re.escape(name)}\.bert\.encoder\.layer\.(\d+)\.crossattention\..*")
    # Every second layer in all published models, unless the keys show another step.
    steps = Counter(later - earlier for earlier, later in zip(crossed, crossed[1:]))
    return {"num_hidden_layers": depth, "cross_attention_frequency": steps.most_common(1)[0][0] if steps else 2}


def _mlp_widths(seen: "_Shapes") -> tuple[int, ...]:
    published = {0: 256, 2: 128, 4: 32}  # index in `image_down`, which also counts activations -> width
    places = sorted({*seen.indices(r"image_down\.(\d+)\.weight"), *published})
    return tuple(
        seen.size(
            published.get(place, 32), (rf"image_down\.{place}\.weight", 0), (rf"image_down\.{place + 2}\.weight", 1)
        )
        for place in places
    )


def _divides(width: int, heads: int, name: str, part: str):
    if heads < 1 or width % heads:
        raise ConversionError(
            f"The {part} of this checkpoint is {width} wide, which {name}={heads} does not divide. The shapes do not "
            f"tell the number of heads: pass {name}."
        )


class _Shapes:
    """Sizes by majority, so that one tensor of a wrong shape is recognised as wrong."""

    def __init__(self, state: Mapping[str, torch.Tensor]):
        self._shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}

    def size(self, default: int, *places: tuple[str, int]) -> int:
        """The size that most tensors have at these (pattern, axis). In a tie, the earlier place counts."""
        votes = Counter[int]()
        for pattern, axis in places:
            matches = re.compile(pattern)
            for key, shape in self._shapes.items():
                tokens = key.endswith(_THREE_AXES) or "pos_embed" in key
                if axis < len(shape) and (len(shape) == 3 or not tokens) and matches.fullmatch(key):
                    votes[shape[axis]] += 1
        return votes.most_common(1)[0][0] if votes else default

    def indices(self, pattern: str) -> list[int]:
        matches = re.compile(pattern)
        return sorted({int(found.group(1)) for key in self._shapes if (found := matches.fullmatch(key))})

    def depth(self, prefix: str) -> int:
        found = self.indices(rf"{re.escape(prefix)}\.(\d+)\..*")
        return found[-1] + 1 if found else 0
