"""What peft adapts in SEED models: the layers that it adapts in the plain language model, and none that sees or draws.

peft knows the layers of a model by its `model_type`, and those of a whole model by suffixes alone, so `"all-linear"`
would mean the ViT and the decoders, too. Here the model itself is asked first, by [`ChoosesAdapted.choose_adapted`].
"""

import functools
import sys
from typing import Any

import torch
from torch import nn

from .import_hook_seed import when_imported


_TUNERS = "peft.tuners.tuners_utils"


class ChoosesAdapted:
    """A mix-in for a language model, and for a whole model that has one as `language_model`."""

    def choose_adapted(self, tuner: Any, config: Any) -> None:
        """Fills in the layers that an adapter adapts, where its configuration leaves them open.

        Args:
            tuner (`peft.tuners.tuners_utils.BaseTuner`): It knows the layers of the plain language model.
            config (`peft.PeftConfig`): `target_modules` (and `feedforward_modules` of IA3) that are `None` become
                those of the plain model; `"all-linear"` becomes all of the language model but its head.
        """
        language_model: Any = getattr(self, "language_model", self)
        found = getattr(config, "target_modules", ())
        if isinstance(found, str) and found.lower() == "all-linear" and language_model is not self:
            inner = type(config)(target_modules=found)
            sys.modules[_TUNERS]._maybe_include_all_linear_layers(inner, language_model)
            config.target_modules = {f"language_model.{name}" for name in inner.target_modules}
        elif found is None:
            tuner._prepare_adapter_config(config, {"model_type": _plain_type(language_model.config)})
            for name in ("target_modules", "feedforward_modules"):
                if isinstance(suffixes := getattr(config, name, None), set):
                    setattr(config, name, self._of_language_model(suffixes))

    def _of_language_model(self, suffixes: set[str]) -> set[str]:
        """The same suffixes, or the whole names if a suffix is also that of another part."""
        names = [name for name, _ in self.named_modules() if name.endswith(tuple(f".{s}" for s in suffixes))]  # type: ignore[attr-defined]
        inner = {name for name in names if name.startswith("language_model.")}
        return inner if inner and len(inner) < len(names) else suffixes

    def get_submodule(self, target: str) -> nn.Module:
        """As [`torch.nn.Module.get_submodule`]. `"embeddings.word_embeddings"` embeds ids as the language model does.

        peft asks for it by this name when it puts virtual tokens before a prompt. Else it would take the first matrix
        of the first part that has as many rows as the vocabulary.
        """
        if target == "embeddings.word_embeddings":
            language_model: Any = getattr(self, "language_model", self)
            rows, config = language_model.get_input_embeddings(), language_model.config
            simple = config.visual_embedding == "learned" and config.image_token_id < config.vocab_size
            return rows if simple else _Embeds(language_model)
        return super().get_submodule(target)  # type: ignore[misc] # a mix-in


def check_virtual_tokens(model: Any, settings: Any, options: dict[str, Any]) -> None:
    """Raises `ValueError` for options of `generate` that do not go with virtual tokens of peft.

    Args:
        model: That generates. peft has replaced its `prepare_inputs_for_generation`, if there are any.
        settings (`GenerationConfig`): For what is not in `options`.
        options: Of the call.
    """
    tuned = getattr(vars(model).get("prepare_inputs_for_generation"), "__self__", None)
    if not getattr(getattr(tuned, "active_peft_config", None), "is_prompt_learning", False):
        return
    cache = options.get("cache_implementation", settings.cache_implementation)
    taken = [name for name in ("code_guidance_scale", "inputs_embeds") if options.get(name) is not None]
    taken += [f"cache_implementation={cache!r}"] if "static" in str(cache) else []
    if taken:
        raise ValueError(
            f"{' and '.join(taken)} cannot go with virtual tokens (prompt tuning, p-tuning, prefix tuning): peft puts "
            "them before the ids of each row at the first step alone. Leave it out, or adapt with LoRA."
        )


def _plain_type(config: Any) -> str:
    """The `model_type` of the plain configuration that this one adds the visual vocabulary to."""
    classes = (cls for cls in type(config).__mro__ if not hasattr(cls, "visual_token_offset"))
    return next(cls.model_type for cls in classes if vars(cls).get("model_type"))  # type: ignore[attr-defined]


class _Embeds(nn.Module):
    """Embeds ids as a language model does. It shares the weights, and has none in its own state."""

    def __init__(self, language_model: Any):
        super().__init__()
        self._of = (language_model,)  # in a tuple: no part of this module

    @property
    def weight(self) -> torch.Tensor:
        return self._of[0].get_input_embeddings().weight

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        (language_model,) = self._of
        rows = language_model.config.vocab_size
        if input_ids.numel() and (largest := int(input_ids.max())) >= rows:
            raise ValueError(
                f"Id {largest} has no row among {rows}. If it is the placeholder of images, fill it first "
                "(SeedForConditionalGeneration.fill_placeholders), or adapt with LoRA."
            )
        return language_model.embed_ids(input_ids)


def let_models_choose() -> None:
    """Makes peft ask a model of this package which layers to adapt, now or when peft is imported."""
    when_imported(_TUNERS, _ask_models)  # peft takes seconds to import, which a model does not need


def _ask_models(tuners_utils: Any) -> None:
    tuner = tuners_utils.BaseTuner
    if hasattr(tuner, "asks_seed_models"):  # this module may be loaded twice: as remote code, too
        return
    tuner.asks_seed_models = True
    begin, inject = tuner.__init__, tuner.inject_adapter

    def ask(self, model, config):
        if hasattr(model, "choose_adapted"):
            model.choose_adapted(self, config)

    @functools.wraps(begin)
    def __init__(self, model, peft_config, adapter_name, *args, **kwargs):
        # VeRA and others size what layers share before they inject. Those that have no layers by `model_type`
        # (trainable tokens) look at the model, which they do not have yet.
        if getattr(type(self), "target_module_mapping", None):
            ask(self, model, peft_config[adapter_name] if isinstance(peft_config, dict) else peft_config)
        begin(self, model, peft_config, adapter_name, *args, **kwargs)

    @functools.wraps(inject)
    def inject_adapter(self, model, adapter_name, *args, **kwargs):
        ask(self, model, self.peft_config[adapter_name])
        return inject(self, model, adapter_name, *args, **kwargs)

    tuner.__init__, tuner.inject_adapter = __init__, inject_adapter


__all__ = ["ChoosesAdapted", "check_virtual_tokens", "let_models_choose"]
