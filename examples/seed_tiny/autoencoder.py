"""Teacher stage: the autoencoder of the small latent diffusion model (64 x 64 pixels <-> 16 x 8 x 8 latents)."""

import logging

import torch
from diffusers import AutoencoderDC

from loop import autocast, device, stage_arguments, train
from pixels import load_pixels


STEPS, BATCH, RATE = 1000, 64, 2e-3


def build() -> AutoencoderDC:
    widths, layers = (16, 32, 128, 128), (0, 1, 1, 2)
    none = ((), (), (), ())
    return AutoencoderDC(
        latent_channels=16,
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        encoder_layers_per_block=layers,
        decoder_layers_per_block=layers,
        encoder_qkv_multiscales=none,
        decoder_qkv_multiscales=none,
    )


def gradients(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x[..., 1:, :] - x[..., :-1, :], x[..., :, 1:] - x[..., :, :-1]


def main(argv: list[str] | None = None) -> None:
    arguments = stage_arguments(__doc__, argv, steps=STEPS)
    out = arguments.work / "autoencoder"
    if (out / "model").exists():
        return
    pixels = load_pixels(arguments.data, "train", 64).to(device())
    torch.manual_seed(0)
    model = build().to(device())

    def loss_of(step: int) -> dict[str, torch.Tensor]:
        picked = torch.randint(len(pixels), (BATCH,), device=pixels.device)
        real = pixels[picked].float() / 127.5 - 1
        flip = torch.rand(BATCH, device=real.device) < 0.5
        real = torch.where(flip[:, None, None, None], real.flip(-1), real)
        with autocast():
            latents = model.encode(real).latent
            # A little noise keeps the decoder smooth around the latents that a diffusion model will only approximate.
            noisy = latents + 0.1 * torch.rand(BATCH, 1, 1, 1, device=real.device) * torch.randn_like(latents)
            made = model.decode(noisy).sample
        made, latents = made.float(), latents.float()
        l1 = (made - real).abs().mean()
        edges = sum((a - b).abs().mean() for a, b in zip(gradients(made), gradients(real)))
        size = latents.pow(2).mean()
        return {"loss": l1 + edges + 0.01 * (size - 1).abs(), "l1": l1, "edges": edges, "size": size}

    train(model, loss_of, out=out, steps=arguments.steps, learning_rate=RATE, weight_decay=0.01, average=0.995)
    with torch.no_grad():
        sample = pixels[:: max(1, len(pixels) // 2048)].float() / 127.5 - 1
        latents = torch.cat([model.encode(part).latent for part in sample.split(64)])
    model.register_to_config(scaling_factor=round(1 / latents.std().item(), 5))
    model.save_pretrained(out / "model")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
