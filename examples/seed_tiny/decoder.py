"""The autoencoder's decoder learns from the UNet's own drawings of training texts.

What the UNet draws is near to the latents of the picture it means, but not the same: softer. The decoder learns to
make the clear picture of it, as the tokenizer's own ViT sees pictures, beside real latents with noise. The encoder,
and so the space of the latents, stays as it is.
"""

import logging
import os
from pathlib import Path

import torch
from diffusers import AutoencoderDC
from torch.nn import functional as F
from tqdm import tqdm

from assemble import load_parts
from autoencoder import compare, spoil
from diffusion import training_latents
from lessons import Lessons
from loop import autocast, device, stage_arguments, train
from pixels import load_pixels, normalise
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer


STEPS, RATE = 1000, 1e-3
BATCH = 32  # of each kind
NOISE = 0.4  # on real latents, up to this standard deviation
SEEN_WEIGHT = 1.0
SEEN = (2, 4, 6)  # hidden states of the ViT
GUIDANCE, DRAWING_STEPS = 2.0, 12
EVERY = 9  # which descriptions are drawn


@torch.no_grad()
def drawings(data: Path, work: Path, file: Path) -> dict[str, torch.Tensor]:
    """What the UNet draws, `latents` float16, and the `rows` of the pictures that it means.

    Of two takes of every caption and of every ninth description; kept in `file`.
    """
    if not file.exists():
        lessons = Lessons(data, work)
        pipe = load_parts(work, work / "autoencoder" / "model").to(device())
        pipe.set_progress_bar_config(disable=True)
        described = torch.arange(0, lessons.rows, EVERY, device=device())
        plain = torch.arange(2 * lessons.captions, device=device())
        places = torch.cat([plain, lessons.takes * lessons.captions + described])
        settings = {"guidance_scale": GUIDANCE, "num_inference_steps": DRAWING_STEPS, "output_type": "latent"}
        made = []
        for number, part in enumerate(tqdm(lessons.codes[places].split(128), desc="drawings", mininterval=10)):
            generator = torch.Generator(device()).manual_seed(number)
            made.append(pipe(codes=part, generator=generator, **settings).images.half().cpu())
        rows = torch.cat([lessons.pictures.repeat(2), described]).cpu()
        partial = file.with_suffix(".partial")
        torch.save({"latents": torch.cat(made), "rows": rows}, partial)
        os.replace(partial, file)
    return torch.load(file, weights_only=True)


def main(argv: list[str] | None = None) -> None:
    arguments = stage_arguments(__doc__, argv, steps=STEPS)
    work, out = arguments.work, arguments.work / "decoder"
    if (out / "model").exists():
        return
    out.mkdir(exist_ok=True)
    drawn = drawings(arguments.data, work, out / "drawings.pt")
    made, rows = drawn["latents"].to(device()), drawn["rows"].to(device())
    pixels = load_pixels(arguments.data, "train", 64).to(device())
    latents = training_latents(arguments.data, work)
    model = AutoencoderDC.from_pretrained(work / "autoencoder" / "model").to(device())
    eye = SeedTokenizer.from_pretrained(work / "memory" / "model").vision_model.to(device()).eval()
    for frozen in (model.encoder, eye):
        frozen.requires_grad_(False)
    size = eye.config.image_size

    def see(pictures: torch.Tensor) -> list[torch.Tensor]:
        resized = F.interpolate((pictures + 1) / 2, size=(size, size), mode="bicubic")
        states = eye(pixel_values=normalise(resized), output_hidden_states=True).hidden_states
        return [F.layer_norm(states[layer].float(), states[layer].shape[-1:]) for layer in SEEN]

    def loss_of(step: int) -> dict[str, torch.Tensor]:
        picked = torch.randint(len(pixels), (BATCH,), device=pixels.device)
        drawing = torch.randint(len(made), (BATCH,), device=pixels.device)
        real = pixels[torch.cat([picked, rows[drawing]])].float() / 127.5 - 1
        given = torch.cat([spoil(latents[picked], NOISE), made[drawing].float()]) / model.config.scaling_factor
        with autocast():
            pictures = model.decode(given).sample.float()
            with torch.no_grad():
                wanted = see(real)
            seen = sum(F.mse_loss(a, b) for a, b in zip(see(pictures), wanted)) / len(SEEN)
        losses = compare(pictures, real)
        return {**losses, "loss": losses["loss"] + SEEN_WEIGHT * seen, "seen": seen}

    train(model.decoder, loss_of, out=out, steps=arguments.steps, learning_rate=RATE, weight_decay=0.01, average=0.995)
    model.save_pretrained(out / "model")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
