"""Weights that a checkpoint lacks are an error. Without this, transformers draws them at random and logs a line."""

import copy
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from transformers.modeling_utils import PreTrainedModel


_SHOWN = 5  # names in a message
# What peft sets itself: a part of the names of weights that it does not save (AdaLoRA), or saves apart (SHiRA).
_SET_BY_PEFT = frozenset({"ranknum", "shira_indices"})
_new_weights: ContextVar[frozenset[str]] = ContextVar("new_weights", default=frozenset())


@contextmanager
def new_weights(names: Iterable[str]) -> Iterator[None]:
    """In this block, `from_pretrained` of a SEED class may initialise these weights where the checkpoint lacks them.

    Args:
        names: Of weights, as in `state_dict()`. They are the new parts of a model that is built from a smaller one.
    """
    token = _new_weights.set(frozenset(names))
    try:
        yield
    finally:
        _new_weights.reset(token)


class WholeWeights:
    """A mix-in for models: `from_pretrained` and `load_adapter` raise `ValueError` for weights that do not fit.

    Missing weights and those of another shape are refused, except with the user's `ignore_mismatched_sizes=True`, and
    so are weights of unknown names. A model may lack weights that it shares with others (tied weights), and leaves out
    those of `_keys_to_ignore_on_load_unexpected`.
    """

    @staticmethod
    def _finalize_model_loading(model, load_config, loading_info):
        # transformers has read the weights and would now draw the missing ones. The base of an adapter comes here too.
        found = copy.copy(loading_info)
        model._adjust_missing_and_unexpected_keys(found)
        missing = without_tied(set(found.missing_keys) - _new_weights.get(), model.all_tied_weights_keys)
        check_weights(
            load_config.pretrained_model_name_or_path,
            type(model).__name__,
            missing=missing,
            mismatched=() if load_config.ignore_mismatched_sizes else found.mismatched_keys,
            # A quantized checkpoint has more than the weights.
            unexpected=() if load_config.is_quantized else found.unexpected_keys,
        )
        return PreTrainedModel._finalize_model_loading(model, load_config, loading_info)

    def load_adapter(self, *args, **kwargs):
        source = args[0] if args else kwargs.get("peft_model_id")
        config = kwargs.get("load_config")  # from_pretrained gives one
        free = kwargs.get("ignore_mismatched_sizes", config is not None and config.ignore_mismatched_sizes)
        found = super().load_adapter(*args, **{**kwargs, "ignore_mismatched_sizes": True})  # type: ignore[misc]
        # Without the second names of shared weights: trained rows of the embeddings are those of the output layer too.
        own = {name for name, _ in self.named_parameters()}  # type: ignore[attr-defined]
        mismatched = () if free else found.mismatched_keys
        # Outside of the model are projections that layers share, which peft draws again from the adapter's seed.
        unknown = {name for name in found.unexpected_keys if not name.startswith("base_model.")}
        check_weights(source, "adapter", _by_adapters(found.missing_keys & own), mismatched, _by_adapters(unknown))
        return found

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        """The way of `PeftModel.from_pretrained`, which puts an adapter on a model by `load_state_dict`."""
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)  # type: ignore[misc]
        if adapters := set(getattr(self, "peft_config", ())):
            _check_adapter_alone(self, adapters, {name.removeprefix(prefix) for name in state_dict})


def load_whole(cls, source, **options):
    """`cls.from_pretrained` for a class of transformers: a weight that the source lacks is an error here too.

    Weights of unknown names are left out: the text half of a CLIP also opens from the folder of a whole one.

    Args:
        cls: A model class of transformers, or an Auto class.
        source: Folder or Hub id.
        options: Of `from_pretrained`.

    Raises:
        ValueError: Weights are missing or have another shape, with their names.
    """
    free = options.get("ignore_mismatched_sizes", False)
    options |= {"ignore_mismatched_sizes": True, "output_loading_info": True}  # to name them
    model, found = cls.from_pretrained(source, **{"trust_remote_code": False, **options})
    check_weights(source, type(model).__name__, found["missing_keys"], () if free else found["mismatched_keys"])
    return model


def check_weights(source, name: str, missing=(), mismatched=(), unexpected=()) -> None:
    """Raises `ValueError`, with the names, if there is anything wrong.

    Args:
        source: Folder or Hub id of the weights.
        name: Of the class that they are loaded into.
        missing, unexpected: Names.
        mismatched: Name, stored shape, wanted shape.
    """
    shapes = [f"{key} is {tuple(stored)}, must be {tuple(wanted)}" for key, stored, wanted in mismatched]
    lists = {"Missing": missing, "Of another shape": shapes, "Unknown": unexpected}
    faults = [f"{word} ({len(names)}): {_listed(names)}." for word, names in lists.items() if names]
    if faults:
        raise ValueError(
            f"{source or 'state_dict'}: not the weights of this {name}, and none are drawn at random instead. "
            f"{' '.join(faults)} The files are incomplete, or the configuration belongs to others."
        )


def _check_adapter_alone(model, adapters: set[str], given: set[str]) -> None:
    """Raises `ValueError` if the weights of an adapter, given without those of its base, are not all that it needs."""
    of = {name: next(iter(adapters & set(name.split("."))), None) for name, _ in model.named_parameters()}
    if any(of.get(name, "") is None for name in given):
        return  # the base is there: a checkpoint of everything
    meant = {of[name] for name in given if name in of} or adapters
    missing = _by_adapters({name for name, adapter in of.items() if adapter in meant} - given)
    if any(_shares_weights(model.peft_config[adapter]) for adapter in meant):
        # Their layers all name a weight that is saved once, outside of this model.
        kinds = {_kind_of_weight(name, adapters) for name in given}
        missing = {name for name in missing if _kind_of_weight(name, adapters) in kinds}
    check_weights("state_dict", "adapter", missing, unexpected=given - model.state_dict().keys())


def _by_adapters(names: set[str]) -> set[str]:
    """Without those that peft sets itself."""
    return {name for name in names if not _SET_BY_PEFT & set(name.split("."))}


def _shares_weights(config) -> bool:
    """Whether the layers of an adapter have weights in common: VBLoRA, Uni-LoRA, TinyLoRA."""
    tuner = sys.modules["peft.mapping"].PEFT_TYPE_TO_TUNER_MAPPING[config.peft_type]
    return getattr(tuner, "uses_shared_state", False)


def _kind_of_weight(name: str, adapters: set[str]) -> str | None:
    """What an adapter calls a weight: `"vera_lambda_b"` of `"model.layers.0.q_proj.vera_lambda_b.default"`."""
    parts = name.split(".")
    return next((before for before, part in zip(parts, parts[1:]) if part in adapters), None)


def _listed(names) -> str:
    names = sorted(names)
    return ", ".join(names[:_SHOWN]) + (" .." if len(names) > _SHOWN else "")


def without_tied(missing: set[str], tied: dict[str, str]) -> set[str]:
    """The missing names without those that share their weight with one that is there.

    Args:
        missing: Names of weights.
        tied: A model's `all_tied_weights_keys`.
    """
    groups: dict[str, set[str]] = {}
    for target, source in tied.items():
        groups.setdefault(source, {source}).add(target)
    return missing - {name for group in groups.values() if group - missing for name in group}


__all__ = ["WholeWeights", "check_weights", "load_whole", "new_weights", "without_tied"]
