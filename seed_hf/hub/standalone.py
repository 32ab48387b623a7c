"""A bundled part shares weight files with its neighbours; published, it has to stand alone."""

from importlib.metadata import distribution
from pathlib import Path

from .facts import bundled_name


_NOTICES = ("LICENSE", "NOTICE")


def write_standalone(folder: Path, kind: str, out: Path) -> None:
    """Load the artifact in `folder` and save it into `out`, with all its weights and nothing else's.

    Weights that were stored in half precision are stored so again, since they lose nothing by it. The number type in
    the configuration, which says how they are loaded, stays.

    Raises:
        ValueError: There is no such way for this kind.
    """
    if kind not in _SAVERS:
        raise ValueError(f"{folder}: its weights lie outside the folder. Load it and save it again.")
    out.mkdir(parents=True, exist_ok=True)
    _SAVERS[kind](folder, out)
    for file in out.rglob("*.safetensors"):
        _store_in_half(file)
    for name in _NOTICES if bundled_name(folder) else ():
        (out / name).write_text(_notice(name), encoding="utf-8")


def _notice(name: str) -> str:
    """A licence text of this package: installed with it, or at the top of a checkout."""
    checkout = Path(__file__).parents[2]
    if (checkout / "setup.py").is_file():
        return (checkout / name).read_text(encoding="utf-8")
    text = distribution("seed_hf").read_text(f"licenses/{name}")
    if text is None:
        raise ValueError(f"This installation of seed_hf lacks {name}, which has to go along. Install it again.")
    return text


def _save_tokenizer(folder: Path, out: Path) -> None:
    from seed_hf.modeling.image_processing_seed import SeedImageProcessor
    from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
    from seed_hf.modeling.processing_seed import SeedProcessor

    SeedTokenizer.from_pretrained(folder).save_pretrained(out)
    processor = SeedProcessor if (folder / "tokenizer.json").is_file() else SeedImageProcessor
    processor.from_pretrained(folder).save_pretrained(out)


def _save_model(folder: Path, out: Path) -> None:
    from seed_hf.modeling.modeling_seed import SeedForConditionalGeneration
    from seed_hf.modeling.processing_seed import SeedProcessor

    SeedForConditionalGeneration.from_pretrained(folder).save_pretrained(out)
    SeedProcessor.from_pretrained(folder).save_pretrained(out)


def _save_pipeline(folder: Path, out: Path) -> None:
    from seed_hf.pipelines.pipeline_seed_image import SeedImagePipeline

    SeedImagePipeline.from_pretrained(folder).save_pretrained(out)


_SAVERS = {"tokenizer": _save_tokenizer, "model": _save_model, "pipeline": _save_pipeline}


def _store_in_half(file: Path) -> None:
    """Rewrite a file of weights in float16, if that changes no value."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    from seed_hf.files import whole_file

    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    tensors = load_file(file)
    halves = {name: value.half() if value.dtype == torch.float32 else value for name, value in tensors.items()}
    if all(torch.equal(halves[name].to(value.dtype), value) for name, value in tensors.items()):
        with whole_file(file) as temporary:
            save_file(halves, temporary, metadata=metadata)
