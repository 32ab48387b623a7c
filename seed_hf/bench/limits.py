"""What a device can do at most, measured here and now: the floors that the figures of a benchmark stand beside."""

import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Limits:
    """Two rates of a device.

    Args:
        flops_a_second: Of a large matrix product in the number type of the benchmark.
        bytes_a_second: Read and written by a large copy.
    """

    flops_a_second: float
    bytes_a_second: float

    def floor(self, flops: float, moved: float) -> float | None:
        """Seconds below which a piece of work cannot get; `None` where nothing is known of it.

        Args:
            flops: Its operations.
            moved: The bytes that it reads and writes at least.
        """
        return max(flops / self.flops_a_second, moved / self.bytes_a_second) or None


def measured_limits(device: torch.device, dtype: torch.dtype) -> Limits:
    """Both rates, medians of ten timings.

    Args:
        device: Where.
        dtype: Of the matrix product.
    """
    big = device.type != "cpu"
    side, length = (8192, 2**28) if big else (1024, 2**24)
    # Random numbers: a GPU multiplies zeros faster, because they take less power.
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    source = torch.randn(length, device=device)
    target = torch.empty_like(source)
    product = _median(lambda: left @ right, device)
    copy = _median(lambda: target.copy_(source), device)
    return Limits(2 * side**3 / product, 2 * source.nbytes / copy)


def wait_for(device: torch.device) -> None:
    """Wait until a device has done everything, before a clock is read.

    Args:
        device: Which; a CPU has nothing to wait for.
    """
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def flops_of(run: Callable[[], Any], *, fused: bool = False) -> int:
    """Operations of a call: matrix products, convolutions and attention, a multiply-add counted as two.

    Args:
        run: Runs it once. On torch's meta device it takes neither time nor memory.
        fused: Leave attention to its fused kernels, which need less memory and are counted on a GPU alone.
    """
    # The MATH kernel of attention consists of matrix products, which are counted on every device.
    with nullcontext() if fused else sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def bytes_of(*things: nn.Module | torch.Tensor | None) -> int:
    """Bytes of the weights of modules, and of tensors.

    Args:
        things: Modules, tensors, or `None`, which has none.
    """
    total = 0
    for thing in things:
        if isinstance(thing, nn.Module):
            total += sum(tensor.nbytes for tensor in (*thing.parameters(), *thing.buffers()))
        elif thing is not None:
            total += thing.nbytes
    return total


def _median(run: Callable[[], Any], device: torch.device) -> float:
    seconds = []
    for turn in range(10 + 3):  # the first three warm up
        wait_for(device)
        began = time.perf_counter()
        run()
        wait_for(device)
        if turn >= 3:
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)
