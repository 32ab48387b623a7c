"""Parameters that accelerate has offloaded, for methods other than `forward`."""

import torch
from torch import nn


def at_hand(module: nn.Module, name: str) -> torch.Tensor:
    """A parameter of a module itself. One that was offloaded is fetched.

    accelerate fetches the parameters of a module before its `forward` runs. Whoever reads one elsewhere meets a tensor
    without data.

    Args:
        module: Whose parameter it is.
        name: Of the parameter.

    Raises:
        RuntimeError: It was offloaded in a way that leaves nothing to fetch it with.
    """
    value = getattr(module, name)
    if not value.is_meta or torch.compiler.is_compiling():
        return value
    hook = getattr(module, "_hf_hook", None)
    weights = getattr(hook, "weights_map", None)
    if hook is None or weights is None:
        raise RuntimeError(
            f"{name} of {type(module).__name__} was offloaded and cannot be fetched. Offload whole parts: "
            "device_map={'visual_tokenizer': 'cpu', 'language_model': 'disk'}, for example, or {'': 'disk'}."
        )
    return weights[name].to(hook.execution_device)


__all__ = ["at_hand"]
