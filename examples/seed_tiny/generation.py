"""Stage II goes on where it is slowest: from codes to generation embeddings, with the codes as they are by now.

What an image's codes are does not change here, so the language model can learn them at the same time. The generation
decoder aims, as before, at the teacher's text features of the full description; it sees the codes of the language
model's scenes, which are computed once. With `--denoising`, the frozen UNet's own loss joins: where codes leave a text
open, the mean of what it may be is nothing that the UNet has read, and its loss asks for what it draws best from.
"""

import logging

import numpy as np
import torch
from diffusers import AutoencoderDC, UNet2DConditionModel
from torch.nn import functional as F
from transformers import CLIPTextModel

from loop import autocast, device, stage_arguments, train
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from teacher import VIEWS, denoising_loss
from vocabulary import encode_texts, load_vocabulary
from world import descriptions, images, scenes


STEPS, BATCH, RATE = 6000, 256, 1e-3


def main(argv: list[str] | None = None) -> None:
    arguments = stage_arguments(__doc__, argv, minutes=True, steps=STEPS, batch=BATCH, rate=RATE, denoising=0.0)
    work, out = arguments.work, arguments.work / "generation"
    if (out / "model").exists():
        return
    tokenizer = load_vocabulary(work)
    visual = SeedTokenizer.from_pretrained(work / "quantization" / "model").to(device()).requires_grad_(False)
    teacher, vae, unet = (
        kind.from_pretrained(work / name).to(device()).eval().requires_grad_(False)
        for kind, name in (
            (CLIPTextModel, "teacher/text_encoder"),
            (AutoencoderDC, "autoencoder/model"),
            (UNet2DConditionModel, "unet/model"),
        )
    )
    visual.generation_decoder.requires_grad_(True)
    codes = torch.from_numpy(np.load(work / "codes" / "train.npy").astype(np.int64))

    def batch_of(step: int) -> dict[str, torch.Tensor]:
        rows = torch.randint(len(codes), (arguments.batch,))
        batch = {"codes": codes[rows], "ids": encode_texts(tokenizer, descriptions(rows.tolist()))[0]}
        if arguments.denoising:
            shown = rows[: arguments.batch // VIEWS].tolist()
            found = [scene for row in shown for scene in scenes("language", row, 1)]
            batch["pixels"] = images(found, arguments.data, 64)
        return batch

    def loss_of(batch: dict[str, torch.Tensor], done: float) -> dict[str, torch.Tensor]:
        with autocast():
            with torch.no_grad():
                wanted = teacher(input_ids=batch["ids"]).last_hidden_state
            guess = visual.decode(batch["codes"])
        losses = {"loss": F.mse_loss(guess.float(), wanted.float())}
        if arguments.denoising:
            losses["error"], losses["denoising"] = losses["loss"], drawn(batch["pixels"], guess)
            losses["loss"] = losses["error"] + arguments.denoising * losses["denoising"]
        return losses

    def drawn(pixels: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        """The UNet's loss on the images of the first embeddings, each with several times and noises."""
        with torch.no_grad(), autocast():
            latents = vae.encode(pixels.float() / 127.5 - 1).latent.float() * vae.config.scaling_factor
        shown = embeddings[: len(latents)].repeat(VIEWS, 1, 1)
        return denoising_loss(lambda *inputs: unet(*inputs).sample, latents.repeat(VIEWS, 1, 1, 1), shown)

    train(visual.generation_decoder, batch_of, loss_of, out=out, steps=arguments.steps, minutes=arguments.minutes,
          learning_rate=arguments.rate, weight_decay=0.01, average=0.998)  # fmt: skip
    visual.cpu().save_pretrained(out / "model")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
