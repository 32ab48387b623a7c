"""Teacher stage: the autoencoder's decoder learns on, on its own, as Stable Diffusion's did.

The encoder stays, and with it the latents, so that the teacher may train at the same time.
"""

import logging

import torch
from diffusers import AutoencoderDC

from autoencoder import NOISE, compare, spoil
from loop import autocast, device, stage_arguments, train
from world import images, scenes


STEPS, BATCH, RATE = 10_000, 128, 1e-3


def main(argv: list[str] | None = None) -> None:
    arguments = stage_arguments(__doc__, argv, minutes=True, steps=STEPS)
    out = arguments.work / "decoder"
    if (out / "model").exists():
        return
    torch.manual_seed(0)
    model = AutoencoderDC.from_pretrained(arguments.work / "autoencoder" / "model").to(device())
    model.encoder.requires_grad_(False)

    def batch_of(step: int) -> dict[str, torch.Tensor]:
        return {"pixels": images(scenes("decoder", step * BATCH, BATCH), arguments.data, 64)}

    def loss_of(batch: dict[str, torch.Tensor], done: float) -> dict[str, torch.Tensor]:
        real = batch["pixels"].float() / 127.5 - 1
        with autocast():
            with torch.no_grad():
                latents = model.encode(real).latent
            made = model.decode(spoil(latents, NOISE)).sample
        return compare(made.float(), real)

    train(model, batch_of, loss_of, out=out, steps=arguments.steps, minutes=arguments.minutes, learning_rate=RATE,
          weight_decay=0.01)  # fmt: skip
    model.save_pretrained(out / "model")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
