"""What of CUDA graphs can be held without a GPU: on which streams work is captured, and what is not captured."""

from contextlib import contextmanager, nullcontext

import pytest
import torch
from torch._subclasses import FakeTensorMode

from seed_hf.modeling import captured_graph_seed
from seed_hf.modeling.captured_graph_seed import CapturedGraph
from seed_hf.pipelines.captured_unet import CapturedUNet


@pytest.fixture
def captures(monkeypatch):
    """The streams that torch captures on, of a machine that only seems to have GPUs."""
    current, found = [torch.device("cuda", 0)], []

    @contextmanager
    def device(other):
        current.append(other)
        yield
        current.pop()

    class Stream:
        def __init__(self, device=None):
            self.device = current[-1] if device is None else device

        def wait_stream(self, other):
            assert other.device == self.device

    class Graph(torch.cuda.graph):  # chooses its stream as that does
        default_capture_stream = None

        def __enter__(self):
            found.append(self.capture_stream)

        def __exit__(self, *error):
            pass

    seeming = {"device": device, "Stream": Stream, "graph": Graph, "CUDAGraph": object}
    seeming |= {"current_stream": Stream, "stream": lambda stream: nullcontext()}
    for name, value in seeming.items():
        monkeypatch.setattr(torch.cuda, name, value)
    captured_graph_seed._streams.cache_clear()
    yield found
    captured_graph_seed._streams.cache_clear()


def test_work_is_captured_on_the_device_of_its_tensors_and_streams_are_few(captures):
    devices = [torch.device("cuda", index) for index in (0, 1, 1, 0)]
    for device in devices:
        assert CapturedGraph(lambda: "result", device).result == "result"
    assert [stream.device for stream in captures] == devices
    assert len(set(captures)) == 2  # each has a workspace for matrix products


class Doubling(torch.nn.Module):
    def forward(self, sample, timestep, return_dict):
        return (sample * 2,)


def test_a_unet_is_not_captured_under_autocast_whose_copies_of_the_weights_do_not_stay(captures):
    captured = CapturedUNet()
    with FakeTensorMode():
        sample, timestep = torch.ones(2, 3, device="cuda"), torch.zeros((), device="cuda")
        torch.set_autocast_enabled("cuda", True)
        try:
            assert captured(Doubling(), sample, timestep).shape == (2, 3)
        finally:
            torch.set_autocast_enabled("cuda", False)
    assert not captured.graphs and not captures
