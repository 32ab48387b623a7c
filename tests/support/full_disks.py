"""A disk without room for large files."""

import resource
from contextlib import contextmanager


@contextmanager
def room_for(size: int):
    """No file of this process may become larger: writing more fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
