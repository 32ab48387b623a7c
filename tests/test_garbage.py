"""The garbage collector while a program starts: off, and on again whatever happens."""

import subprocess
import sys


CODE = """
import gc
from seed_hf.garbage import uncollected

with uncollected():
    assert not gc.isenabled()
    with uncollected():
        assert not gc.isenabled()
    assert not gc.isenabled()  # the inner block has not ended the outer one
assert gc.isenabled() and gc.get_freeze_count() > 0
frozen = gc.get_freeze_count()
try:
    with uncollected():
        kept = [[] for _ in range(1000)]
        raise KeyError
except KeyError:
    assert gc.isenabled()
with uncollected():
    more = [[] for _ in range(1000)]
assert gc.get_freeze_count() == frozen  # what a program makes later may become garbage
gc.disable()
with uncollected():
    pass
assert not gc.isenabled()  # as the program had it
"""


def test_collections_stop_and_go_on():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
