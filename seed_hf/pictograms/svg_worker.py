"""Drawing SVG files in a child process, so that a file that hangs or crashes the renderer does not end the build.

The child runs this module on a JSON file: a time limit in seconds, and pairs of an SVG file and the PNG file to write.
A drawing that takes longer ends the child, and the parent starts another child after that file.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tqdm.auto import tqdm


logger = logging.getLogger(__name__)

TIME_LIMIT = 20
BATCH = 100
WIDTH = 256  # twice the final size, since the empty margin is cut off afterwards


def draw_files(pairs: Sequence[tuple[Path, Path]], label: str, *, time_limit: int = TIME_LIMIT) -> None:
    """Draw SVG files into PNG files, `WIDTH` pixels wide, in child processes.

    A file that cannot be drawn, or not in time, gives no PNG file.

    Args:
        pairs: Each SVG file with its PNG file. A PNG file that exists is kept.
        label: For the progress bar.
        time_limit: For one drawing, in seconds.

    Raises:
        RuntimeError: A child failed for another reason than its drawings.
    """
    waiting = [(svg, png) for svg, png in pairs if not png.exists()]
    with tqdm(total=len(pairs), initial=len(pairs) - len(waiting), desc=label, unit="image") as progress:
        while waiting:
            batch, before = waiting[:BATCH], len(waiting)
            with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as listed:
                json.dump([time_limit, [(str(svg), str(png)) for svg, png in batch]], listed)
                listed.flush()
                command = [sys.executable, "-m", "seed_hf.pictograms.svg_worker", listed.name]
                done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode > 0:  # Not because of a file: such errors are caught, or end the process by a signal.
                raise RuntimeError(f"the drawing process failed: {done.stderr.strip()}")
            # The child prints the number of each file that it begins.
            begun = int(done.stdout.split()[-1]) + 1 if done.stdout.strip() else len(batch)
            if done.returncode < 0:
                file = batch[begun - 1][0]
                logger.warning("%s is left out: drawing it ended with signal %d", file, -done.returncode)
            waiting = waiting[begun:]
            progress.update(before - len(waiting))


def work(time_limit: int, pairs: Sequence[tuple[str, str]]) -> None:
    """Draw in this process; a drawing that takes too long ends it by SIGALRM.

    Args:
        time_limit: For one drawing, in seconds.
        pairs: Each SVG file with its PNG file.
    """
    from .emoji import render_svg

    for number, (svg, png) in enumerate(pairs):
        print(number, flush=True)
        signal.alarm(time_limit)
        try:
            drawing = render_svg(Path(svg).read_text(encoding="utf-8", errors="replace"), size=WIDTH)
        except ValueError as error:  # what the renderer raises for SVG that it cannot read
            logger.debug("%s: %s", svg, error)
            continue
        finally:
            signal.alarm(0)
        unfinished = Path(f"{png}.unfinished")
        drawing.save(unfinished, "PNG", compress_level=1)
        os.replace(unfinished, png)


if __name__ == "__main__":
    work(*json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
