"""`seed-hf bench fits`: what of the published sizes fits into a GPU's memory, computed from the number of parameters.

Nothing is measured and no weight is made: modules are built on torch's meta device and counted.
"""

from collections.abc import Sequence
from typing import Any

import torch

from .draw import full_size_pipeline
from .full_size import llama_7b, opt_2_7b, visual_tokenizer


# Bytes of a weight of the language model's blocks; embeddings and the output layer stay bf16, as bitsandbytes has it.
# nf4 has 4 bits and, quantized twice, 0.127 bits of scales.
WEIGHTS = {"bf16": 2.0, "8 bit": 1.0, "4 bit": (4 + 0.127) / 8}
SYSTEMS = {"OPT-2.7B, Stable Diffusion 1.5": (opt_2_7b, "sd-1.5"), "SEED-LLaMA 8B, unCLIP": (llama_7b, "unclip")}


def measure(*, sizes: Sequence[int] = (16, 24), spare: float = 3.0, tokens: int = 2048) -> dict:
    """Compute the table.

    Args:
        sizes: Of GPUs, in GB of 10^9 bytes.
        spare: GB for CUDA's context, activations and the latents of one image.
        tokens: In the language model's cache.

    Returns:
        A report for JSON: of each system `parts`, and `rows` with the weights' GB and whether they fit.
    """
    meta, dtype = torch.device("meta"), torch.bfloat16
    report: dict[str, Any] = {"benchmark": "fits", "computed": True, "spare_gb": spare, "systems": {}}
    for system, (make, drawer) in SYSTEMS.items():
        lm, pipe = make(meta, dtype), full_size_pipeline(drawer, meta, dtype)
        layers, width = lm.config.num_hidden_layers, lm.config.hidden_size
        matrices = {id(module.weight): module.weight for module in
                    (lm.get_input_embeddings(), lm.get_output_embeddings())}  # fmt: skip
        outside = sum(weight.numel() for weight in matrices.values())
        parts = {"tokenizer": _numbers(visual_tokenizer(meta, dtype)), "language model": _numbers(lm)}
        parts["UNet and VAE"] = _numbers(pipe.unet) + _numbers(pipe.vae)
        cache = tokens * layers * 2 * width * 2 / 1e9
        others = 2 * (parts["tokenizer"] + parts["UNet and VAE"]) / 1e9
        rows = {}
        for name, size in WEIGHTS.items():
            speaking = (size * (parts["language model"] - outside) + 2 * outside) / 1e9
            together = speaking + others + cache
            largest = max(speaking + cache, 2 * parts["tokenizer"] / 1e9, 2 * parts["UNet and VAE"] / 1e9)
            for how, needed in (("all on the GPU", together), ("the part in use", largest)):
                fits = {str(gpu): needed + spare <= gpu for gpu in sizes}
                rows[f"{name}, {how}"] = {"gb": needed, "fits": fits}
        report["systems"][system] = {"parameters": parts, "cache_gb": cache, "rows": rows}
    return report


def table(report: dict) -> str:
    """Markdown of what `measure` returns.

    Args:
        report: Of `measure`.
    """
    lines = [f"computed from the numbers of parameters; {report['spare_gb']:g} GB are left for all else"]
    for system, found in report["systems"].items():
        numbers = ", ".join(f"{name} {count / 1e9:.2f}" for name, count in found["parameters"].items())
        sizes = list(next(iter(found["rows"].values()))["fits"])
        heads = ["GB", *(f"{size} GB" for size in sizes)]
        lines += ["", f"{system}: 10^9 parameters: {numbers}; cache {found['cache_gb']:.2f} GB", ""]
        lines += [" | ".join(["| language model, weights", *heads]) + " |", "| --- " * (len(heads) + 1) + "|"]
        for name, row in found["rows"].items():
            fits = ["fits" if fit else "no" for fit in row["fits"].values()]
            lines.append(" | ".join([f"| {name}", f"{row['gb']:.1f}", *fits]) + " |")
    return "\n".join(lines)


def _numbers(module: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())
