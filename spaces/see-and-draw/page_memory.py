"""Keeps the memory of the server as small after many visitors as it was before them."""

import ctypes

from gradio import state_holder


SESSIONS = 1000  # kept at once; the one that was used longest ago is dropped first
_LARGE = 256 * 1024  # bytes; blocks of this size and above go back to the system when they are freed
_MMAP_THRESHOLD, _ARENA_MAX = -3, -8  # of glibc's malloc.h


class Session(state_holder.SessionState):
    """A session without copies of the settings and values of all components, which only Gradio's deep links read.

    With them a visit costs a hundred times as much, and Gradio keeps visits for as long as it runs.
    """

    def __init__(self, blocks):
        super().__init__(blocks)
        self.config_values = {}

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        self.config_values.clear()

    def _update_config(self, key):
        pass

    def _update_value_in_config(self, key, value):
        pass


def install() -> None:
    """Replace Gradio's sessions, and have memory of images and tensors returned to the system.

    glibc would learn from the first large blocks to keep such blocks, and each thread would keep its own.
    """
    state_holder.SessionState = Session
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # of glibc only
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE)
        mallopt(_ARENA_MAX, 2)
