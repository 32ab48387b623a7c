"""All figures of a SEED model on the pictograms, as JSON and as a Markdown table (`seed-hf evaluate report`).

The JSON holds settings, seeds, counts and fingerprints beside the figures. It is written after every section, and a
second call with the same settings, weights and data resumes it.
"""

import json
import logging
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from seed_hf.artifacts.fingerprints import weights_fingerprint
from seed_hf.devices import usable_device
from seed_hf.files import whole_file

from .judge import Judge
from .report_sections import ReportSections
from .report_settings import SECTIONS, SETS, EvaluationSettings
from .report_table import markdown
from .sets import read_rows


logger = logging.getLogger(__name__)

# The lowest figures of a released seed-tiny: set, section, path to the figure, at least.
FLOOR = (
    ("validation", "retrieval", ("codes", "R@m"), 55.0),
    ("test_concept", "retrieval", ("codes", "R@m"), 20.0),
    ("train", "codebook", ("usage",), 60.0),
    ("validation", "captions", ("exact_match",), 30.0),
    ("validation", "drawing", ("caption_first",), 25.0),
)


def evaluate(
    model_dir: str | Path | None,
    pipeline_dir: str | Path | None,
    data_dir: str | Path,
    out_json: str | Path,
    settings: EvaluationSettings | None = None,
    *,
    cache_dir: str | Path | None = None,
    device: str | None = None,
    judge: Judge | None = None,
) -> dict[str, Any]:
    """Run every section on every set; write `out_json` and, beside it, a Markdown file of the same name.

    Args:
        model_dir: Folder or Hub id of a [`SeedForConditionalGeneration`] and its processor; `None` for seed-tiny.
        pipeline_dir: Folder or Hub id of a [`SeedImagePipeline`]; its diffusion part is used with the model of
            `model_dir`. `None` for seed-tiny.
        data_dir: Folder of the pictograms.
        out_json: JSON file to write. An existing file with the same settings, weights and data is resumed.
        settings: What is evaluated and how.
        cache_dir: Folder that keeps the judge and its image features, see [`load_or_train_judge`].
        device: `"cpu"`, `"cuda"` ...; by default CUDA if there is one. Everything runs in fp32.
        judge: A trained judge; by default that of `settings.judge_seed`.

    Returns:
        The content of the JSON file: `settings`, `fingerprints`, `environment`, `sets` (split, then section, then
        figures; all shares in percent), `floor` and `seconds`.
    """
    settings = settings or EvaluationSettings()
    device = str(usable_device(device))
    sections = ReportSections(model_dir, pipeline_dir, data_dir, settings, device, cache_dir, judge)
    out = Path(out_json)
    out.parent.mkdir(parents=True, exist_ok=True)
    identity = {"settings": json.loads(json.dumps(asdict(settings))), "fingerprints": sections.fingerprints()}
    result = _resume(out, identity) or {**identity, "environment": _environment(device), "sets": {}, "seconds": {}}
    for split in dict.fromkeys((*settings.sets, *settings.codebook_sets)):
        rows = read_rows(data_dir, split, settings.limit)
        done = result["sets"].setdefault(split, {})
        done["counts"] = {"pictures": len(rows), "captions": len(set(rows["caption"]))}
        for section in SECTIONS:
            wanted = split in settings.sets or section == "codebook"
            if section not in settings.sections or section in done or not wanted:
                continue
            logger.info("%s: %s, %d images", split, section, len(rows))
            begin = time.monotonic()
            done[section] = getattr(sections, f"{section}_figures")(split, rows)
            result["seconds"][f"{split}.{section}"] = round(time.monotonic() - begin, 1)
            _write(out, json.dumps(result, indent=1, ensure_ascii=False))
    result["floor"] = None if settings.limit else floor(result["sets"])
    _write(out, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    _write(out.with_suffix(".md"), markdown(result))
    return result


def floor(sets: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The figures of `FLOOR` that `sets` holds, each with its lowest value and whether it reaches that.

    Args:
        sets: The figures: split, then section, then figure.
    """
    lines = []
    for split, section, path, least in FLOOR:
        value: Any = sets.get(split, {}).get(section)
        if value is None:
            continue
        for key in path:
            value = value[key]
        figure = f"{split}: {section} {' '.join(path)}"
        lines.append({"figure": figure, "reached": value, "at_least": least, "holds": value >= least})
    return lines


def _resume(path: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        found = {}
    if all(found.get(name) == value for name, value in identity.items()):
        logger.info("resuming %s", path)
        return found
    logger.warning("%s has other settings, weights or data and will be replaced", path)
    return None


def _write(path: Path, text: str) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _environment(device: str) -> dict[str, str]:
    import diffusers
    import transformers

    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.machine()
    return {
        "device": f"{device} ({name})",
        "dtype": "float32",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "diffusers": diffusers.__version__,
        "date": datetime.now(UTC).date().isoformat(),
    }


__all__ = ["FLOOR", "SECTIONS", "SETS", "EvaluationSettings", "evaluate", "floor", "weights_fingerprint"]
