"""The training loop that the teacher stages share: seeded by step, resumable, on CPU or GPU.

All randomness of a step comes from `seed` and the step's number, so a run that was killed and started again computes
the same steps as one that was not.
"""

import argparse
import ctypes
import functools
import json
import logging
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from optimizer import MuonAdamW
from seed_hf.devices import has_native_bf16, usable_device


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


def one_cycle(step: int, steps: int, warmup: int) -> float:
    """Share of the peak learning rate: linear warm-up, then a cosine to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def trapezoid(step: int, steps: int, warmup: int) -> float:
    """Share of the peak learning rate: linear warm-up, constant, linear to zero in the last fifth.

    A run whose `steps` are raised before the last fifth goes on as if it had always had them.
    """
    return min(1.0, (step + 1) / warmup, max(0.0, (steps - step) / max(1, 0.2 * steps)))


def stage_arguments(doc: str, argv: list[str] | None, **numbers: float) -> argparse.Namespace:
    """The command line of a stage: `--data`, `--work`, and how long it trains, with its defaults.

    Whoever reads it is about to train: without a GPU this also prepares the process.
    """
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--data", type=Path, required=True, help="folder with the pictogram Parquet files")
    parser.add_argument("--work", type=Path, required=True, help="folder that the stages of a run share")
    for name, value in numbers.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    arguments = parser.parse_args(argv)
    if device().type == "cpu":
        prepare_cpu()
    return arguments


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
        # A GPU is faster than one core can fill its batches.
        "dataloader_num_workers": 0 if device().type == "cpu" else 4,
        "dataloader_persistent_workers": device().type != "cpu",
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


def adamw(module: torch.nn.Module, rate: float, decay: float) -> torch.optim.AdamW:
    """AdamW with weight decay for matrices only."""
    trained = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)


def train(
    module: torch.nn.Module,
    loss_of: Callable[[int], dict[str, torch.Tensor]],
    *,
    out: Path,
    steps: int,
    learning_rate: float,
    seed: int = 0,
    weight_decay: float = 0.05,
    muon: bool = False,
    warmup: int = 100,
    clip: float = 1.0,
    schedule: str = "one_cycle",
    average: float | None = None,
    save_seconds: float = 120,
    log_every: int = 50,
    evaluate: Callable[[], dict[str, float]] | None = None,
    evaluate_every: int = 500,
) -> torch.nn.Module:
    """Train `module` for `steps` steps on `loss_of(step)["loss"]` and return it (its average, if asked for).

    With `muon` the weights of linear layers are trained by Muon, which needs far fewer steps than AdamW; everything
    else is always trained by AdamW.

    Writes `out/state.pt` every `save_seconds` (whole: temporary name, then rename) and `out/log.jsonl`.
    """
    out.mkdir(parents=True, exist_ok=True)
    state_path = out / "state.pt"
    optimizer = MuonAdamW(module, learning_rate, weight_decay) if muon else adamw(module, learning_rate, weight_decay)
    shadow = Average(module, average) if average else None
    share = {"one_cycle": one_cycle, "trapezoid": trapezoid}[schedule]
    start = 0
    if state_path.exists():
        state = torch.load(state_path, map_location=device(), weights_only=True)
        module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        if shadow:
            shadow.shadow = state["shadow"]
        start = state["step"]
        logger.info("resuming %s at step %d", out.name, start)
    module.train()
    sums, counted, began, saved = {}, 0, time.monotonic(), time.monotonic()
    for step in range(start, steps):
        torch.manual_seed(seed * 1_000_003 + step)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * share(step, steps, warmup)
        optimizer.zero_grad(set_to_none=True)
        losses = loss_of(step)
        losses["loss"].backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), clip)
        optimizer.step()
        if shadow:
            shadow.update(module, step)
        for key, value in losses.items():
            sums[key] = sums.get(key, 0.0) + value.detach()
        counted += 1
        if (step + 1) % log_every == 0 or step + 1 == steps:
            row = {k: round(float(v) / counted, 5) for k, v in sums.items()}
            row = {"step": step + 1, **row, "seconds_per_step": round((time.monotonic() - began) / counted, 3)}
            with open(out / "log.jsonl", "a") as log:
                log.write(json.dumps(row) + "\n")
            sums, counted, began = {}, 0, time.monotonic()
        if evaluate and ((step + 1) % evaluate_every == 0 or step + 1 == steps):
            module.eval()
            with open(out / "log.jsonl", "a") as log:
                log.write(json.dumps({"step": step + 1, **evaluate()}) + "\n")
            module.train()
        if time.monotonic() - saved > save_seconds or step + 1 == steps:
            state = {"module": module.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            if shadow:
                state["shadow"] = shadow.shadow
            torch.save(state, state_path.with_suffix(".partial"))
            os.replace(state_path.with_suffix(".partial"), state_path)
            saved = time.monotonic()
    if shadow:
        module.load_state_dict(shadow.shadow)
    return module.eval()
