"""Reads image files one after the other and says what each took. Usage: python read_images.py FOLDER [SPACE]

Reads as the command line and jobs do or, given the folder of the Space, as the Space reads uploads. Prints JSON for
each file: name, error (null for an image that was read), seconds of CPU, and megabytes that memory rose by.
"""

import json
import os
import resource
import sys
import time
import warnings
from pathlib import Path

from seed_hf.images import SeedImageError, load_image


def memory(field: str) -> int:
    """Of this process, in kB."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{field}:"))


def reader_of(space: str | None):
    """How to read, and the error that refuses an image."""
    if space is None:
        return load_image, SeedImageError
    sys.path.insert(0, space)
    from limits import Refusal
    from uploads import read_image

    return read_image, Refusal


def main(folder: str, space: str | None = None) -> None:
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what libtiff says about damaged files
    read, refusals = reader_of(space)
    # Last lines: a file that breaks all limits ends this process, not the machine.
    resource.setrlimit(resource.RLIMIT_DATA, ((memory("VmData") << 10) + (1 << 30),) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (1200, 1200))
    for path in sorted(Path(folder).iterdir()):
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before, begun, error = memory("VmRSS"), time.process_time(), None
        try:
            image = read(str(path))
            assert image.mode == "RGB" and max(image.size) < 65_536
            del image
        except refusals as refusal:
            error = str(refusal)
        took = {"seconds": time.process_time() - begun, "megabytes": (memory("VmHWM") - before) / 1e3}
        print(json.dumps({"name": path.name, "error": error, **took}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
