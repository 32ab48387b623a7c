"""Teacher stage: the ViT learns to name what stands where, as EVA-CLIP's did before BLIP-2 took it.

The features of the patches of each thing, averaged, are asked for the thing, its colour and its style, and are pulled
to what EfficientNet-Lite0 sees in the drawing on its own, in its own colours. Each patch also tells its row and
column: what is asked of boxes does not need them, and without them no query can find the left one of two things. When
the ViT knows the drawings, they are restyled at random. Beside the scenes it looks at views of all drawings of the
training split, without names, and learns to see in each what EfficientNet sees in the very same one: that is how it
learns to know a thing in art that it has not seen. The heads that answer are left behind; the ViT is frozen from here
on.
"""

import logging
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers.models.blip_2.modeling_blip_2 import Blip2VisionModel

from drawings import DIRECTIONS, SIDE, Reference
from loop import autocast, device, stage_arguments, train
from model import WIDTH, tokenizer_config
from pixels import changed_images, normalise, restyled_images
from seed_hf.pictograms.scene_colours import COLOURS
from seed_hf.pictograms.scene_things import STYLES
from seed_hf.pictograms.scenes import Scene
from views import VIEWS, block_of_views, seen_views
from world import images, normalised_images, scenes, world


STEPS, BATCH, RATE = 12_000, 128, 1e-3
EASY = 0.25  # share of the run before drawings are restyled: harder from the start, little is learned for long
BLOCKS = 2000  # of views: a step looks at one block
SEEN = 0.5  # share of the patches, those with most ink, that the ViT sees before the last quarter of the stage
THINGS = sorted(world().things)
TONES = [*COLOURS, None]  # None: as drawn
LOOKS = list(STYLES)
MOST = 4  # things in a scene
WHOLE = (0.5, 0.5, 1.0)  # the square around all of an image


class Namer(nn.Module):
    """The ViT, and the heads that are left behind."""

    def __init__(self):
        super().__init__()
        self.vit = Blip2VisionModel(tokenizer_config(8).vision_config)
        nn.init.normal_(self.vit.embeddings.position_embedding, std=0.02)
        nn.init.normal_(self.vit.embeddings.class_embedding, std=0.02)
        self.heads = nn.ModuleDict(
            {
                "thing": nn.Linear(WIDTH, len(THINGS)),
                "colour": nn.Linear(WIDTH, len(TONES)),
                "style": nn.Linear(WIDTH, len(LOOKS)),
                "reference": nn.Linear(WIDTH, DIRECTIONS),
                "view": nn.Linear(WIDTH, DIRECTIONS),
            }
        )
        self.place = nn.Linear(WIDTH, 2 * (SIDE // self.vit.config.patch_size))

    def look(self, pixels: torch.Tensor, patches: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(features of the `patches` patches with most ink, `(batch, patches, width)`, the numbers of these)"""
        hidden = self.vit.embeddings(pixels)
        size = self.vit.config.patch_size
        ink = F.avg_pool2d(pixels.mean(1, keepdim=True), size).flatten(1)  # white is the most there is
        kept = (ink + 0.05 * torch.rand_like(ink)).argsort(1)[:, :patches]
        if patches < hidden.shape[1] - 1:
            some = hidden[:, 1:].gather(1, kept[..., None].expand(-1, -1, hidden.shape[-1]))
            hidden = torch.cat([hidden[:, :1], some], 1)
        else:
            kept = torch.arange(patches, device=pixels.device).expand(len(pixels), -1)
        return self.vit.post_layernorm(self.vit.encoder(inputs_embeds=hidden).last_hidden_state)[:, 1:], kept

    def forward(self, pixels: torch.Tensor, boxes: torch.Tensor, patches: int) -> dict[str, torch.Tensor]:
        """Answers `(batch, 4, ...)` about what is in the boxes `(batch, 4, grid * grid)`, shares of patches.

        And under `"place"` the loss of the patches' rows and columns.
        """
        features, kept = self.look(pixels, patches)
        shares = boxes.gather(2, kept[:, None].expand(-1, MOST, -1)) + 1e-6
        pooled = (shares / shares.sum(-1, keepdim=True)) @ features
        places = self.place(features).float().unflatten(-1, (2, -1)).movedim(-1, 1)
        true = torch.stack([kept // places.shape[1], kept % places.shape[1]], -1)
        return {"place": F.cross_entropy(places, true), **{name: head(pooled) for name, head in self.heads.items()}}


def boxes_of(squares: list[list[tuple[float, float, float]]], grid: int) -> torch.Tensor:
    """How much of each patch lies in each square, `(images, 4, grid * grid)`; zero where there is none.

    Args:
        squares: of each image up to four centres (x, y) and sides, as shares of the image's side.
        grid: patches along a side.
    """
    edges = np.arange(grid) / grid
    boxes = np.zeros((len(squares), MOST, grid, grid), np.float32)
    for row, around in enumerate(squares):
        for number, (x, y, size) in enumerate(around):
            across, down = (
                np.clip(np.minimum(edges + 1 / grid, middle + size / 2) - np.maximum(edges, middle - size / 2), 0, 1)
                for middle in (x, y)
            )
            boxes[row, number] = np.outer(down, across) * grid * grid
    return torch.from_numpy(boxes).flatten(2)


def labels_of(found: list[Scene]) -> dict[str, torch.Tensor]:
    """Numbers of thing, colour and style, `(scenes, 4)`; -100 where there is none."""
    labels = {name: torch.full((len(found), MOST), -100) for name in ("thing", "colour", "style")}
    for row, scene in enumerate(found):
        for number, item in enumerate(scene.items):
            labels["thing"][row, number] = THINGS.index(item.thing)
            labels["colour"][row, number] = TONES.index(item.colour)
            labels["style"][row, number] = LOOKS.index(scene.style) if scene.style in LOOKS else -100
    return labels


def main(argv: list[str] | None = None) -> None:
    arguments = stage_arguments(__doc__, argv, minutes=True, steps=STEPS, blocks=BLOCKS)
    out = arguments.work / "seeing"
    if (out / "model").exists():
        return
    out.mkdir(parents=True, exist_ok=True)
    reference = Reference(out, arguments.data)
    seen = seen_views(out / "views", arguments.data, reference, arguments.blocks)
    torch.manual_seed(0)
    namer = Namer().to(device())
    grid = SIDE // namer.vit.config.patch_size

    def batch_of(step: int) -> dict[str, torch.Tensor]:
        found, block = scenes("vision", step * BATCH, BATCH), step % arguments.blocks
        squares = [[(item.x, item.y, item.size) for item in scene.items] for scene in found]
        there = torch.tensor([[number < len(square) for number in range(MOST)] for square in squares])
        wanted = torch.zeros(*there.shape, DIRECTIONS)
        wanted[there] = torch.stack([reference.alone[item.art] for scene in found for item in scene.items])
        return {
            "pixels": images(found, arguments.data, SIDE, mirror=np.random.default_rng(step)),
            "views": block_of_views(arguments.data, block),
            "seen": torch.from_numpy(seen[block].astype(np.float32)),
            "boxes": boxes_of(squares + [[WHOLE]] * VIEWS, grid),
            "there": there,
            "reference": wanted,
            **labels_of(found),
        }

    def loss_of(batch: dict[str, torch.Tensor], done: float) -> dict[str, torch.Tensor]:
        pixels = batch["pixels"].float() / 255
        labels = {name: batch[name] for name in ("thing", "colour", "style")}
        if done >= EASY:
            pixels, coloured, styled = restyled_images(pixels)
            labels["colour"] = labels["colour"].masked_fill(~coloured[:, None], -100)
            labels["style"] = labels["style"].masked_fill(~styled[:, None], -100)
        else:
            pixels = changed_images(pixels)
        patches = grid * grid if done > 0.75 else int(SEEN * grid * grid)
        with autocast():
            answers = namer(normalise(torch.cat([pixels, batch["views"]])), batch["boxes"], patches)
        losses, right = {}, {}
        for name, wanted in labels.items():
            given = answers[name][:BATCH].float()
            losses[name] = F.cross_entropy(given.flatten(0, 1), wanted.flatten(), label_smoothing=0.05)
            right[f"{name} right"] = (given.argmax(-1) == wanted).sum() / (wanted >= 0).sum()
        alike = F.cosine_similarity(answers["reference"][:BATCH].float(), batch["reference"], dim=-1)
        losses["reference"] = 1 - (alike * batch["there"]).sum() / batch["there"].sum()
        losses["view"] = 1 - F.cosine_similarity(answers["view"][BATCH:, 0].float(), batch["seen"], dim=-1).mean()
        losses["place"] = answers["place"]
        total = losses["thing"] + losses["colour"] + 0.3 * losses["style"] + 0.1 * losses["place"]
        total = total + 3 * losses["reference"] + 3 * losses["view"]
        return {"loss": total, **losses, **right}

    train(namer, batch_of, loss_of, out=out, steps=arguments.steps, minutes=arguments.minutes, learning_rate=RATE,
          weight_decay=0.05, warmup=60)  # fmt: skip
    namer.vit.save_pretrained(out / "model")


@torch.no_grad()
def measure(work: Path, data: Path, count: int = 500) -> dict[str, dict[str, float]]:
    """How often thing and colour of an item are right, on each set (average weights)."""
    namer = Namer().eval()
    state = torch.load(work / "seeing" / "state.pt", weights_only=True, map_location="cpu")
    namer.load_state_dict(state["shadow"])
    grid, result = SIDE // namer.vit.config.patch_size, {"step": state["step"]}
    for name in ("test", "test_colour", "test_pair", "test_art", "test_style"):
        found = scenes("vision", 10**9, count, name)
        pixels = normalised_images(found, data, SIDE)
        squares = [[(item.x, item.y, item.size) for item in scene.items] for scene in found]
        answers, labels = namer(pixels, boxes_of(squares, grid), grid * grid), labels_of(found)
        result[name] = {
            key: round((answers[key].argmax(-1) == labels[key])[labels[key] >= 0].float().mean().item(), 3)
            for key in ("thing", "colour")
        }
    return result


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
