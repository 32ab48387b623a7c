"""Teacher stage: the autoencoder of the small latent diffusion model (64 x 64 pixels <-> 16 x 8 x 8 latents)."""

import logging
from pathlib import Path

import torch
from diffusers import AutoencoderDC

from loop import autocast, device, stage_arguments, train
from world import images, scenes


STEPS, BATCH, RATE = 10_000, 128, 1e-3
NOISE = 0.1  # on the latents, up to this standard deviation: a diffusion model will only come near to them


def build() -> AutoencoderDC:
    widths, none = (32, 64, 128, 128), ((), (), (), ())
    return AutoencoderDC(
        latent_channels=16,
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        encoder_layers_per_block=(1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 2, 2),
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
    arguments = stage_arguments(__doc__, argv, minutes=True, steps=STEPS, batch=BATCH)
    out = arguments.work / "autoencoder"
    if (out / "model").exists():
        return
    torch.manual_seed(0)
    model, batch = build().to(device()), arguments.batch

    def batch_of(step: int) -> dict[str, torch.Tensor]:
        return {"pixels": images(scenes("autoencoder", step * batch, batch), arguments.data, 64)}

    def loss_of(batch: dict[str, torch.Tensor], done: float) -> dict[str, torch.Tensor]:
        real = batch["pixels"].float() / 127.5 - 1
        with autocast():
            latents = model.encode(real).latent
            made = model.decode(spoil(latents, NOISE)).sample
        losses = compare(made.float(), real)
        size = latents.float().pow(2).mean()
        return {**losses, "loss": losses["loss"] + 0.01 * (size - 1).abs(), "size": size}

    train(model, batch_of, loss_of, out=out, steps=arguments.steps, minutes=arguments.minutes, learning_rate=RATE,
          weight_decay=0.01)  # fmt: skip
    keep(model, arguments.data, out / "model")


@torch.no_grad()
def keep(model: AutoencoderDC, data: Path, folder: Path) -> None:
    """Save the autoencoder with the scale that gives its latents unit variance."""
    sample = images(scenes("autoencoder", 10**9, 1024), data, 64).float() / 127.5 - 1
    latents = torch.cat([model.encode(part.to(device())).latent for part in sample.split(64)])
    model.register_to_config(scaling_factor=round(1 / latents.std().item(), 5))
    model.save_pretrained(folder)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
