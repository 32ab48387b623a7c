"""The UNet learns to draw what the language model says.

The paper leaves the UNet as it is: the generation embeddings of codes are near enough to the text features that Stable
Diffusion was trained on. At the size of seed-tiny they are not, so here the UNet goes on learning, from the generation
embeddings of codes. The tokenizer and the language model stay as they are.
"""

import logging
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextModel, PreTrainedTokenizerFast

from diffusion import denoising_loss, encode_captions, scheduler, training_latents
from lessons import Lessons
from loop import device, stage_arguments, train
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer


STEPS, BATCH, RATE = 5000, 192, 1.5e-3
NOTHING = 0.08  # how often a picture is drawn from the empty text, for guidance


@torch.no_grad()
def embed(work: Path, codes: torch.Tensor) -> torch.Tensor:
    """Generation embeddings `(rows, 24, 192)` of codes, float16."""
    visual = SeedTokenizer.from_pretrained(work / "memory" / "model").to(device()).eval()
    return torch.cat([visual.decode(part).half() for part in codes.split(256)])


def embed_nothing(work: Path) -> torch.Tensor:
    """Text features `(24, 192)` of the empty text."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(work / "text" / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(work / "text" / "text_encoder").to(device()).eval()
    return encode_captions(encoder, tokenizer, [""])[0].to(device()).float()


def main(argv: list[str] | None = None) -> None:
    arguments = stage_arguments(__doc__, argv, steps=STEPS)
    work, out = arguments.work, arguments.work / "drawing"
    if (out / "unet").exists():
        return
    latents = training_latents(arguments.data, work)
    lessons = Lessons(arguments.data, work)
    embeddings, nothing = embed(work, lessons.codes), embed_nothing(work)
    torch.manual_seed(0)
    unet = UNet2DConditionModel.from_pretrained(work / "diffusion" / "unet").to(device())

    def loss_of(step: int) -> dict[str, torch.Tensor]:
        places, picked = lessons.draw(BATCH)
        empty = torch.rand(BATCH, 1, 1, device=latents.device) < NOTHING
        condition = embeddings[places].float().where(~empty, nothing)
        return {"loss": denoising_loss(unet, latents[picked], condition)}

    train(
        unet,
        loss_of,
        out=out,
        steps=arguments.steps,
        learning_rate=RATE,
        weight_decay=0.0,
        muon=True,
        warmup=100,
        average=0.998,
        log_every=100,
    )
    scheduler().save_pretrained(out / "scheduler")
    unet.save_pretrained(out / "unet")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
