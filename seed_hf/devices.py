"""Where the package computes and in which number type, unless the caller says otherwise.

fp32 on a CPU; bf16 on a GPU, float16 on one that only emulates bf16 (NVIDIA's before Ampere).

bf16 on a CPU without hardware support is up to a hundred times slower than fp32, so nothing chooses it there.
"""

import logging
import os
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import TrainingArguments


logger = logging.getLogger(__name__)
# Limits under which oneDNN multiplies bf16 by instructions for fp32, five times slower than fp32 itself.
_WITHOUT_BF16 = ("AVX512_CORE", "AVX512_CORE_VNNI")


def has_native_bf16(device: "torch.device | str" = "cpu") -> bool:
    """Whether a device multiplies bf16 matrices in hardware.

    Of NVIDIA's GPUs those since Ampere. Of CPUs only x86 ones with AVX512_BF16 (all CPUs with AMX have it too) are
    known to; `False` for others. The limits that `ATEN_CPU_CAPABILITY` and `ONEDNN_MAX_CPU_ISA` set count. With
    AVX512_BF16 and no AMX it may still be slower than fp32: docs/performance.md.

    Args:
        device: `"cpu"`, `"cuda"` ... or a `torch.device`.
    """
    import torch

    if torch.device(device).type != "cpu":
        if torch.device(device).type != "cuda" or torch.version.hip is not None or not torch.cuda.is_available():
            return torch.device(device).type == "cuda"
        return torch.cuda.get_device_capability(device) >= (8, 0)  # others emulate it
    hardware = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    if hardware is None or not hardware() or not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        return False
    if os.environ.get("ONEDNN_MAX_CPU_ISA", os.environ.get("DNNL_MAX_CPU_ISA", "")).upper() in _WITHOUT_BF16:
        return False
    try:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()  # oneDNN multiplies the matrices, under its own limit
    except AttributeError:  # a torch without oneDNN
        return False


def generator_of(seed: int) -> "torch.Generator":
    """A generator, always on the CPU, so that a seed draws the same image on every device.

    Args:
        seed: Of all that it draws.
    """
    import torch

    return torch.Generator("cpu").manual_seed(seed)


def usable_device(device: "torch.device | str | None" = None) -> "torch.device":
    """The device to compute on.

    Args:
        device: `"cpu"`, `"cuda:1"` ... By default a GPU if there is one, else the CPU. Under torchrun, that and
            `"cuda"` are the GPU of this process.

    Raises:
        ValueError: this machine does not have that device.
    """
    import torch

    any_gpu = str(device or "cuda") == "cuda" and torch.cuda.is_available()
    own = any_gpu and "LOCAL_RANK" in os.environ
    if any_gpu:
        device = f"cuda:{os.environ['LOCAL_RANK']}" if own else "cuda"
    try:
        found = torch.device(device or "cpu")
        torch.empty(1, device=found)
        if own:  # streams, graphs and libraries take the current one
            torch.cuda.set_device(found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"device {str(device)!r} is not usable here ({reason}). Try 'cpu'.") from error
    return found


def number_type(device: "torch.device | str", asked: "torch.dtype | str | None" = None) -> "torch.dtype":
    """The number type to compute in: what was asked for, else bfloat16 on CUDA and float32 elsewhere.

    On a GPU that only emulates bfloat16 it is float16.

    Warns if half precision was asked for on a CPU that is slow at it.

    Args:
        device: Where it will be computed.
        asked: A `torch.dtype` or its name.

    Raises:
        ValueError: There is no such type of floating-point numbers.
    """
    import torch

    where = torch.device(device)
    if asked is None:
        if where.type != "cuda":
            return torch.float32
        return torch.bfloat16 if has_native_bf16(where) else torch.float16
    dtype = getattr(torch, asked, None) if isinstance(asked, str) else asked
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"There is no number type {asked!r} to compute in. Take float32, bfloat16 or float16.")
    if where.type == "cpu" and _slow_on_cpu(dtype == torch.bfloat16, dtype == torch.float16):
        name = str(dtype).removeprefix("torch.")
        logger.warning("%s: this CPU has no hardware for it and is many times slower than in float32.", name)
    return dtype


def use_fp32_where_half_is_slow(args: "TrainingArguments") -> None:
    """Turn off half precision in training arguments that mean a CPU without hardware for it, with one warning.

    Called before `TrainingArguments.__post_init__`, which refuses some of them. It also refuses bf16 where there is no
    GPU, unless `use_cpu` says that a CPU is meant; here it is.

    Args:
        args: Of the run; `bf16`, `fp16` and their `_full_eval` may become `False`, `use_cpu` may become `True`.
    """
    fields = ("bf16", "bf16_full_eval", "fp16", "fp16_full_eval")
    on = [name for name in fields if getattr(args, name)]
    slow = [name for name in on if _slow_on_cpu(name.startswith("bf16"), name.startswith("fp16"))]
    if not on or not _trains_on_cpu(args):
        return
    args.use_cpu = True
    if not slow:
        return
    for name in slow:
        setattr(args, name, False)
    if os.environ.get("RANK", "0") == "0":  # one of several processes says it
        logger.warning(
            "%s: the run is on a CPU that has no hardware for %s, which makes it many times slower than fp32. "
            "It trains in fp32 instead.",
            ", ".join(f"trainer.{name}" for name in slow),
            " and ".join(dict.fromkeys(name[:4] for name in slow)),
        )


def weights_to_fp32_where_half_is_slow(model: "nn.Module") -> None:
    """Widen half-precision weights of a model that is on a CPU without hardware for them, with a warning.

    Args:
        model: Changed in place.
    """
    import torch

    weights = [p for p in model.parameters() if p.is_floating_point() and p.device.type == "cpu"]
    found = {p.dtype for p in weights}
    if _slow_on_cpu(torch.bfloat16 in found, torch.float16 in found):
        model.float()
        logger.warning(
            "%s: its weights are in half precision, for which this CPU has no hardware. They become fp32.",
            type(model).__name__,
        )


def _slow_on_cpu(bf16: bool, fp16: bool) -> bool:
    return fp16 or bf16 and not has_native_bf16()


def _trains_on_cpu(args: "TrainingArguments") -> bool:
    import torch
    from transformers.utils import is_torch_xla_available

    forced = args.use_cpu or os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "y", "on", "t")
    return forced or not (torch.accelerator.is_available() or is_torch_xla_available())
