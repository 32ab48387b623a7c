"""Teacher stage: the autoencoder of the small latent diffusion model (64 x 64 pixels <-> 16 x 8 x 8 latents)."""

import logging

import torch
from diffusers import AutoencoderDC

from loop import autocast, device, stage_arguments, train
from pixels import load_pixels


STEPS, DECODER_STEPS, BATCH = 1000, 2400, 64
RATE, DECODER_RATE = 2e-3, 1e-3
# Noise on the latents, up to this standard deviation: a diffusion model will only come near to them.
NOISE, DECODER_NOISE = 0.1, 0.3


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


def spoil(latents: torch.Tensor, most: float) -> torch.Tensor:
    level = most * torch.rand(len(latents), 1, 1, 1, device=latents.device)
    return latents + level * torch.randn_like(latents)


def compare(made: torch.Tensor, real: torch.Tensor) -> dict[str, torch.Tensor]:
    l1 = (made - real).abs().mean()
    edges = sum((a - b).abs().mean() for a, b in zip(gradients(made), gradients(real)))
    return {"loss": l1 + edges, "l1": l1, "edges": edges}


def main(argv: list[str] | None = None) -> None:
    """First both halves; then the decoder alone, whose latents stay as they are, on noisier ones."""
    arguments = stage_arguments(__doc__, argv, steps=STEPS, decoder_steps=DECODER_STEPS)
    out = arguments.work / "autoencoder"
    if (out / "model").exists():
        return
    pixels = load_pixels(arguments.data, "train", 64).to(device())
    torch.manual_seed(0)
    model = build().to(device())

    def some_pictures() -> torch.Tensor:
        real = pixels[torch.randint(len(pixels), (BATCH,), device=pixels.device)].float() / 127.5 - 1
        flip = torch.rand(BATCH, device=real.device) < 0.5
        return torch.where(flip[:, None, None, None], real.flip(-1), real)

    def loss_of_both(step: int) -> dict[str, torch.Tensor]:
        real = some_pictures()
        with autocast():
            latents = model.encode(real).latent
            made = model.decode(spoil(latents, NOISE)).sample
        losses = compare(made.float(), real)
        size = latents.float().pow(2).mean()
        return {**losses, "loss": losses["loss"] + 0.01 * (size - 1).abs(), "size": size}

    def loss_of_decoder(step: int) -> dict[str, torch.Tensor]:
        real = some_pictures()
        with autocast(), torch.no_grad():
            latents = model.encode(real).latent
        with autocast():
            made = model.decode(spoil(latents, DECODER_NOISE)).sample
        return compare(made.float(), real)

    settings = {"weight_decay": 0.01, "average": 0.995}
    train(model, loss_of_both, out=out, steps=arguments.steps, learning_rate=RATE, **settings)
    model.encoder.requires_grad_(False)
    train(model.decoder, loss_of_decoder, out=out / "decoder", steps=arguments.decoder_steps,
          learning_rate=DECODER_RATE, **settings)  # fmt: skip
    with torch.no_grad():
        sample = pixels[:: max(1, len(pixels) // 2048)].float() / 127.5 - 1
        latents = torch.cat([model.encode(part).latent for part in sample.split(64)])
    model.register_to_config(scaling_factor=round(1 / latents.std().item(), 5))
    model.save_pretrained(out / "model")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
