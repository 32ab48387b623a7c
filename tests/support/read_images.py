"""Reads image files one after the other and says what each took. Usage: python read_images.py FOLDER MAX_PIXELS

Prints a JSON object for each file: name, error (null for an image that was read), seconds of CPU, and megabytes that
memory rose by.
"""

import json
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


def main(folder: str, max_pixels: str) -> None:
    warnings.simplefilter("ignore")
    # Last lines: a file that breaks all limits ends this process, not the machine.
    resource.setrlimit(resource.RLIMIT_DATA, ((memory("VmData") << 10) + (1 << 30),) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (1200, 1200))
    for path in sorted(Path(folder).iterdir()):
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before, begun, error = memory("VmRSS"), time.process_time(), None
        try:
            image = load_image(path, max_pixels=int(max_pixels))
            assert image.mode == "RGB" and max(image.size) < 65_536
            del image
        except SeedImageError as refusal:
            error = str(refusal)
        took = {"seconds": time.process_time() - begun, "megabytes": (memory("VmHWM") - before) / 1e3}
        print(json.dumps({"name": path.name, "error": error, **took}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
