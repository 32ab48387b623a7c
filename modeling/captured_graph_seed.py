"""A CUDA graph of a piece of work, on the device of its tensors: the host then launches it as one."""

import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import torch


_ONE_AT_A_TIME = threading.Lock()  # torch allows one capture in a process


class CapturedGraph:
    """Work that runs the same kernels on the same tensors each time.

    Args:
        work: Reads and writes tensors that stay where they are, and nothing on the host.
        device: Of these tensors. It need not be the current one, which is another in a new thread.

    Attributes:
        result: What `work` returned while it was captured; a replay writes it again.
    """

    def __init__(self, work: Callable[[], Any], device: torch.device):
        self.device = device
        with _ONE_AT_A_TIME, torch.cuda.device(device):
            # What runs for the first time allocates, chooses kernels and compiles, which a graph cannot record.
            beside, captured = _streams(device)
            beside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(beside):
                for _ in range(3):
                    work()
            torch.cuda.current_stream().wait_stream(beside)
            self.graph = torch.cuda.CUDAGraph()
            # thread_local: other threads may go on allocating
            with torch.cuda.graph(self.graph, stream=captured, capture_error_mode="thread_local"):
                self.result = work()

    def replay(self) -> None:
        """Run it again."""
        with torch.cuda.device(self.device):  # whose current stream it is launched on
            self.graph.replay()


@cache
def _streams(device: torch.device) -> tuple[torch.cuda.Stream, torch.cuda.Stream]:
    """On which work runs first, and on which it is captured.

    torch's own stream for captures is on the device of the first, and a product on each new stream keeps a workspace
    of some megabytes.
    """
    return torch.cuda.Stream(device), torch.cuda.Stream(device)


__all__ = ["CapturedGraph"]
