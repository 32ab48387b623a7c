"""Compares a converted language model with results of the authors' code for the same weights and prompts."""

import json
from pathlib import Path

import torch
from transformers.tokenization_utils_tokenizers import PreTrainedTokenizerFast

from seed_hf.modeling.modeling_seed import SeedForConditionalGeneration
from seed_hf.modeling.modeling_seed_text import SeedLlamaForCausalLM

from .parity import TOLERANCE, Parity, ParityRow, read_recorded


@torch.no_grad()
def compare_language_model(folder: Path, recorded: Path, tolerance: float = TOLERANCE) -> Parity:
    """Run a converted model on recorded prompts and training samples, in fp32.

    Args:
        folder: Of the converted model.
        recorded: Folder with `prompts.json` (`prompts`: `name`, `text`, `ids`), `language_model_io.safetensors`
            (`last_logits/<prompt>`, `logits/<prompt>`, `loss/<sample>`) and, for losses, `training_samples.json`
            (`name`, `input_ids`, `labels`).
        tolerance: Largest relative difference of logits; of losses ten times as much.

    Returns:
        One row for the ids of all prompts, one for their logits, one for all losses.

    Raises:
        ValueError: A file is absent or damaged, or its ids are not those of this model.
    """
    try:
        return _compared(folder, recorded, tolerance)
    except (IndexError, KeyError, StopIteration, TypeError) as error:
        said = f"{type(error).__name__}: {error}"
        raise ValueError(f"{recorded}: recorded results that are damaged, or of another model. {said}") from error


def _compared(folder: Path, recorded: Path, tolerance: float) -> Parity:
    prompts = {prompt["name"]: prompt for prompt in _read(recorded / "prompts.json")["prompts"]}
    results = read_recorded(recorded / "language_model_io.safetensors")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    model = _open(folder)
    found = [tokenizer(prompt["text"], add_special_tokens=False).input_ids for prompt in prompts.values()]
    equal = [ids == prompt["ids"] for ids, prompt in zip(found, prompts.values())]
    rows = [ParityRow("ids of prompts", 0.0, 0.0, sum(equal) / len(equal))]
    differences: dict[str, list[tuple[float, float]]] = {"logits": [], "losses": []}
    for name, expected in results.items():
        what, _, key = name.partition("/")
        if what in ("last_logits", "logits"):
            logits = model(torch.tensor([prompts[key]["ids"]])).logits[0]
            ours = logits[-1] if what == "last_logits" else logits
            differences["logits"].append(_difference(ours, expected))
        elif what == "loss":
            sample = next(s for s in _read(recorded / "training_samples.json") if s["name"] == key)
            ids, labels = torch.tensor([sample["input_ids"]]), torch.tensor([sample["labels"]])
            differences["losses"].append(_difference(model(ids, labels=labels).loss.reshape(1), expected))
    for name, pairs in differences.items():
        if pairs:
            rows.append(ParityRow(name, max(a for a, _ in pairs), max(r for _, r in pairs)))
    return Parity(rows, tolerance)


def _difference(ours: torch.Tensor, theirs: torch.Tensor) -> tuple[float, float]:
    difference = (ours.double() - theirs.double()).abs().max().item()
    return difference, difference / max(theirs.double().abs().max().item(), 1e-30)


def _open(folder: Path) -> torch.nn.Module:
    if json.loads((folder / "config.json").read_text())["model_type"] == "seed":
        whole = SeedForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
        return whole.language_model.eval()
    return SeedLlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def _read(path: Path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: no readable file of recorded results. {error}") from error
