"""One token for every row, over a cache of fixed size: the step of decoding that a GPU repeats without Python.

A step of a language model is hundreds of small kernels. Launched one by one from Python they take several times as
long as the GPU needs for them. Here all tensors keep their places, so the step is captured once as a CUDA graph, and
each later step is one launch. On other devices the same step runs as it is.
"""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from transformers.cache_utils import DynamicCache, StaticCache

from .captured_graph_seed import CapturedGraph
from .next_logits_seed import has_hooks, next_logits


# Lengths are rounded up to a multiple of this, so that prompts of similar lengths share a step.
_BLOCK = 64
# Steps that a model keeps: each has a cache of its own.
_KEPT = 4
_STEPS: WeakKeyDictionary[Any, OrderedDict[tuple, "StaticStep"]] = WeakKeyDictionary()


def can_keep_steps(model: Any) -> bool:
    """Whether steps of a model always run the same kernels on the same weights.

    Args:
        model: A language model. Adapters may be switched, offloaded and quantized weights may move, in training there
            is dropout, some rotary positions are looked up on the host, and autocast drops its copies of the weights.
    """
    adapted = getattr(model, "_hf_peft_config_loaded", False) or hasattr(model, "peft_config")
    moved = hasattr(model, "hf_device_map") or getattr(model, "hf_quantizer", None) is not None
    hooked = any(map(has_hooks, model.modules()))
    if adapted or moved or hooked or model.training or _reads_positions(model.config):
        return False
    # Last: of a model that was offloaded the device is "meta", which torch asks nothing about.
    return one_mask_for_all(model.config) and not torch.is_autocast_enabled(model.device.type)


def _reads_positions(config: Any) -> bool:
    """Whether rotary positions are scaled by how far they reach, which the host looks up in every step."""
    rotary = getattr(config, "rope_parameters", None) or {}
    kinds = [rotary, *(values for values in rotary.values() if isinstance(values, dict))]  # by type of layer
    return any(values.get("rope_type") == "dynamic" for values in kinds)


def one_mask_for_all(config: Any) -> bool:
    """Whether one mask `(rows, 1, queries, keys)` serves all layers.

    Args:
        config: Of a language model.
    """
    layers = getattr(config, "layer_types", None) or ["full_attention"]
    return config._attn_implementation == "sdpa" and set(layers) == {"full_attention"}


class StaticStep:
    r"""The step of a language model for a fixed number of rows and a fixed greatest length.

    Args:
        model: A language model of `can_keep_steps`.
        rows: Of the batch; under guidance two for each sample.
        length: The greatest length of a row, prompt included.
        guided: Whether the second half of the rows is for guidance on codes.
        codes_alone: Whether logits are those of the codes alone.
        compiling: How torch compiles the step before it is captured, as [`CompileConfig`]. CUDA graphs of its modes
            are left out: this class has its own.
    """

    @torch.inference_mode(False)  # what is made in that mode could not be changed outside it
    def __init__(
        self,
        model: Any,
        rows: int,
        length: int,
        guided: bool = False,
        codes_alone: bool = False,
        compiling: Any = None,
    ):
        device = model.device
        self.cache = StaticCache(config=model.config.get_text_config(decoder=True), max_cache_len=length)
        self.ids = torch.zeros(rows, 1, dtype=torch.long, device=device)
        self.positions = torch.zeros(rows, 1, dtype=torch.long, device=device)
        self.mask = torch.zeros(rows, 1, 1, length, dtype=model.dtype, device=device)
        self.place = torch.zeros(1, dtype=torch.long, device=device)
        self.scale = torch.ones(rows // 2, device=device) if guided else None
        self.hidden_value = torch.finfo(model.dtype).min
        self.graph: CapturedGraph | None = None
        self.logits: torch.Tensor | None = None
        self.codes_alone = codes_alone
        self.next_logits = _compiled(compiling, device)
        self.weights = _places(model)

    @torch.no_grad()
    def begin(
        self, model: Any, prompt: DynamicCache, mask: torch.Tensor | None, last: torch.Tensor, scale=None
    ) -> None:
        """Starts from a prompt that has been read.

        Args:
            model: As at construction.
            prompt: What the model keeps of the prompt, of as many rows.
            mask: `(rows, length of the prompt)`, 0 where there is padding.
            last: The positions of the prompt's last tokens `(rows,)`.
            scale: Of the guidance, `(rows / 2,)`.
        """
        self._prepare(model, prompt)
        read = prompt.get_seq_length()
        for layer, source in zip(self.cache.layers, prompt.layers, strict=True):
            for kept, new in ((layer.keys, source.keys), (layer.values, source.values)):
                kept[:, :, :read].copy_(new)
                kept[:, :, read:].zero_()  # of a call that overflowed they are NaN, which no mask hides
            layer.cumulative_length.fill_(read)
        self.mask.fill_(self.hidden_value)
        seen = torch.zeros_like(self.mask[:, 0, 0, :read])
        self.mask[:, 0, 0, :read] = seen if mask is None else seen.masked_fill(mask == 0, self.hidden_value)
        self.positions.copy_(last[:, None] + 1)
        self.place.fill_(read)
        if self.scale is not None:
            self.scale.copy_(scale)

    @torch.no_grad()
    def __call__(self, model: Any, tokens: torch.Tensor) -> torch.Tensor:
        """What `next_logits` returns after one more token of each row `(rows,)`. The next step replaces it."""
        self.ids.copy_(tokens[:, None])
        if self.graph is None:
            self._run(model)
        else:
            self.graph.replay()
        assert self.logits is not None
        return self.logits

    def _run(self, model: Any) -> None:
        self.mask.index_fill_(3, self.place, 0.0)
        self.logits = self.next_logits(
            model, self.ids, self.mask, self.positions, self.cache, self.scale, self.codes_alone
        )
        self.place += 1
        self.positions += 1

    @torch.inference_mode(False)
    @torch.no_grad()
    def _prepare(self, model: Any, prompt: DynamicCache) -> None:
        """Makes the cache, like that of a prompt, and captures the step; once."""
        for layer, source in zip(self.cache.layers, prompt.layers, strict=True):
            if not layer.is_initialized:
                layer.lazy_initialization(source.keys, source.values)
        if self.graph is not None or not self.ids.is_cuda:
            return
        self.graph = CapturedGraph(lambda: self._run(model), self.ids.device)


@contextmanager
def static_step(
    model: Any, rows: int, length: int, guided: bool = False, codes_alone: bool = False, compiling: Any = None
) -> Iterator[StaticStep]:
    """A step that the model has kept, or a new one, for one call alone. The last few are kept afterwards.

    Args:
        model, rows, guided, codes_alone, compiling: Of [`StaticStep`].
        length: At least.
    """
    length = -(-length // _BLOCK) * _BLOCK
    kept = _STEPS.setdefault(model, OrderedDict())
    how = None if compiling is None else str(compiling.to_dict())
    key = (rows, length, guided, codes_alone, how, model.dtype, model.device)
    step = kept.pop(key, None)
    if step is None or step.weights != _places(model):  # moved, or replaced by others
        step = StaticStep(model, rows, length, guided, codes_alone, compiling)
    yield step  # taken out while it is used: another thread makes one of its own
    kept[key] = step
    while len(kept) > _KEPT:
        kept.popitem(last=False)


def drop_steps(model: Any) -> None:
    """Frees the caches and graphs that a model has kept.

    Args:
        model: A language model, or a model with one.
    """
    _STEPS.pop(getattr(model, "language_model", model), None)


def _compiled(compiling: Any, device: torch.device) -> Any:
    """`next_logits`, compiled where transformers would compile."""
    if compiling is None or device.type == "cpu" and not compiling._compile_all_devices:
        return next_logits
    settings = compiling.to_dict()
    if settings.get("mode") in ("reduce-overhead", "max-autotune"):
        settings["mode"] = None if settings["mode"] == "reduce-overhead" else "max-autotune-no-cudagraphs"
    # A function of its own: all that share one also share torch's limit of recompilations.
    own = FunctionType(next_logits.__code__.replace(), next_logits.__globals__, next_logits.__name__)
    return torch.compile(own, **settings)


def _places(model: Any) -> tuple[int, ...]:
    return tuple(weight.data_ptr() for weight in chain(model.parameters(), model.buffers()))


__all__ = ["StaticStep", "can_keep_steps", "drop_steps", "one_mask_for_all", "static_step"]
