"""Teacher stage: the image encoder, a small ViT.

It learns (a) the feature maps of a frozen EfficientNet-Lite0, position by position, and its pooled features, and
(b) to name its picture among all captions of the training set, each a frozen MiniLM vector behind one linear map.
Only the ViT is kept.
"""

import logging
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers import Blip2VisionModel

from features import MAP_DIM, rows_of, sentence_vectors
from loop import autocast, device, stage_arguments, train
from model import tokenizer_config
from pixels import load_pixels, normalise, random_affine, random_view
from seed_hf.evaluation.reference_models import EFFICIENTNET_DIM, MINILM_DIM


STEPS, BATCH, RATE = 3400, 256, 1.5e-3


def build() -> Blip2VisionModel:
    model = Blip2VisionModel._from_config(tokenizer_config(vocabulary=4096).vision_config)
    nn.init.normal_(model.embeddings.position_embedding, std=0.02)
    nn.init.normal_(model.embeddings.class_embedding, std=0.02)
    return model


class Student(nn.Module):
    """The ViT with the heads that its lessons need."""

    def __init__(self):
        super().__init__()
        self.vision = build()
        width = self.vision.config.hidden_size
        self.map_head = nn.Linear(width, MAP_DIM)
        self.pooled_head = nn.Linear(width, EFFICIENTNET_DIM)
        self.caption_head = nn.Sequential(nn.Linear(width, 384), nn.GELU(), nn.Linear(384, 256))
        self.text_head = nn.Linear(MINILM_DIM, 256)
        self.temperature = nn.Parameter(torch.tensor(0.07).log())

    def forward(self, pixels: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Patch features `(batch, kept or all, width)`; `kept` holds, per picture, the patches to look at."""
        hidden = self.vision.embeddings(pixels)
        if kept is not None:
            patches = hidden[:, 1:].gather(1, kept[..., None].expand(-1, -1, hidden.shape[-1]))
            hidden = torch.cat([hidden[:, :1], patches], 1)
        hidden = self.vision.encoder(inputs_embeds=hidden).last_hidden_state
        return self.vision.post_layernorm(hidden)[:, 1:]

    def caption_logits(self, patches: torch.Tensor, sentences: torch.Tensor) -> torch.Tensor:
        image = F.normalize(self.caption_head(patches.mean(1)).float(), dim=-1)
        text = F.normalize(self.text_head(sentences).float(), dim=-1)
        return image @ text.T / self.temperature.exp()


def labelled(data: Path, work: Path, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """(which of the split's distinct captions each picture has, MiniLM's vectors of these captions)"""
    captions = [row["caption"].lower() for row in rows_of(data, split)]
    distinct = sorted(set(captions))
    place = {caption: number for number, caption in enumerate(distinct)}
    labels = torch.tensor([place[caption] for caption in captions])
    return labels.to(device()), sentence_vectors(work, distinct).to(device())


class Lessons:
    """What EfficientNet makes of the training pictures."""

    def __init__(self, features: Path, grid: int):
        self.maps = np.load(features / "maps.npy", mmap_mode="r")
        self.scale = float(np.asarray(self.maps[:512], np.float32).std())
        pooled = torch.from_numpy(np.load(features / "effnet.npy").astype(np.float32))
        self.pooled = ((pooled - pooled.mean(0)) / (pooled.std(0) + 1e-3)).to(device())
        self.grid = grid

    def moved_maps(self, rows: torch.Tensor, theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(maps `(batch, grid * grid, 256)` as the moved pictures would have them, which positions lie inside)"""
        maps = np.asarray(self.maps[rows.cpu().numpy()], np.float32) / self.scale
        grid = F.affine_grid(theta, (len(rows), MAP_DIM, self.grid, self.grid), align_corners=False)
        maps = torch.from_numpy(maps).to(theta.device)
        moved = F.grid_sample(maps, grid, align_corners=False, padding_mode="border").flatten(2).transpose(1, 2)
        return moved, (grid.abs() <= 1).all(-1).flatten(1).float()


def erase_square(images: torch.Tensor) -> torch.Tensor:
    """Make one random square white, the same in the whole batch."""
    size = images.shape[-1]
    side = int(torch.randint(size // 8, size * 2 // 5, ()))
    top, left = (int(torch.randint(0, size - side, ())) for _ in range(2))
    images[:, :, top : top + side, left : left + side] = normalise(torch.ones(3, 1, 1, device=images.device))
    return images


def kept_patches(progress: float, patches: int) -> int:
    """How many patches of a picture the ViT sees: few are learned from faster, all are what it will be used on."""
    if progress < 0.65:
        return patches * 3 // 8
    return patches * 5 // 8 if progress < 0.9 else patches


def main(argv: list[str] | None = None) -> None:
    arguments = stage_arguments(__doc__, argv, steps=STEPS)
    out = arguments.work / "vision"
    if (out / "model").exists():
        return
    where = device()
    torch.manual_seed(0)
    model = Student().to(where)
    size, patch = model.vision.config.image_size, model.vision.config.patch_size
    lessons = Lessons(arguments.work / "features", size // patch)
    pixels = load_pixels(arguments.data, "train", size).to(where)
    labels, sentences = labelled(arguments.data, arguments.work, "train")
    known = normalise(load_pixels(arguments.data, "validation", size).to(where) / 255)
    known_labels, known_sentences = labelled(arguments.data, arguments.work, "validation")

    def loss_of(step: int) -> dict[str, torch.Tensor]:
        picked = torch.randint(len(pixels), (BATCH,), device=where)
        progress = step / arguments.steps
        strength = 0.8 if progress < 0.5 else 0.4
        theta = random_affine(BATCH, where, strength)
        images = random_view(pixels[picked], theta, strength)
        if progress < 0.5 and step % 2:
            images = erase_square(images)
        maps, inside = lessons.moved_maps(picked, theta)
        kept = None
        if (count := kept_patches(progress, maps.shape[1])) < maps.shape[1]:
            kept = torch.rand(inside.shape, device=where).argsort(1)[:, :count]
            maps = maps.gather(1, kept[..., None].expand(-1, -1, MAP_DIM))
            inside = inside.gather(1, kept)
        with autocast():
            patches = model(images, kept)
            maps_loss = F.smooth_l1_loss(model.map_head(patches).float(), maps, reduction="none").mean(-1)
            pooled_guess = model.pooled_head(patches.mean(1)).float()
        logits = model.caption_logits(patches.float(), sentences)  # cosines over a small temperature: not in bf16
        maps_loss = (maps_loss * inside).sum() / inside.sum()
        pooled_loss = F.smooth_l1_loss(pooled_guess, lessons.pooled[picked])
        caption_loss = F.cross_entropy(logits, labels[picked], label_smoothing=0.1)
        return {
            "loss": caption_loss + 2 * maps_loss + 2 * pooled_loss,
            "caption": caption_loss,
            "maps": maps_loss,
            "pooled": pooled_loss,
            "right": (logits.argmax(1) == labels[picked]).float().mean(),
        }

    @torch.no_grad()
    def evaluate() -> dict[str, float]:
        logits = torch.cat([model.caption_logits(model(part), known_sentences) for part in known.split(64)])
        rank = (logits > logits.gather(1, known_labels[:, None])).sum(1)
        return {f"validation TR@{k}": round((rank < k).float().mean().item(), 4) for k in (1, 5, 10)}

    train(
        model,
        loss_of,
        out=out,
        steps=arguments.steps,
        learning_rate=RATE,
        weight_decay=0.05,
        muon=True,
        warmup=100,
        average=0.998,
        evaluate=evaluate,
        evaluate_every=200,
    )
    logging.info("average weights: %s", evaluate())
    model.vision.save_pretrained(out / "model")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
