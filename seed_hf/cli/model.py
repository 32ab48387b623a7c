"""The model or the pipeline that `--model` names."""

import json
from pathlib import Path

from .shared import loading, quiet_and_where


def load_model(folder: Path | None, device: str | None):
    """The model and its processor, from a model's folder, a pipeline's folder or a checkpoint with both."""
    from seed_hf.artifacts.bundled import bundled

    folder = _existing(folder) or bundled("seed-tiny", "model")
    if (folder / "model_index.json").is_file():
        model_folder, processor_folder = folder / "seed_model", folder / "processor"
    else:
        model_folder = processor_folder = folder if (folder / "config.json").is_file() else folder / "model"
    if not (model_folder / "config.json").is_file():
        raise ValueError(f"{folder}: holds neither a model (config.json) nor a pipeline (model_index.json).")
    kind = json.loads((model_folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    if kind != "seed":
        raise ValueError(f"{folder}: holds a {kind!r} model. Seeing and asking need a SeedForConditionalGeneration.")
    device, dtype = quiet_and_where(device)
    from seed_hf.modeling.modeling_seed import SeedForConditionalGeneration
    from seed_hf.modeling.processing_seed import SeedProcessor

    with loading(folder):
        model = SeedForConditionalGeneration.from_pretrained(model_folder, dtype=dtype).to(device).eval()
        return model, SeedProcessor.from_pretrained(processor_folder)


def pipeline_folder(folder: Path | None) -> Path:
    from seed_hf.artifacts.bundled import bundled

    folder = _existing(folder) or bundled("seed-tiny", "pipeline")
    if not (folder / "model_index.json").is_file():
        folder = folder / "pipeline"
    if not (folder / "model_index.json").is_file():
        raise ValueError(f"{folder.parent}: holds no pipeline (model_index.json), which drawing needs.")
    return folder


def load_pipeline(folder: Path | None, device: str | None):
    folder = pipeline_folder(folder)
    device, dtype = quiet_and_where(device)
    from seed_hf.pipelines.pipeline_seed_image import SeedImagePipeline

    with loading(folder):
        return SeedImagePipeline.from_pretrained(folder, dtype=dtype).to(device)


def _existing(folder: Path | None) -> Path | None:
    if folder is not None and not folder.is_dir():
        raise ValueError(f"{folder}: no such folder. --model takes the folder of a saved pipeline or model.")
    return folder
