"""Python's garbage collector while a program starts. It finds next to nothing there, and takes a quarter of the time.

Importing torch, transformers and diffusers makes about two million objects that stay. The collector goes through them
again and again as they come, and once more when the program ends.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Import and load without collections. Later collections pass over what this block has made, too.

    For the start of a program of one's own: what is garbage at the end of the first such block stays in memory.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
        if not gc.get_freeze_count():
            gc.freeze()
    finally:
        gc.enable()
