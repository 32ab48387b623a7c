"""Speed of small models by the number of CPU threads and by how OpenMP's threads wait, beside other work.

Each setting has a process of its own, and all are timed in turn, so that whatever else the machine does slows them
alike. Other processes keep cores busy meanwhile. A timing that takes too long is given up.
"""

import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from seed_hf.threads import available_cores


PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE"}
WAITING = {
    "spinning, libgomp's default": {},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "OMP_WAIT_POLICY=PASSIVE": PASSIVE,
}
PARTS = "as the commands: small models in parts"  # a part of the batch on each core, by `fit_threads`
INFINITE = float("inf")  # of a timing that was given up
# Ends with its parent, even if that is killed.
BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"


def measure(*, busy: int = 2, threads: int = 2, rounds: int = 3, limit: float = 15.0) -> dict:
    """Seconds of codes, captions and drawings, with one thread, with several that wait in different ways, and with a
    part of each batch on each core.

    Args:
        busy: Processes that keep a core busy.
        threads: Of the settings with several threads.
        rounds: How often each setting is timed, in turn.
        limit: Seconds after which a timing is given up, and not tried again.

    Returns:
        A report for JSON: `seconds`, for each setting and task the median, `None` where one was given up.
    """
    settings = {"one thread": (["1"], {}), PARTS: ([str(threads), "parts"], PASSIVE)}
    settings |= {f"{threads} threads, {name}": ([str(threads)], WAITING[name]) for name in WAITING}
    workers: dict[str, Worker] = {}
    others: list[subprocess.Popen] = []
    times: dict[str, dict[str, list[float]]] = {name: {task: [] for task in TASKS} for name in settings}
    try:
        for name, (how, variables) in settings.items():
            workers[name] = Worker(how, variables)
        others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(busy)]
        for _ in range(rounds):
            for name, worker in workers.items():
                for task, known in times[name].items():
                    known.append(INFINITE if INFINITE in known else worker.time(task, limit))
    finally:
        for process in [*others, *(worker.process for worker in workers.values())]:
            process.kill()
            process.wait()
    seconds = {name: {task: _median(values) for task, values in tasks.items()} for name, tasks in times.items()}
    return {"cores": available_cores(), "busy": busy, "rounds": rounds, "limit": limit, "seconds": seconds}


def table(report: dict) -> str:
    """The figures as lines of text, one for each setting.

    Args:
        report: Of `measure`.
    """
    lines = ["seconds".ljust(42) + "".join(f"{task:>23}" for task in TASKS)]
    for name, tasks in report["seconds"].items():
        shown = [f"over {report['limit']:g}" if value is None else f"{value:.2f}" for value in tasks.values()]
        lines.append(name.ljust(42) + "".join(f"{value:>23}" for value in shown))
    return "\n".join(lines)


class Worker:
    """A process that does a task whenever it reads its name, and answers with the seconds.

    It has done each task once before it is ready. One that was killed is begun anew.
    """

    def __init__(self, how: list[str], variables: dict[str, str]):
        self._how, self._variables = how, variables
        self._begin(*how)

    def _begin(self, *how: str) -> None:
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_", "KMP_"))}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "seed_hf.bench.threads", *how],
            env={**clean, **self._variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdin is not None and self.process.stdout is not None  # both are pipes
        self._tasks, self._answers = self.process.stdin, self.process.stdout
        if self._answers.readline() != "ready\n":
            raise RuntimeError("A process of the benchmark did not start. `seed-hf see` says what is wrong.")

    def time(self, task: str, limit: float) -> float:
        """Seconds for a task; infinite if it takes more than `limit`."""
        if self.process.poll() is not None:  # it ended between two tasks
            self._begin(*self._how)
        timer = threading.Timer(limit, self.process.kill)
        timer.start()
        self._tasks.write(f"{task}\n")
        self._tasks.flush()
        answer = self._answers.readline()
        timer.cancel()
        if not answer:
            self.process.wait()
            self._begin(*self._how, "cold")
        return float(answer or INFINITE)


def caption(loaded: "Loaded") -> None:
    from seed_hf.texts import generate_texts

    generate_texts(loaded.pipe.seed_model, loaded.pipe.processor, loaded.inputs, max_new_tokens=24)


def draw(loaded: "Loaded", number: int = 1) -> None:
    import torch

    from seed_hf.inference import draw_images

    codes = loaded.pipe.encode_prompt(["a red apple"] * number)
    draw_images(loaded.pipe, codes, [torch.Generator().manual_seed(seed) for seed in range(number)])


def encode(loaded: "Loaded") -> None:
    from seed_hf.inference import encode_pixels

    encode_pixels(loaded.pipe.visual_tokenizer, loaded.inputs["pixel_values"].repeat(4, 1, 1, 1))


def write(loaded: "Loaded", weights: str) -> None:
    import torch

    ids = torch.ones(1, 20, dtype=torch.long)
    loaded.writers[weights].generate(ids, attention_mask=ids, min_new_tokens=8, max_new_tokens=8, do_sample=False)


# Random OPTs, by their weights: width, layers, width in between.
WRITERS = {"29 M weights": (512, 8, 2048), "91 M weights": (768, 12, 3072)}
TASKS: dict[str, Callable[["Loaded"], None]] = {
    "codes of 32 images": encode,
    "captions of 8 images": caption,
    "a drawing": draw,
    "8 drawings": partial(draw, number=8),
    **{f"8 tokens, {weights}": partial(write, weights=weights) for weights in WRITERS},
}


class Loaded:
    """Models and inputs of the tasks: seed-tiny, the images of its demo, and larger language models."""

    def __init__(self):
        from transformers import OPTConfig, OPTForCausalLM

        from seed_hf.artifacts.bundled import bundled
        from seed_hf.images import load_image
        from seed_hf.pipelines.pipeline_seed_image import SeedImagePipeline

        self.pipe = SeedImagePipeline.from_pretrained(bundled("seed-tiny", "pipeline"))
        self.pipe.set_progress_bar_config(disable=True)
        images = [load_image(path) for path in sorted(bundled("seed-tiny", "demo").glob("*.png"))]
        self.inputs = self.pipe.processor.caption(images)
        self.writers = {}
        for weights, (width, layers, between) in WRITERS.items():
            sizes = {
                "hidden_size": width,
                "word_embed_proj_dim": width,
                "ffn_dim": between,
                "num_hidden_layers": layers,
            }
            config = OPTConfig(**sizes, num_attention_heads=8, max_position_embeddings=64, vocab_size=8000)
            self.writers[weights] = OPTForCausalLM(config).eval()

    def models(self, task: str) -> list[Any]:
        """The models that a task runs."""
        own = [model for weights, model in self.writers.items() if task.endswith(weights)]
        return own or [self.pipe.seed_model, self.pipe.unet]


def work(threads: int, parts: bool, warm: bool = True) -> None:
    """What a [`Worker`]'s process does: load the models, do each task once, then one for each line of its input."""
    import torch

    from seed_hf.threads import fit_threads

    torch.set_num_threads(1)  # loading is not measured
    loaded = Loaded()
    torch.set_num_threads(threads)

    def seconds(task: str) -> float:
        if parts:  # as the commands do for the model that they have loaded
            fit_threads(*loaded.models(task))
        began = time.perf_counter()
        TASKS[task](loaded)
        return time.perf_counter() - began

    for task in TASKS if warm else ():
        seconds(task)
    print("ready", flush=True)
    for line in sys.stdin:
        print(seconds(line.strip()), flush=True)


def _median(values: list[float]) -> float | None:
    return None if INFINITE in values else statistics.median(values)


if __name__ == "__main__":
    work(int(sys.argv[1]), "parts" in sys.argv, "cold" not in sys.argv)
