"""Teacher stage: the image encoder, a small ViT.

It learns (a) the feature maps of a frozen EfficientNet-Lite0, position by position, and its pooled features, and
(b) to name its picture among all captions of the training set, each a frozen MiniLM vector behind one linear map.
Only the ViT is kept.
"""

import logging
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import nn
from torch.nn import functional as F
from transformers import Blip2VisionConfig, Blip2VisionModel

from loop import autocast, device, stage_arguments, train
from pixels import CLIP_MEAN, CLIP_STD, jitter_colours, load_pixels, normalise, random_affine, warp
from seed_hf.evaluation.reference_models import EFFICIENTNET_DIM, MINILM_DIM, load_minilm, minilm_features


STEPS, BATCH, RATE = 2300, 128, 1.5e-3
SIZE, PATCH, WIDTH, DEPTH, HEADS = 96, 12, 192, 6, 6
GRID = SIZE // PATCH
KEPT = 40  # of 64 patches; all of them in the last eighth of the run
MAP_DIM = 256


def build() -> Blip2VisionModel:
    config = Blip2VisionConfig(
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        image_size=SIZE,
        patch_size=PATCH,
        initializer_range=0.02,
    )
    model = Blip2VisionModel(config)
    nn.init.normal_(model.embeddings.position_embedding, std=0.02)
    nn.init.normal_(model.embeddings.class_embedding, std=0.02)
    return model


class Student(nn.Module):
    """The ViT with the heads that its lessons need."""

    def __init__(self):
        super().__init__()
        self.vision = build()
        self.map_head = nn.Linear(WIDTH, MAP_DIM)
        self.pooled_head = nn.Linear(WIDTH, EFFICIENTNET_DIM)
        self.caption_head = nn.Sequential(nn.Linear(WIDTH, 384), nn.GELU(), nn.Linear(384, 256))
        self.text_head = nn.Linear(MINILM_DIM, 256)
        self.temperature = nn.Parameter(torch.tensor(0.07).log())

    def forward(self, pixels: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Patch features `(batch, kept or 64, width)`; `kept` holds, per picture, the patches to look at."""
        hidden = self.vision.embeddings(pixels)
        if kept is not None:
            patches = hidden[:, 1:].gather(1, kept[..., None].expand(-1, -1, WIDTH))
            hidden = torch.cat([hidden[:, :1], patches], 1)
        hidden = self.vision.encoder(inputs_embeds=hidden).last_hidden_state
        return self.vision.post_layernorm(hidden)[:, 1:]

    def caption_logits(self, patches: torch.Tensor, sentences: torch.Tensor) -> torch.Tensor:
        image = F.normalize(self.caption_head(patches.mean(1)).float(), dim=-1)
        text = F.normalize(self.text_head(sentences).float(), dim=-1)
        return image @ text.T / self.temperature.exp()


def captions_of(data: Path, split: str) -> list[str]:
    return pq.read_table(data / f"{split}.parquet", columns=["caption"])["caption"].to_pylist()


def main(argv: list[str] | None = None) -> None:
    arguments = stage_arguments(__doc__, argv, steps=STEPS)
    out, features = arguments.work / "vision", arguments.work / "features"
    if (out / "model").exists():
        return
    where = device()
    pixels = load_pixels(arguments.data, "train", SIZE, features)
    maps = np.load(features / "train.maps.npy", mmap_mode="r")
    pooled = torch.from_numpy(np.load(features / "train.effnet.npy").astype(np.float32))
    pooled = (pooled - pooled.mean(0)) / (pooled.std(0) + 1e-3)
    map_scale = float(np.asarray(maps[:512], np.float32).std())
    captions = captions_of(arguments.data, "train")
    distinct = sorted(set(captions))
    label = torch.tensor([distinct.index(c) for c in captions])
    minilm = load_minilm()
    sentences = minilm_features(minilm, distinct).to(where)

    known_pixels = normalise(load_pixels(arguments.data, "validation", SIZE, features))
    known_captions = captions_of(arguments.data, "validation")
    known_distinct = sorted(set(known_captions))
    known_label = torch.tensor([known_distinct.index(c) for c in known_captions])
    known_sentences = minilm_features(minilm, known_distinct).to(where)

    torch.manual_seed(0)
    model = Student().to(where)
    white = ((1 - CLIP_MEAN) / CLIP_STD)[:, None, None]

    def loss_of(step: int) -> dict[str, torch.Tensor]:
        picked = torch.randint(len(pixels), (BATCH,))
        # Strong changes at first; most of the run is gentle, or the pictures are not learned in so few epochs.
        strong = step < 800
        strength = 1.0 if strong else 0.4
        theta = random_affine(BATCH, strength)
        images = jitter_colours(warp(pixels[picked].float() / 255, theta, 1.0), strength)
        images = (images - CLIP_MEAN[:, None, None]) / CLIP_STD[:, None, None]
        if strong and step % 2:  # rub out a random square in half of the batches
            side = int(torch.randint(12, 40, ()))
            top, left = (int(torch.randint(0, SIZE - side, ())) for _ in range(2))
            images[:, :, top : top + side, left : left + side] = white
        target = torch.from_numpy(np.asarray(maps[picked.sort().values.numpy()], np.float32) / map_scale)
        target = target[picked.argsort().argsort()]
        grid = F.affine_grid(theta, (BATCH, MAP_DIM, GRID, GRID), align_corners=False)
        target = F.grid_sample(target, grid, align_corners=False, padding_mode="border").flatten(2).transpose(1, 2)
        inside = (grid.abs() <= 1).all(-1).flatten(1).float()
        kept = None
        if step < 0.88 * arguments.steps:
            kept = torch.rand(BATCH, GRID * GRID).argsort(1)[:, :KEPT]
            target = target.gather(1, kept[..., None].expand(-1, -1, MAP_DIM))
            inside = inside.gather(1, kept)
            kept = kept.to(where)
        with autocast():
            patches = model(images.to(where), kept)
            maps_loss = F.smooth_l1_loss(model.map_head(patches).float(), target.to(where), reduction="none").mean(-1)
            pooled_guess = model.pooled_head(patches.mean(1)).float()
        logits = model.caption_logits(patches.float(), sentences)  # cosines over a small temperature: not in bf16
        maps_loss = (maps_loss * inside.to(where)).sum() / inside.sum()
        pooled_loss = F.smooth_l1_loss(pooled_guess, pooled[picked].to(where))
        caption_loss = F.cross_entropy(logits, label[picked].to(where), label_smoothing=0.1)
        right = (logits.argmax(1).cpu() == label[picked]).float().mean()
        return {
            "loss": caption_loss + (4 if strong else 1) * maps_loss + (2 if strong else 1) * pooled_loss,
            "caption": caption_loss,
            "maps": maps_loss,
            "pooled": pooled_loss,
            "right": right,
        }

    @torch.no_grad()
    def evaluate() -> dict[str, float]:
        logits = torch.cat([model.caption_logits(model(p.to(where)), known_sentences) for p in known_pixels.split(64)])
        rank = (logits > logits.gather(1, known_label[:, None].to(where))).sum(1)
        return {f"validation TR@{k}": round((rank < k).float().mean().item(), 4) for k in (1, 5, 10)}

    train(
        model,
        loss_of,
        out=out,
        steps=arguments.steps,
        learning_rate=RATE,
        weight_decay=0.05,
        muon=True,
        warmup=150,
        average=0.998,
        evaluate=evaluate,
        evaluate_every=200,
    )
    logging.info("average weights: %s", evaluate())
    model.vision.save_pretrained(out / "model")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
