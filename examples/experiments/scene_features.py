"""Scenes, their texts, and what the frozen ViT sees in them, computed once for all runs."""

import os
from concurrent.futures import Executor
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import Blip2VisionModel, PreTrainedTokenizerFast

from seed_hf.devices import usable_device
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from seed_hf.pictograms.scene_sprites import Sprite, load_sprites
from seed_hf.pictograms.scene_texts import caption, full_description, plural
from seed_hf.pictograms.scenes import Scene, World, paint
from setting import Place, Scale


SEEDS = {"train": 61, "test": 62}
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
PROMPTS = "generate an image a photo of"
PAINTED_AT_ONCE = 500


@cache
def world() -> World:
    return World()


@cache
def sprites(folder: Path) -> dict[str, Sprite]:
    return load_sprites(folder, world().things.values())


@cache
def scenes(name: str, number: int) -> list[Scene]:
    """The first scenes of a set, "train" or "test"."""
    return [world().draw(name, SEEDS[name], index) for index in range(number)]


def painted(folder: Path, name: str, start: int, stop: int, pixels: int) -> np.ndarray:
    """`(stop - start, pixels, pixels, 3)` uint8."""
    drawings = sprites(folder)
    found = (world().draw(name, SEEDS[name], index) for index in range(start, stop))
    return np.stack([paint(scene, drawings, pixels) for scene in found])


def vision_file(work: Path) -> Path:
    return work / "vision.npy"


def vision_features(work: Path, size: Scale) -> dict[str, np.ndarray]:
    """What the ViT sees, `(scenes, patches + 1, width)` float16 of each set, mapped from the file."""
    both = np.load(vision_file(work), mmap_mode="r")
    return {"train": both[: size.scenes], "test": both[size.scenes :]}


def prepare(place: Place, workers: Executor) -> None:
    """Paint all scenes and run the ViT over them."""
    path = vision_file(place.work)
    if path.exists():
        return
    vit = Blip2VisionModel.from_pretrained(place.vit).to(usable_device()).eval()
    side = vit.config.image_size
    processor = SeedImageProcessor()
    mean, std = (
        torch.tensor(of, device=vit.device)[:, None, None] for of in (processor.image_mean, processor.image_std)
    )
    parts = [
        (name, start, min(start + PAINTED_AT_ONCE, number))
        for name, number in (("train", place.size.scenes), ("test", place.size.tested))
        for start in range(0, number, PAINTED_AT_ONCE)
    ]
    names, starts, stops = zip(*parts)
    rows = place.size.scenes + place.size.tested
    patches = (side // vit.config.patch_size) ** 2 + 1
    partial = path.with_name("partial.npy")
    found = open_memmap(partial, "w+", np.float16, (rows, patches, vit.config.hidden_size))
    done = 0
    many = len(parts)
    for images in workers.map(painted, [place.pictograms] * many, names, starts, stops, [side] * many):
        for some in torch.from_numpy(images).split(128):
            values = (some.to(vit.device).permute(0, 3, 1, 2).float() / 255 - mean) / std
            with torch.no_grad():
                seen = vit(values).last_hidden_state
            found[done : done + len(some)] = seen.half().cpu().numpy()
            done += len(some)
    found.flush()
    os.replace(partial, path)


@cache
def word_tokenizer() -> PreTrainedTokenizerFast:
    """A token for every word of the small world."""
    said = [text for scene in scenes("train", 2000) for text in (caption(scene), full_description(scene))]
    names = [text for thing in world().things for text in (thing, plural(thing))]
    words = sorted({word for text in [*said, *names, PROMPTS] for word in text.lower().split()})
    entries = {word: index for index, word in enumerate([*SPECIAL, *words])}
    tokenizer = Tokenizer(models.WordLevel(entries, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    framed = [(token, entries[token]) for token in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=framed)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=128,
    )
