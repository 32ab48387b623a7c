"""The UNet and the Reverse Q-Former learn together to draw the training pictures from their codes.

The paper leaves the UNet as it is, and so the Reverse Q-Former can only pass on what a caption could say. At the size
of seed-tiny that is too little to draw from: here the denoising loss reaches the Reverse Q-Former, and the UNet goes
on learning. The loss of stage II stays, with a small weight, so that the generation embeddings remain near the text
features. The codes, and all that makes or reads them otherwise, are not touched.
"""

import logging

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, PreTrainedTokenizerFast

from diffusion import denoising_loss, encode_captions, scheduler, training_latents
from features import rows_of
from loop import autocast, device, stage_arguments, train
from seed_hf.data.dataset import full_description
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer


STEPS, BATCH, RATE = 4000, 128, 4e-4
NOTHING = 0.1  # how often a picture is drawn from the empty text, for guidance
ALIGNMENT = 0.1  # weight of the loss of stage II


class Drawer(nn.Module):
    """What is trained: from code vectors to noise."""

    def __init__(self, visual: SeedTokenizer, unet: UNet2DConditionModel):
        super().__init__()
        self.generation_decoder, self.unet = visual.generation_decoder, unet


def main(argv: list[str] | None = None) -> None:
    arguments = stage_arguments(__doc__, argv, steps=STEPS)
    work, out = arguments.work, arguments.work / "drawing"
    if (out / "unet").exists():
        return
    where = device()
    latents = training_latents(arguments.data, work)
    codes = torch.from_numpy(np.load(work / "features" / "train.codes.npy")).to(where)
    text_tokenizer = PreTrainedTokenizerFast.from_pretrained(work / "text" / "tokenizer")
    text_encoder = CLIPTextModel.from_pretrained(work / "text" / "text_encoder").to(where).eval()
    texts = ["", *(full_description(row) for row in rows_of(arguments.data))]
    nothing, targets = encode_captions(text_encoder, text_tokenizer, texts).to(where).split([1, len(texts) - 1])
    visual = SeedTokenizer.from_pretrained(work / "quantization" / "model").to(where).requires_grad_(False)
    visual.generation_decoder.requires_grad_(True)
    torch.manual_seed(0)
    drawer = Drawer(visual, UNet2DConditionModel.from_pretrained(work / "diffusion" / "unet").to(where))

    def loss_of(step: int) -> dict[str, torch.Tensor]:
        picked = torch.randint(len(latents), (BATCH,), device=where)
        views = torch.randint(len(codes), (BATCH,), device=where)
        with autocast():
            embeddings = visual.decode(codes[views, picked]).float()
        alignment = nn.functional.mse_loss(embeddings, targets[picked].float())
        empty = torch.rand(BATCH, 1, 1, device=where) < NOTHING
        denoising = denoising_loss(drawer.unet, latents[picked], embeddings.where(~empty, nothing.float()))
        return {"loss": denoising + ALIGNMENT * alignment, "denoising": denoising, "alignment": alignment}

    train(
        drawer,
        loss_of,
        out=out,
        steps=arguments.steps,
        learning_rate=RATE,
        weight_decay=0.01,
        muon=True,
        warmup=100,
        average=0.999,
        log_every=100,
    )
    scheduler().save_pretrained(out / "scheduler")
    visual.cpu().requires_grad_(True).save_pretrained(out / "tokenizer")
    drawer.unet.save_pretrained(out / "unet")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
