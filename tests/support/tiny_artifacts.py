"""One small folder of each kind of artifact, as the package's own commands leave them."""

import json
from pathlib import Path

from transformers import OPTConfig, OPTForCausalLM

from seed_hf.artifacts.loading import load_tokenizer
from seed_hf.data.jobs.tokenizing import tokenize_images
from seed_hf.data.sources.source import open_source
from seed_hf.evaluation.result import model_facts
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from tiny import tiny_text_tokenizer, tiny_tokenizer
from tiny_diffusion import tiny_model_and_processor, tiny_pipeline
from tiny_language import OPT_SIZES, TEXT_VOCAB_SIZE, tiny_language_model
from tiny_sources import damaged_rows, write_parquet


def save_artifact(kind: str, folder: Path) -> Path:
    """Write a tiny artifact of a kind into `folder`, which it returns."""
    _SAVERS[kind](folder)
    return folder


def _tokenizer(folder: Path) -> None:
    tiny_tokenizer().save_pretrained(folder)
    SeedImageProcessor(size={"height": 28, "width": 28}).save_pretrained(folder)


def _model(folder: Path) -> None:
    for part in tiny_model_and_processor():
        part.save_pretrained(folder)


def _language_model(folder: Path) -> None:
    tiny_language_model().save_pretrained(folder)
    tiny_text_tokenizer().save_pretrained(folder)


def _pipeline(folder: Path) -> None:
    model, processor = tiny_model_and_processor()
    tiny_pipeline(model, processor=processor).save_pretrained(folder)


def _adapter(folder: Path, base: str = "tester/base") -> None:
    """LoRA on a plain OPT, which is saved beside the folder as `base`."""
    from peft import LoraConfig, get_peft_model

    plain = folder.parent / "base"
    OPTForCausalLM(OPTConfig(vocab_size=TEXT_VOCAB_SIZE, **OPT_SIZES)).save_pretrained(plain)
    model = OPTForCausalLM.from_pretrained(plain)
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    adapted = get_peft_model(model, config)
    adapted.peft_config["default"].base_model_name_or_path = base
    adapted.save_pretrained(folder)


def _dataset(folder: Path) -> None:
    source = write_parquet(folder.parent / "pictures.parquet", damaged_rows(6)[0])
    tokenize_images(open_source(source), tiny_tokenizer(), folder, workers=0, rows_per_shard=4)


_SAVERS = {
    "tokenizer": _tokenizer,
    "model": _model,
    "language_model": _language_model,
    "pipeline": _pipeline,
    "adapter": _adapter,
    "dataset": _dataset,
}


def tiny_evaluation(folder: Path, task: str = "retrieval", figures: dict | None = None, **changes) -> dict:
    """A result as `seed_hf.evaluation.running` writes it, of the visual tokenizer in a folder."""
    result = {
        "task": task,
        "model": model_facts(load_tokenizer(folder, device="cpu")[0]),
        "settings": {"max_text_tokens": 32},
        "deviations": ["max_text_tokens is 32; the authors' is 35"],
        "data": {"format": "coco-karpathy", "split": "test", "rows": 5000, "rows_sha256": "cd" * 32, "bad_rows": []},
        "figures": figures or {"codes": {"TR@1": 10.0, "R@m": 53.125}, "embeddings": {"TR@1": 20.0, "R@m": 61.25}},
        "environment": {"torch": "2", "date": "2026-01-02"},
        "seconds": 3.0,
    }
    return json.loads(json.dumps({**result, **changes}))
