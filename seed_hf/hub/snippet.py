"""The usage snippet of a card: a whole little program, run as it stands before it is shown."""

import json
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from seed_hf.artifacts.kinds import read_json

from .front_matter import is_hub_id


logger = logging.getLogger(__name__)
# Set to 0 where a second process with the model has no room: snippets are then shown and not run.
SWITCH = "SEED_HF_RUN_SNIPPETS"
_SECONDS = 900
# Ends the process where the program ends: taking down pyarrow's threads has been seen to abort, once in many runs.
_END = "\nimport os, sys\nsys.stdout.flush()\nos._exit(0)\n"
_PICTURE = 'picture = Image.new("RGB", (256, 256), "red")  # or Image.open("picture.png").convert("RGB")'

_TOKENIZER = f"""
from PIL import Image
from seed_hf import SeedImageProcessor, SeedTokenizer

place = {{place}}
tokenizer = SeedTokenizer.from_pretrained(place)
processor = SeedImageProcessor.from_pretrained(place)
{_PICTURE}
pixel_values = processor(picture, return_tensors="pt").pixel_values
"""
_CODES = """
codes = tokenizer.encode(pixel_values)
print(codes[0].tolist())
print(tuple(tokenizer.decode(codes).shape))  # generation embeddings, which the diffusion model draws from
"""
_FEATURES = """
print(tuple(tokenizer.get_image_features(pixel_values).shape))  # normalised, for retrieval
"""
_MODEL = f"""
from PIL import Image
from seed_hf import SeedForConditionalGeneration, SeedProcessor

place = {{place}}
model = SeedForConditionalGeneration.from_pretrained(place)
processor = SeedProcessor.from_pretrained(place)
{_PICTURE}
inputs = processor.caption([picture])
ids = model.generate(**inputs, generation_mode="text", max_new_tokens=24, do_sample=False)
print(processor.post_process_multimodal_output(ids[:, inputs.input_ids.shape[1] :], generation_mode="text")[0])
"""
_LANGUAGE_MODEL = """
import torch
from seed_hf import SeedForCausalLM
from transformers import AutoTokenizer

place = {place}
model = SeedForCausalLM.from_pretrained(place)
text_tokenizer = AutoTokenizer.from_pretrained(place)
# <img>, 32 visual codes as integers, </img>: what a picture is to this model
config = model.config
codes = torch.zeros(32, dtype=torch.long)
span = torch.cat([
    torch.tensor([config.boi_token_id]), codes + config.visual_token_offset, torch.tensor([config.eoi_token_id])
])
words = text_tokenizer(" a photo of", add_special_tokens=False, return_tensors="pt").input_ids[0]
ids = torch.cat([span, words]).unsqueeze(0)
logits = model(input_ids=ids).logits
print(tuple(logits.shape))
"""
_PIPELINE = """
import torch
from seed_hf import SeedImagePipeline

place = {place}
pipe = SeedImagePipeline.from_pretrained(place)
"""
_DRAW = """
drawn = pipe("a red apple", num_inference_steps=25, generator=torch.Generator().manual_seed(0)).images[0]
print(drawn.size)
"""
_RECONSTRUCT = f"""
from PIL import Image

{_PICTURE}
drawn = pipe(image=picture, num_inference_steps=25, generator=torch.Generator().manual_seed(0)).images[0]
print(drawn.size)
"""
_ADAPTER = """
import seed_hf.auto  # so that transformers knows SEED's language model
from peft import PeftModel
from transformers import AutoModelForCausalLM

place = {place}
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained({base}), place)
print(type(model.get_base_model()).__name__)
"""
# An adapter of a whole SeedForConditionalGeneration, not of a language model alone.
_ADAPTER_OF_MODEL = _MODEL.replace(
    "SeedForConditionalGeneration.from_pretrained(place)",
    "SeedForConditionalGeneration.from_pretrained(place)  # the base model and this adapter",
).replace("SeedProcessor.from_pretrained(place)", "SeedProcessor.from_pretrained({base})")
_DATASET = """
from datasets import load_dataset

place = {place}
rows = load_dataset(place, split="train")
print(rows.num_rows)
print(rows[0])
"""


def snippet_for(folder: Path, kind: str, repo_id: str | None = None, stage: str | None = None) -> str:
    """A program that uses what the folder holds.

    Args:
        repo_id: What the program loads; by default the folder, by its name.
        stage: Of the training, "contrastive": the codebook is not trained yet, and the program does not use it.
    """
    place = json.dumps(repo_id) if repo_id else f"{_name(folder)}  # this folder, or the id of its repository"
    if kind == "tokenizer":
        program = _TOKENIZER + (_FEATURES if stage == "contrastive" else _CODES).lstrip("\n")
    elif kind == "pipeline":
        program = _PIPELINE + (_DRAW if _draws_from_words(folder) else _RECONSTRUCT).lstrip("\n")
    elif kind == "adapter":
        adapter = read_json(folder / "adapter_config.json")
        whole = (adapter.get("auto_mapping") or {}).get("base_model_class") == "SeedForConditionalGeneration"
        base = adapter_base(folder)
        program = (_ADAPTER_OF_MODEL if whole else _ADAPTER).replace("{base}", json.dumps(base))
    else:
        program = {"model": _MODEL, "language_model": _LANGUAGE_MODEL, "dataset": _DATASET}[kind]
    return program.replace("{place}", place).strip()


_WITHOUT = {
    "tokenizer": "AutoModel",
    "model": "AutoModelForMultimodalLM",
    "language_model": "AutoModelForCausalLM",
    "pipeline": "DiffusionPipeline",
}


def without_the_package(kind: str, place: str) -> str | None:
    """The call that loads the artifact by its own code, in Markdown; `None` for kinds without code."""
    if kind not in _WITHOUT:
        return None
    call = f'`{_WITHOUT[kind]}.from_pretrained("{place}", trust_remote_code=True)`'
    return call + (", and `AutoProcessor` likewise" if kind == "model" else "")


def run_snippet(folder: Path, kind: str, repo_id: str | None, snippet: str) -> str | None:
    """What the program prints, run on the folder in a process of its own, without a network.

    Returns:
        `None` if it was not run: switched off by the environment variable `SEED_HF_RUN_SNIPPETS=0`, or an adapter
        whose base model is not on this machine.

    Raises:
        ValueError: The program fails: the artifact does not work as its card would say.
    """
    if os.environ.get(SWITCH) == "0":
        return None
    if repo_id:
        snippet = snippet.replace(f"place = {json.dumps(repo_id)}", f"place = {_name(folder)}")
    with tempfile.TemporaryDirectory() as cache:
        quiet = {
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_DATASETS_CACHE": cache,
            "TRANSFORMERS_VERBOSITY": "error",
            "PYTHONIOENCODING": "utf-8",
        }
        try:
            # -P: nothing in the working directory stands in for a module of the same name
            done = subprocess.run(
                [sys.executable, "-P", "-c", snippet + _END],
                cwd=folder.resolve().parent, env={**os.environ, **quiet}, timeout=_SECONDS,
                stdin=subprocess.DEVNULL, capture_output=True, text=True, encoding="utf-8",
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise ValueError(f"{folder}: the usage snippet did not end within {_SECONDS} seconds.") from None
    if done.returncode == 0:
        return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in done.stdout.strip())
    if kind == "adapter" and not _has_base(folder):
        logger.warning("%s: the base model is not on this machine, so the card's snippet was not run.", folder)
        return None
    reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    raise ValueError(f"{folder}: the usage snippet of its card does not run, so no card was written: {reason}")


def adapter_base(folder: Path) -> str:
    """What an adapter belongs to: the id of a repository, or a folder on this machine.

    Raises:
        ValueError: It is neither. It stands in a program that is run, so nothing else is let through.
    """
    base = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
    if isinstance(base, str) and (is_hub_id(base) or (base and Path(base).is_dir())):
        return base
    raise ValueError(
        f"{folder}: its base model is {base!r}, neither the id of a repository nor a folder on this machine. Set "
        "base_model_name_or_path in adapter_config.json."
    )


def _name(folder: Path) -> str:
    return json.dumps(folder.resolve().name)


def _has_base(folder: Path) -> bool:
    base = read_json(folder / "adapter_config.json").get("base_model_name_or_path") or ""
    return (folder / base).is_dir()


def _draws_from_words(folder: Path) -> bool:
    index = read_json(folder / "model_index.json")
    # the processor is what reads words; a bare tokenizer has no language model
    return (index.get("processor") or [None])[-1] is not None and read_json(folder / "seed_model" / "config.json").get(
        "model_type"
    ) == "seed"
