"""Teacher stage: what BLIP-2 is to SEED: on the frozen ViT, a Q-Former whose 32 queries say different things.

It learns on scenes and their full descriptions:

- contrast of the last embedding with the description, as in stage I;
- a small decoder, which is left behind, writes the description from the 32 embeddings;
- the embeddings of an image, each less the mean of its place, are kept apart (`alike`): without that they all say the
  same, and so do the codes later.

It goes on from `vision/begin`, a tokenizer in `model` and the decoder, if it is there.
"""

import logging

import torch
from torch import nn
from torch.nn import functional as F
from transformers.models.blip_2.modeling_blip_2 import Blip2VisionModel

from features import Shards
from loop import autocast, device, stage_arguments, train
from model import TEXT_LENGTH, WIDTH, tokenizer_config
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from vocabulary import encode_texts, load_vocabulary
from world import captions, scenes, some_of, two_twice


STEPS, BATCH, RATE = 6000, 128, 1e-3
FULL = 0.7  # share of images with the full description; the others have a wording with less in it
APART = 0.3


class Captioner(nn.Module):
    """Writes texts from embeddings, `(batch, places, width)`.

    Args:
        vocabulary: how many tokens there are.
        width: of the embeddings.
        heads: of its two layers.
        normed: whether the embeddings are normalised before they are read.
    """

    def __init__(self, vocabulary: int, width: int = WIDTH, heads: int = 6, normed: bool = True):
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.places = nn.Parameter(0.02 * torch.randn(TEXT_LENGTH, width))
        nn.init.normal_(self.words.weight, std=0.02)
        self.norm = nn.LayerNorm(width) if normed else nn.Identity()
        self.layers = nn.ModuleList(
            nn.TransformerDecoderLayer(width, heads, 2 * width, 0.0, F.gelu, batch_first=True, norm_first=True)
            for _ in range(2)
        )
        self.last = nn.LayerNorm(width)

    def forward(self, embeddings: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Logits of the next word, `(batch, length, vocabulary)`."""
        mask = nn.Transformer.generate_square_subsequent_mask(ids.shape[1], device=ids.device)
        hidden, seen = self.words(ids) + self.places[: ids.shape[1]], self.norm(embeddings)
        for layer in self.layers:
            hidden = layer(hidden, seen, tgt_mask=mask, tgt_is_causal=True)
        return self.last(hidden) @ self.words.weight.T


def caption_loss(logits: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of the next words of `(batch, length)` texts, and the share of them that is likeliest."""
    words = ids[:, 1:].where(mask[:, 1:].bool(), -100)
    loss = F.cross_entropy(logits.float().flatten(0, 1), words.flatten())
    return loss, (logits.argmax(-1) == words).sum() / (words >= 0).sum()


class Seer(nn.Module):
    def __init__(self, vocabulary: int):
        super().__init__()
        self.model = SeedTokenizer(tokenizer_config(vocabulary))
        self.captioner = Captioner(vocabulary)


def alike(embeddings: torch.Tensor) -> torch.Tensor:
    """Mean squared cosine between the places of an image, each less its mean over the batch."""
    content = F.normalize(embeddings.float() - embeddings.float().mean(0), dim=-1)
    cosines = content @ content.transpose(1, 2)
    places = cosines.shape[-1]
    return (cosines.pow(2).sum((1, 2)) - places).mean() / max(1, places * (places - 1))


def main(argv: list[str] | None = None) -> None:
    arguments = stage_arguments(__doc__, argv, minutes=True, steps=STEPS)
    out = arguments.work / "vision"
    if (out / "model").exists():
        return
    tokenizer, seen = load_vocabulary(arguments.work), Shards(arguments.work / "features" / "train")
    torch.manual_seed(0)
    seer = Seer(len(tokenizer))
    if (begin := out / "begin").exists():
        seer.model = SeedTokenizer.from_pretrained(begin / "model")
        seer.captioner.load_state_dict(torch.load(begin / "captioner.pt", map_location="cpu", weights_only=True))
    vit = Blip2VisionModel.from_pretrained(arguments.work / "seeing" / "model")
    seer.model.vision_model.load_state_dict(vit.state_dict())
    seer.model.vision_model.requires_grad_(False)
    seer.to(device())
    order = two_twice(len(seen))

    def batch_of(step: int) -> dict[str, torch.Tensor]:
        rows = some_of(order, BATCH)
        found = [scene for row in rows for scene in scenes("language", row, 1)]
        ids, mask = encode_texts(tokenizer, captions(found, "vision", step * BATCH, FULL))
        return {"seen": seen.batch(rows), "ids": ids, "mask": mask}

    def loss_of(batch: dict[str, torch.Tensor], done: float) -> dict[str, torch.Tensor]:
        ids, mask = batch["ids"], batch["mask"]
        with autocast():
            embeddings = seer.model.get_causal_embeddings(vision_embeddings=batch["seen"].float())
            contrast = seer.model._contrastive(embeddings, ids, mask, None)
            logits = seer.captioner(embeddings, ids[:, :-1])
        caption, words = caption_loss(logits, ids, mask)
        spread = alike(embeddings)
        named = (contrast.logits_per_image.argmax(1) == torch.arange(len(ids), device=ids.device)).float().mean()
        loss = contrast.loss.float() + caption + APART * spread
        losses = {"contrast": contrast.loss, "caption": caption, "alike": spread, "words": words, "named": named}
        return {"loss": loss, **losses}

    train(seer, batch_of, loss_of, out=out, steps=arguments.steps, minutes=arguments.minutes, learning_rate=RATE,
          weight_decay=0.05, warmup=60)  # fmt: skip
    seer.model.save_pretrained(out / "model")
    torch.save(seer.captioner.cpu().state_dict(), out / "captioner.pt")


@torch.no_grad()
def describe(seer: Seer, tokenizer, embeddings: torch.Tensor) -> list[str]:
    """What the decoder writes, greedily, of `(batch, places, width)` embeddings."""
    ids = torch.full((len(embeddings), 1), tokenizer.bos_token_id)
    for _ in range(TEXT_LENGTH - 1):
        ids = torch.cat([ids, seer.captioner(embeddings, ids)[:, -1:].argmax(-1)], 1)
    return [text.split("</s>")[0].replace("<s>", "").strip() for text in tokenizer.batch_decode(ids)]


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
