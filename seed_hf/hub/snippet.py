"""The usage program of a card: rendered from its template, and run before the card shows it.

The templates are `model_cards/snippets/KIND.jinja`.
"""

import json
import logging
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from seed_hf.artifacts.bundled import bundled_part
from seed_hf.artifacts.hub_ids import is_hub_id
from seed_hf.artifacts.kinds import KINDS
from seed_hf.artifacts.origins import base_model_of
from seed_hf.artifacts.publishable import variant_of
from seed_hf.files import read_json
from seed_hf.texts import MAX_NEW_TOKENS

from .templates import render


logger = logging.getLogger(__name__)
# Set to 0 where there is no memory for a second process with the model: programs are then shown and not run.
SWITCH = "SEED_HF_RUN_SNIPPETS"
_SECONDS = 900
# What the names of weights begin with that an adapter gives to a SeedForConditionalGeneration.
_OF_WHOLE_MODEL = ("base_model.model.language_model.", "base_model.model.visual_tokenizer.")
_PATTERN = re.compile(r"[*?\[]|::")  # what `load_dataset` takes a path with such characters for
# Ends the process where the program ends: stopping pyarrow's threads aborted once in many runs.
_END = "\nimport os, sys\nsys.stdout.flush()\nos._exit(0)\n"


def snippet_for(folder: Path, kind: str, repo_id: str | None = None, stage: str | None = None) -> str:
    """A program that uses what the folder holds.

    Args:
        folder: Of the artifact.
        kind: From `kind_of`.
        repo_id: What the program loads; by default the folder, by its name.
        stage: Of the training. "contrastive": the codebook is not trained yet, and the program does not use it.
    """
    place = json.dumps(repo_id) if repo_id else f"{_name(folder)}  # this folder, or the id of its repository"
    values: dict[str, Any] = {
        "place": place,
        "max_new_tokens": MAX_NEW_TOKENS,
        "variant": _named_variant(folder, kind),
    }
    if kind == "tokenizer":
        values["stage"] = stage
    elif kind == "pipeline":
        values["reads_words"] = _reads_words(folder)
    elif kind == "adapter":
        base = adapter_base(folder)
        part = bundled_part(Path(base))
        values |= {"base": f"bundled({json.dumps(part[0])}, {json.dumps(part[1])})" if part else json.dumps(base)}
        values |= {"base_is_bundled": part is not None, "of_whole_model": _adapts_whole_model(folder)}
    return render(f"snippets/{kind}.jinja", **values).strip()


def without_the_package(folder: Path, kind: str, place: str) -> str | None:
    """The call that loads the artifact by its own code, in Markdown; `None` for kinds without code.

    Args:
        folder: Of the artifact.
        kind: From `kind_of`.
        place: Hub id or name of the folder to load.
    """
    known = KINDS[kind]
    if known.auto_class is None:
        return None
    variant = _named_variant(folder, kind)
    call = f'`{known.auto_class}.from_pretrained("{place}"{variant}, trust_remote_code=True)`'
    return call + (f", and `{known.auto_processor}` likewise" if known.auto_processor else "")


def run_snippet(folder: Path, kind: str, repo_id: str | None, snippet: str) -> str | None:
    """What the program prints when it runs on the folder, in a process of its own, without a network.

    Args:
        folder: Of the artifact.
        kind: From `kind_of`.
        repo_id: What the program loads; it is made to load the folder instead.
        snippet: From `snippet_for`.

    Returns:
        `None` if it was not run: the environment variable `SEED_HF_RUN_SNIPPETS` is 0, or it fails for an adapter
        whose base model is of the Hub, and so may not be on this machine.

    Raises:
        ValueError: The program fails: the artifact does not work as its card would say.
    """
    if os.environ.get(SWITCH) == "0":
        return None
    whole = folder.resolve()
    if not repo_id and kind == "dataset" and _PATTERN.search(whole.name):
        raise ValueError(
            f"{folder}: rename the folder, or give the id of its repository. `load_dataset` reads a name with "
            "*, ?, [ or :: as a pattern, so the usage snippet of the card would not find the folder."
        )
    with tempfile.TemporaryDirectory() as cache:
        place = whole
        if kind == "dataset" and _PATTERN.search(str(whole)):  # the repository has another name, or place
            place = Path(cache).resolve() / "linked" / (whole.name if not repo_id else "dataset")
            _link_files(whole, place)
        if repo_id:
            snippet = snippet.replace(f"place = {json.dumps(repo_id)}", f"place = {_name(place)}")
        quiet = {
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_DATASETS_CACHE": cache,
            "TRANSFORMERS_VERBOSITY": "error",
            "PYTHONIOENCODING": "utf-8",
        }
        try:
            # -P: no file of the working directory is taken for a module
            done = subprocess.run(
                [sys.executable, "-P", "-c", snippet + _END],
                cwd=place.parent, env={**os.environ, **quiet}, timeout=_SECONDS,
                stdin=subprocess.DEVNULL, capture_output=True, text=True, encoding="utf-8",
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise ValueError(f"{folder}: the usage snippet did not end within {_SECONDS} seconds.") from None
    if done.returncode == 0:
        return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in done.stdout.strip())
    said = re.split(r"^  .*\n", done.stderr.strip(), flags=re.MULTILINE)[-1]  # after the last line of the traceback
    reason = " ".join(said.split()) or f"exit status {done.returncode}"
    if kind == "adapter" and not (folder / base_model_of(folder)).is_dir():
        logger.warning("%s: the card's snippet did not run. Is the base model on this machine? %s", folder, reason)
        return None
    raise ValueError(f"{folder}: the usage snippet of its card does not run, so no card was written: {reason}")


def adapter_base(folder: Path) -> str:
    """The base model of an adapter, for a program that will run: a Hub id or a folder on this machine.

    Raises:
        ValueError: It is neither.
    """
    base = base_model_of(folder)
    if is_hub_id(base) or (base and Path(base).is_dir()):
        return base
    raise ValueError(
        f"{folder}: its base model is {base!r}, neither the id of a repository nor a folder on this machine. Set "
        "base_model_name_or_path in adapter_config.json."
    )


def _named_variant(folder: Path, kind: str) -> str:
    variant = variant_of(folder, kind)
    return f', variant="{variant}"' if variant else ""


def _name(folder: Path) -> str:
    return json.dumps(folder.resolve().name, ensure_ascii=False)  # a pair of surrogates is no character in Python


def _link_files(folder: Path, place: Path) -> None:
    """Make a folder of links to the files of another, as `load_dataset` looks where a link of a folder leads."""
    for file in folder.rglob("*"):
        if file.is_file():
            link = place / file.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file.resolve())


def _reads_words(folder: Path) -> bool:
    """Whether a pipeline has a processor, which reads prompts, and a language model, which a bare tokenizer lacks."""
    processor = read_json(folder / "model_index.json").get("processor") or [None]
    return processor[-1] is not None and read_json(folder / "seed_model" / "config.json").get("model_type") == "seed"


def _adapts_whole_model(folder: Path) -> bool:
    """Whether the base is a whole SeedForConditionalGeneration; otherwise it is a language model alone.

    The names of the weights tell; peft writes the class of the base only where no `task_type` is given.
    """
    from safetensors import SafetensorError, safe_open

    file = folder / "adapter_model.safetensors"
    if not file.is_file():
        return False
    try:
        with safe_open(file, "np") as opened:
            return any(name.startswith(_OF_WHOLE_MODEL) for name in opened.keys())
    except SafetensorError as error:
        raise ValueError(f"{file}: cannot be read as safetensors ({error}).") from error
