"""The kinds of artifacts: one table of what each is, and how a folder is recognised.

A new kind is an entry of `KINDS`, a card template `model_cards/KIND.md` and a usage program
`model_cards/snippets/KIND.jinja`.
"""

import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from seed_hf.files import read_json


_MODELING, _PIPELINES = "seed_hf.modeling", "seed_hf.pipelines"
# Names of files, as patterns. Code and shards are found by what the folder says of itself: see `publishable`.
_CARD = (
    *("README.md", ".gitattributes", "card.yaml", "results.json", "train_config.json", ".eval_results/*.yaml"),
    *(f"{name}{suffix}" for name in ("LICENSE", "LICENCE", "NOTICE", "COPYING") for suffix in ("", ".md", ".txt")),
)
_TEXT_TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "vocab.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model"),
    *("chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja"),
)
_PROCESSOR = (*_TEXT_TOKENIZER, "preprocessor_config.json", "processor_config.json")
_MODEL = (*_CARD, *_PROCESSOR, "config.json", "generation_config.json")
_ALL_SECTIONS = ("codebook", "retrieval", "captions", "questions", "drawing", "reconstruction")


@dataclass(frozen=True)
class Kind:
    """What the package knows of one kind of artifact.

    Attributes:
        name: Of the kind, as `kind_of` gives it.
        described_by: File whose content the card template gets as `config`.
        tags: Of the card, beside `seed_hf`.
        sections: What evaluations can say something about, as far as it is about the kind.
        made_of: Names of its files, as patterns. For a pipeline also those of each part's folder.
        weights: What the names of its files of weights begin with.
        needed: Groups of files. One of each group must be in the folder, beside weights and code.
        model_type: In `config.json`; `None` for kinds that are recognised by other files. Language models of other
            families are recognised by their classes.
        cls: Class that writes and reads the folder, with its module; `None` if other libraries do.
        processor: Class of the processor in the same folder, with its module.
        library, task: `library_name` and `pipeline_tag` of the card.
        auto_class: Class of transformers or diffusers that loads the folder by the code saved in it.
        auto_processor: Class that loads its processor by that code.
        repo_type: Of the repository on the Hub.
    """

    name: str
    described_by: str
    tags: tuple[str, ...]
    sections: tuple[str, ...]
    made_of: tuple[str, ...]
    weights: tuple[str, ...] = ("model",)
    needed: tuple[tuple[str, ...], ...] = ()
    model_type: str | None = None
    cls: str | None = None
    processor: str | None = None
    library: str | None = None
    task: str | None = None
    auto_class: str | None = None
    auto_processor: str | None = None
    repo_type: str = "model"

    @property
    def words(self) -> str:
        """The kind as a person writes it."""
        return self.name.replace("_", " ")

    @property
    def class_name(self) -> str | None:
        """Name of `cls` without its module."""
        return self.cls.rpartition(".")[2] if self.cls else None


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "tokenizer",
            made_of=_MODEL,
            model_type="seed_tokenizer",
            cls=f"{_MODELING}.modeling_seed_tokenizer.SeedTokenizer",
            processor=f"{_MODELING}.image_processing_seed.SeedImageProcessor",
            needed=(("preprocessor_config.json", "processor_config.json"),),
            described_by="config.json",
            library="transformers",
            task="image-feature-extraction",
            tags=("image-tokenization",),
            sections=("codebook", "retrieval"),
            auto_class="AutoModel",
        ),
        Kind(
            "model",
            made_of=_MODEL,
            model_type="seed",
            cls=f"{_MODELING}.modeling_seed.SeedForConditionalGeneration",
            processor=f"{_MODELING}.processing_seed.SeedProcessor",
            needed=(("processor_config.json",), ("tokenizer.json",)),
            described_by="config.json",
            library="transformers",
            task="any-to-any",
            tags=("image-tokenization", "text-to-image", "image-to-text"),
            sections=("codebook", "retrieval", "captions", "questions"),
            auto_class="AutoModelForMultimodalLM",
            auto_processor="AutoProcessor",
        ),
        Kind(
            "language_model",
            made_of=_MODEL,
            model_type="seed_text",
            cls=f"{_MODELING}.modeling_seed_text.SeedForCausalLM",
            processor="transformers.AutoTokenizer",
            needed=(("tokenizer.json", "tokenizer_config.json"),),
            described_by="config.json",
            library="transformers",
            task="text-generation",
            tags=("image-tokenization",),
            sections=("captions", "questions"),
            auto_class="AutoModelForCausalLM",
        ),
        Kind(
            "pipeline",
            made_of=(*_MODEL, "model_index.json", "scheduler_config.json"),
            weights=("model", "diffusion_pytorch_model"),
            cls=f"{_PIPELINES}.pipeline_seed_image.SeedImagePipeline",
            described_by="seed_model/config.json",
            library="diffusers",
            task="text-to-image",
            tags=("image-tokenization",),
            sections=_ALL_SECTIONS,
            auto_class="DiffusionPipeline",
        ),
        Kind(
            "adapter",
            made_of=(*_CARD, *_PROCESSOR, "adapter_config.json"),
            weights=("adapter_model",),
            needed=(("adapter_model.safetensors",),),
            described_by="adapter_config.json",
            library="peft",
            task="text-generation",
            tags=("lora",),
            sections=("captions", "questions"),
        ),
        Kind(
            "dataset",
            made_of=(*_CARD, "manifest.json", "bad_images.jsonl"),
            weights=(),
            described_by="manifest.json",
            tags=("image-tokenization", "pre-tokenized"),
            sections=("codebook",),
            repo_type="dataset",
        ),
    )
}
_BY_MODEL_TYPE = {kind.model_type: kind.name for kind in KINDS.values() if kind.model_type}
_BY_CLASS = {kind.class_name: kind.name for kind in KINDS.values() if kind.cls}
_BY_CLASS["VisualVocabularyMixin"] = "language_model"  # the base of all families


def kind_of(folder: str | os.PathLike) -> str:
    """The kind of a folder: "tokenizer", "model", "language_model", "pipeline", "adapter" or "dataset".

    Args:
        folder: Of a saved artifact.

    Raises:
        ValueError: It is none of these.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder. Give the folder of a saved artifact.")
    kind, found = identify(folder)
    if kind is None:
        classes = [kind.class_name for kind in KINDS.values() if kind.class_name]
        raise ValueError(
            f"{folder}: holds {found}. Known are the folders that save_pretrained of a {', '.join(classes[:-1])} or "
            f"{classes[-1]} writes, LoRA adapters, and what `seed-hf tokenize` writes.{what_takes(folder)}"
        )
    return kind


def identify(folder: Path) -> tuple[str | None, str]:
    """The kind of a folder, `None` if unknown, and what it holds in words, such as "a model of the type 'opt'".

    Raises:
        ValueError: A file that tells the kind is damaged.
    """
    if (folder / "model_index.json").is_file():
        name = read_json(folder / "model_index.json").get("_class_name")
        name = name[-1] if isinstance(name, list) and name else name  # [module, class] where the folder has code
        kind = _BY_CLASS.get(name) if isinstance(name, str) else None
        return (kind if kind == "pipeline" else None), f"a diffusers pipeline of the class {name}"
    if (folder / "adapter_config.json").is_file():
        if read_json(folder / "adapter_config.json").get("peft_type") == "LORA":
            return "adapter", "a LoRA adapter"
        return None, "an adapter that is not LoRA"
    if (folder / "config.json").is_file():
        model_type = read_json(folder / "config.json").get("model_type")
        kind = _BY_MODEL_TYPE.get(model_type) if isinstance(model_type, str) else None
        return (kind, f"a model of the type {model_type!r}") if kind else _other_model(model_type)
    if (folder / "manifest.json").is_file():
        if "tokenizer" in read_json(folder / "manifest.json") and any(folder.glob("codes-*.parquet")):
            return "dataset", "pre-tokenized data"
        return None, "a manifest.json that is not of pre-tokenized data"
    return None, "no artifact"


def _other_model(model_type: Any) -> tuple[str | None, str]:
    """As `identify`, for types of models that are not in the table. Imports the models, which know all families."""
    kind = "language_model" if isinstance(model_type, str) and model_type in language_models() else None
    return kind, "a config.json of no model" if model_type is None else f"a model of the type {str(model_type)[:80]!r}"


def what_takes(folder: Path) -> str:
    """The sentence that says what takes the model in a folder, after a blank; empty if it is no known model."""
    from seed_hf.modeling.model_types_seed import described

    if not (folder / "config.json").is_file():
        return ""
    known = described(read_json(folder / "config.json").get("model_type"))
    return f" {known}" if known else ""


def language_models() -> dict[str, Any]:
    """The classes of language models with a visual vocabulary, by the `model_type` of their configurations."""
    from seed_hf.modeling.modeling_seed_text import LANGUAGE_MODELS

    return LANGUAGE_MODELS


def class_name_in(folder: Path, kind: str) -> str | None:
    """The dotted name of the class that loads a folder: of a language model, that of its family.

    Args:
        folder: Of an artifact.
        kind: Its kind.
    """
    if kind != "language_model":
        return KINDS[kind].cls
    cls = language_models()[read_json(folder / "config.json")["model_type"]]
    return f"{cls.__module__}.{cls.__name__}"


def kind_of_object(thing: Any) -> str | None:
    """The kind of folder that `save_pretrained` of an object writes; `None` for parts such as a processor."""
    return next((_BY_CLASS[cls.__name__] for cls in type(thing).__mro__ if cls.__name__ in _BY_CLASS), None)


def load_class(name: str | None) -> Any:
    """The class of a dotted name of the table. Its module is imported only now: most of them import torch."""
    assert name is not None, "Other libraries open this kind."
    module, _, cls = name.rpartition(".")
    return getattr(import_module(module), cls)
