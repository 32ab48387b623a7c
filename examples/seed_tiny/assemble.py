"""The last step of the recipe: the trained parts as the three folders of a bundled checkpoint.

Weights are stored as float16, each once, in shards of at most 14 MB; the configurations say float32, so that is what
they load as. `model/` and `pipeline/seed_model/` have an index that points to the shards of `tokenizer/` and `model/`.
"""

import argparse
import json
import logging
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderDC, DPMSolverMultistepScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextModel, PreTrainedTokenizerFast

from model import CODEBOOK, GUIDANCE, TEXT_LENGTH
from seed_hf.artifacts.known_words import KnownWords
from seed_hf.artifacts.origins import FIELD
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from seed_hf.modeling.modeling_seed import SeedForConditionalGeneration
from seed_hf.modeling.modeling_seed_text import SeedForCausalLM
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from seed_hf.modeling.processing_seed import SeedProcessor, extend_text_tokenizer
from seed_hf.pipelines.empty_prompt import EmptyPromptEmbedding
from seed_hf.pipelines.pipeline_seed_image import SeedImagePipeline
from vocabulary import some_texts
from world import world


PARTS = ("tokenizer", "model", "pipeline")
SHARD = 14_000_000
SURE = 0.9  # a caption that the model finds less likely than this is called a guess (measure_sureness.py)


def load_parts(work: Path) -> SeedImagePipeline:
    """The pipeline of all trained parts, with weights rounded to float16 as they are stored."""
    text_tokenizer = PreTrainedTokenizerFast.from_pretrained(work / "vocabulary")
    text_encoder = CLIPTextModel.from_pretrained(work / "teacher" / "text_encoder").eval()
    visual = SeedTokenizer.from_pretrained(work / "drawing" / "model")
    language = SeedForCausalLM.from_pretrained(work / "language" / "model")
    language.config.use_cache = True  # training turned it off, here and below
    model = SeedForConditionalGeneration.from_parts(visual, language).eval()
    model.generation_config.update(
        bos_token_id=text_tokenizer.bos_token_id,
        eos_token_id=text_tokenizer.eos_token_id,
        pad_token_id=text_tokenizer.pad_token_id,
        use_cache=True,
    )
    pipe = SeedImagePipeline(
        seed_model=model,
        unet=UNet2DConditionModel.from_pretrained(work / "drawing" / "unet").eval(),
        vae=AutoencoderDC.from_pretrained(work / "autoencoder" / "model").eval(),
        scheduler=DPMSolverMultistepScheduler.from_pretrained(work / "teacher" / "scheduler"),
        processor=SeedProcessor(
            image_processor=SeedImageProcessor.for_tokenizer(visual.config),
            tokenizer=extend_text_tokenizer(text_tokenizer, CODEBOOK),
        ),
        empty_prompt=EmptyPromptEmbedding.from_text_encoder(text_encoder, text_tokenizer, TEXT_LENGTH),
        guidance_scale=GUIDANCE,
    )
    for part in (model, pipe.unet, pipe.vae, pipe.empty_prompt):
        part.half().float()
    return pipe


def write_shards(folder: Path, stem: str, tensors: dict[str, torch.Tensor]) -> dict[str, str]:
    """Write float16 shards of at most `SHARD` bytes; returns which file holds which tensor."""
    parts, size = [{}], 0
    for name, tensor in tensors.items():
        tensor = tensor.detach().half().contiguous() if tensor.is_floating_point() else tensor.detach().contiguous()
        if size + tensor.nbytes > SHARD and parts[-1]:
            parts.append({})
            size = 0
        parts[-1][name] = tensor
        size += tensor.nbytes
    held = {}
    for number, part in enumerate(parts, 1):
        name = f"{stem}-{number:05d}-of-{len(parts):05d}.safetensors"
        save_file(part, folder / name, metadata={"format": "pt"})
        held.update({key: name for key in part})
    return held


def write_index(path: Path, held: dict[str, str]) -> None:
    index = {"metadata": {}, "weight_map": dict(sorted(held.items()))}
    path.write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def name_classes(folder: Path, pipe: SeedImagePipeline) -> None:
    """Let a saved pipeline name the package's classes, not those of the code beside it."""
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    index["_class_name"] = type(pipe).__name__
    for name in ("seed_model", "processor", "empty_prompt"):
        part = type(getattr(pipe, name))
        index[name] = [part.__module__, part.__name__]
    write_json(folder / "model_index.json", index)


def leave_code_out(folder: Path) -> None:
    """What is bundled with the package needs no copy of its code: no Python file, and no `auto_map` that names one."""
    for file in folder.rglob("*.py"):
        file.unlink()
    for file in folder.rglob("*.json"):
        content = json.loads(file.read_text(encoding="utf-8"))
        if (kept := without_auto_map(content)) != content:
            write_json(file, kept)


def without_auto_map(content):
    """The content of a JSON file without any field `auto_map`, at any depth."""
    if isinstance(content, list):
        return [without_auto_map(value) for value in content]
    if isinstance(content, dict):
        return {name: without_auto_map(value) for name, value in content.items() if name != "auto_map"}
    return content


def clean(config: Path) -> None:
    """Let the configuration, not the stored weights, say what a model loads as; forget the run's folders.

    Also name the checkpoint, whose licence and notices go along with what is made of it.
    """
    settings = json.loads(config.read_text(encoding="utf-8"))
    parts = [settings, *(value for value in settings.values() if isinstance(value, dict))]
    for part in parts:
        if part.get("model_type", "").startswith("seed_") or part.get("_class_name") == "EmptyPromptEmbedding":
            part[FIELD] = "seed-tiny"
    if "model_type" in settings:
        settings["dtype"] = "float32"
    for part in parts:
        part.pop("_name_or_path", None)
        if "dtype" in part:
            part["dtype"] = "float32"
    write_json(config, settings)


def save(pipe: SeedImagePipeline, known: KnownWords, out: Path) -> None:
    model, processor = pipe.seed_model, pipe.processor
    visual, language = model.visual_tokenizer, model.language_model
    for part in PARTS:
        shutil.rmtree(out / part, ignore_errors=True)
        (out / part).mkdir(parents=True)

    folder = out / "tokenizer"
    visual.config.architectures = ["SeedTokenizer"]
    visual.config.save_pretrained(folder)
    processor.save_pretrained(folder)
    prefixed = {f"visual_tokenizer.{name}": value for name, value in visual.state_dict().items()}
    visual_shards = write_shards(folder, "model", prefixed)
    write_index(folder / "model.safetensors.index.json", visual_shards)

    folder = out / "model"
    model.config.architectures = ["SeedForConditionalGeneration"]
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    processor.save_pretrained(folder)
    tied = "lm_head.weight"
    words = {f"language_model.{name}": value for name, value in language.state_dict().items() if name != tied}
    language_shards = write_shards(folder, "language_model", words)
    relative = {name: f"../tokenizer/{file}" for name, file in visual_shards.items()}
    write_index(folder / "model.safetensors.index.json", {**relative, **language_shards})

    folder = out / "pipeline"
    pipe.save_pretrained(folder)
    name_classes(folder, pipe)
    for file in (folder / "seed_model").glob("*.safetensors*"):
        file.unlink()
    relative = {name: f"../../tokenizer/{file}" for name, file in visual_shards.items()}
    relative.update({name: f"../../model/{file}" for name, file in language_shards.items()})
    write_index(folder / "seed_model" / "model.safetensors.index.json", relative)
    for name in ("unet", "vae", "empty_prompt"):
        for file in (folder / name).glob("*.safetensors*"):
            file.unlink()
        held = write_shards(folder / name, "diffusion_pytorch_model", getattr(pipe, name).state_dict())
        write_index(folder / name / "diffusion_pytorch_model.safetensors.index.json", held)
    for folder in (out / "model", out / "pipeline" / "processor"):
        known.save(folder)
    for part in PARTS:
        leave_code_out(out / part)
        for config in (out / part).rglob("config.json"):
            clean(config)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(argv)
    pipe = load_parts(arguments.work)
    save(pipe, KnownWords.of(world().things, some_texts(), SURE), arguments.out)
    total = sum(file.stat().st_size for file in arguments.out.rglob("*.safetensors"))
    logging.info("%s: %.1f MB of weights", arguments.out, total / 1e6)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
