"""Generation decoder and UNet learn on together, from what drawing will see: the codes of images.

Here the recipe leaves the paper, whose UNet stays as it is. Stable Diffusion has seen billions of texts and draws from
embeddings that only come near to one; a UNet of 9 M weights that has read clean texts alone does not: from the texts
of two things it drew half of them right, from their codes none. So half of its conditions are generation embeddings
now, and its loss is the decoder's, too, beside the distance to the teacher's text features. The text encoder and the
codes stay.
"""

import logging

import torch
from diffusers import AutoencoderDC, UNet2DConditionModel
from torch import nn
from torch.nn import functional as F

from generation import decoder_parts
from loop import autocast, device, stage_arguments, train
from teacher import SILENT, VIEWS, blurred, denoising_loss, latents_of
from vocabulary import encode_texts, load_vocabulary
from world import captions, descriptions, images, scenes, some_of


STEPS, BATCH, RATE = 6000, 32, 1e-3
FULL = 0.5  # share of full descriptions among the texts
ALIGNED = 4  # codes whose embeddings are compared with a text, for each image that is drawn


def main(argv: list[str] | None = None) -> None:
    arguments = stage_arguments(__doc__, argv, minutes=True, steps=STEPS, batch=BATCH, rate=RATE)
    work, out = arguments.work, arguments.work / "drawing"
    if (out / "unet").exists():
        return
    tokenizer = load_vocabulary(work)
    visual, text_encoder, codes, order = decoder_parts(work, "generation")
    vae = AutoencoderDC.from_pretrained(work / "autoencoder" / "model").to(device()).eval()
    unet = UNet2DConditionModel.from_pretrained(work / "unet" / "model").to(device())
    size = arguments.batch
    silent, _ = encode_texts(tokenizer, [""])

    def batch_of(step: int) -> dict[str, torch.Tensor]:
        rows = some_of(order, ALIGNED * size)
        drawn, said = [scene for row in rows[:size] for scene in scenes("language", row, 1)], []
        for view in range(VIEWS // 2):
            said += captions(drawn, "unet", (step * VIEWS + view) * size, FULL)
        ids, _ = encode_texts(tokenizer, said)
        return {
            "codes": codes[rows],
            "described": encode_texts(tokenizer, descriptions(rows))[0],
            "ids": torch.where(torch.rand(len(ids), 1) < 2 * SILENT, silent, ids),
            "pixels": images(drawn, arguments.data, 64),
        }

    def loss_of(batch: dict[str, torch.Tensor], done: float) -> dict[str, torch.Tensor]:
        latents = latents_of(vae, batch["pixels"])
        with torch.no_grad(), autocast():
            texts = text_encoder(input_ids=torch.cat([batch["ids"], batch["described"]])).last_hidden_state.float()
        read, wanted = texts.split([len(batch["ids"]), len(batch["described"])])
        with autocast():
            guess = visual.decode(batch["codes"]).float()
        views = [guess[:size]] * (VIEWS - VIEWS // 2)
        drawn = denoising_loss(
            lambda *inputs: unet(*inputs).sample, latents.repeat(VIEWS, 1, 1, 1), torch.cat([blurred(read), *views])
        )
        error = F.mse_loss(guess, wanted)
        return {"loss": drawn + error, "drawn": drawn, "error": error}

    parts = nn.ModuleDict({"unet": unet, "generation_decoder": visual.generation_decoder})
    train(parts, batch_of, loss_of, out=out, steps=arguments.steps, minutes=arguments.minutes,
          learning_rate=arguments.rate, weight_decay=0.01, average=0.998)  # fmt: skip
    visual.cpu().save_pretrained(out / "model")
    unet.cpu().save_pretrained(out / "unet")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
