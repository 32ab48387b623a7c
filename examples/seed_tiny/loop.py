"""The training loop that the teacher stages share: seeded by step, resumable, on CPU or GPU.

All randomness of a step comes from `seed` and the step's number, so a run that was killed and started again computes
the same steps as one that was not. With `--minutes` a run ends, and cools down, by the clock instead: what a step
computes is the same, how many there are is not.
"""

import argparse
import ctypes
import functools
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

from optimizer import MuonAdamW
from seed_hf.devices import has_native_bf16, usable_device
from seed_hf.threads import available_cores


logger = logging.getLogger(__name__)


def keep_freed_memory() -> None:
    """Tell glibc to keep what is freed.

    By default it gives large blocks back to the system, which clears them again at the next allocation: every step
    does that for all its activations, and 43 % of a training step on CPU was spent on it, 6 % without.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for parameter, value in ((-4, 0), (-1, 2**31 - 1), (-2, 2**28)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
            mallopt(parameter, value)


def give_back_freed_memory() -> None:
    """Once, the opposite of `keep_freed_memory`, for batches of many lengths.

    What they free is kept in pieces that fit no later batch: the language stage grew to 11 GB in 500 steps, and gave
    10 of them back.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def prepare_cpu() -> None:
    """Settings of this process that make training on a CPU faster."""
    # The backward pass of fused attention takes longer there than all the rest of a model of this size: measured
    # 0.52 s of 1.30 s for the ViT, against 0.09 s for plain matrix products.
    torch.backends.cuda.enable_flash_sdp(False)  # despite its name, this is the switch for the CPU too
    keep_freed_memory()


@functools.cache
def device() -> torch.device:
    return usable_device()


def has_bf16() -> bool:
    """Whether the hardware multiplies bf16; training then uses it, else fp32."""
    return has_native_bf16(device())


def autocast():
    return torch.autocast(device().type, dtype=torch.bfloat16, enabled=has_bf16())


def rate_share(step: int, done: float, warmup: int) -> float:
    """Share of the peak learning rate: linear warm-up, constant, linear to zero in the last fifth.

    A run that is made longer before its last fifth goes on as if it had always been so long.

    Args:
        step: number of the step.
        done: share of the run that is done.
        warmup: steps.
    """
    return min(1.0, (step + 1) / warmup, max(0.0, (1 - done) / 0.2))


def stage_arguments(doc: str, argv: list[str] | None, minutes: bool = False, **numbers: float) -> argparse.Namespace:
    """The command line of a stage: `--data`, `--work`, and how long it trains, with its defaults.

    Whoever reads it is about to train: this also prepares the process.
    """
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--data", type=Path, required=True, help="folder with the pictogram Parquet files")
    parser.add_argument("--work", type=Path, required=True, help="folder that the stages of a run share")
    if minutes:
        parser.add_argument("--minutes", type=float, help="train for so long, whatever the steps")
    for name, value in numbers.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    arguments = parser.parse_args(argv)
    if device().type == "cpu":
        prepare_cpu()
    else:
        torch.set_float32_matmul_precision("high")
    return arguments


def workers() -> int:
    """Processes that prepare batches: `WORKERS` if it is set; by default none on a CPU, up to 8 for a GPU."""
    most = 0 if device().type == "cpu" else max(1, min(8, available_cores() - 2))
    return int(os.environ.get("WORKERS", most))


class Prepared(Dataset):
    """The batches of all steps, each made when it is asked for."""

    def __init__(self, batch_of: Callable[[int], dict], number: int):
        self.batch_of, self.number = batch_of, number

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, step: int) -> dict:
        torch.manual_seed(step)
        return self.batch_of(step)


def batches(batch_of: Callable[[int], dict], start: int, stop: int) -> Iterator[dict]:
    """`batch_of(step)` of the steps from `start` on, on the device; `batch_of` itself never touches it."""
    rows = Prepared(batch_of, stop)
    if start < stop:
        rows[start]  # what it loads, the workers inherit
    settings = {"num_workers": workers(), "pin_memory": device().type == "cuda"}
    if workers():
        settings["prefetch_factor"] = 4
    for batch in DataLoader(rows, batch_size=None, sampler=range(start, stop), **settings):
        yield {name: on_device(value) for name, value in batch.items()}


def on_device(value):
    return value.to(device(), non_blocking=True) if isinstance(value, torch.Tensor) else value


def trainer_arguments(out: Path) -> dict:
    """What the three trainers of the recipe have in common."""
    return {
        "output_dir": str(out / "trainer"),
        "warmup_steps": 0.05,
        "save_total_limit": 1,
        "bf16": has_bf16(),
        "use_cpu": device().type == "cpu",
        "seed": 0,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_num_workers": workers(),
        "dataloader_prefetch_factor": 4 if workers() else None,
    }


class Average:
    """Exponential moving average of a module's parameters; what is released is usually this, not the last step."""

    def __init__(self, module: torch.nn.Module, decay: float):
        self.decay = decay
        self.shadow = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: torch.nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        state = module.state_dict()
        moving = [key for key, value in state.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.shadow[key] for key in moving], [state[key] for key in moving], 1 - decay)


def train(
    module: torch.nn.Module,
    batch_of: Callable[[int], dict],
    loss_of: Callable[[dict, float], dict[str, torch.Tensor]],
    *,
    out: Path,
    steps: int,
    minutes: float | None,
    learning_rate: float,
    weight_decay: float,
    warmup: int = 100,
    average: float = 0.998,
    save_seconds: float = 120,
    log_every: int = 50,
) -> torch.nn.Module:
    """Train `module` on `loss_of(batch_of(step), done)["loss"]`, where `done` is the share of the run that is done.

    Writes `out/state.pt` every `save_seconds` (whole: temporary name, then rename) and `out/log.jsonl`.

    Returns:
        the module with the average of its weights.
    """
    out.mkdir(parents=True, exist_ok=True)
    state_path = out / "state.pt"
    optimizer = MuonAdamW(module, learning_rate, weight_decay)
    shadow = Average(module, average)
    start, spent = 0, 0.0
    if state_path.exists():
        state = torch.load(state_path, map_location=device(), weights_only=True)
        module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        shadow.shadow = state["shadow"]
        start, spent = state["step"], state.get("seconds", 0.0)
        logger.info("resuming %s at step %d", out.name, start)
    module.train()
    log, clock, saved = Log(out / "log.jsonl"), time.monotonic() - spent, time.monotonic()
    stop = steps if minutes is None else 10**7
    done = 0.0
    for step, batch in enumerate(batches(batch_of, start, stop), start):
        done = step / steps if minutes is None else (time.monotonic() - clock) / (60 * minutes)
        torch.manual_seed(step)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * rate_share(step, done, warmup)
        optimizer.zero_grad(set_to_none=True)
        losses = loss_of(batch, done)
        losses["loss"].backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        shadow.update(module, step)
        last = done >= 1 or step + 1 == stop
        log.add(step + 1, losses, write=last or (step + 1) % log_every == 0)
        if last or time.monotonic() - saved > save_seconds:
            state = {"module": module.state_dict(), "optimizer": optimizer.state_dict(), "shadow": shadow.shadow}
            state |= {"step": step + 1, "seconds": time.monotonic() - clock}
            torch.save(state, state_path.with_suffix(".partial"))
            os.replace(state_path.with_suffix(".partial"), state_path)
            saved = time.monotonic()
        if last:
            break
    module.load_state_dict(shadow.shadow)
    return module.eval()


class Log:
    """Means of what was lost since the last line, as JSON lines."""

    def __init__(self, path: Path):
        self.path = path
        self.sums, self.counted, self.began = {}, 0, time.monotonic()

    def add(self, step: int, losses: dict[str, torch.Tensor], write: bool) -> None:
        for key, value in losses.items():
            self.sums[key] = self.sums.get(key, 0.0) + value.detach()
        self.counted += 1
        if write:
            row = {"step": step, **{k: round(float(v) / self.counted, 5) for k, v in self.sums.items()}}
            row["seconds_per_step"] = round((time.monotonic() - self.began) / self.counted, 4)
            with open(self.path, "a") as log:
                log.write(json.dumps(row) + "\n")
            self.sums, self.counted, self.began = {}, 0, time.monotonic()
