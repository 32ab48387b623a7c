"""Teacher stage: text encoder and UNet, in Stable Diffusion's place, trained together on captions of scenes.

After it both are frozen: the text encoder's features of a full description are what stage II aims at, and the UNet
draws from the generation embeddings as it stands.
"""

import argparse
import logging
from functools import cache
from pathlib import Path

import torch
from diffusers import AutoencoderDC, DPMSolverMultistepScheduler, UNet2DConditionModel
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel

from loop import autocast, device, stage_arguments, train
from model import TEXT_LENGTH, WIDTH
from vocabulary import encode_texts, load_vocabulary
from world import captions, images, scenes


STEPS, BATCH, RATE = 12_000, 256, 3e-3
VIEWS = 8  # how often a step uses each image, each time with its own caption, time and noise: painting is not free
BLUR = 0.3  # on the text features, up to this standard deviation: generation embeddings will only come near to them
SILENT, FULL = 0.08, 0.45  # share of images without caption, and with the full description


class Teacher(nn.Module):
    def __init__(self, tokenizer):
        super().__init__()
        self.text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=WIDTH,
                intermediate_size=4 * WIDTH,
                num_hidden_layers=3,
                num_attention_heads=6,
                max_position_embeddings=TEXT_LENGTH,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
                projection_dim=WIDTH,
            )
        )
        self.unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=16,
            out_channels=16,
            block_out_channels=(96, 192),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            norm_num_groups=16,
            cross_attention_dim=WIDTH,
            attention_head_dim=8,
            resnet_time_scale_shift="scale_shift",
        )

    def forward(self, noisy: torch.Tensor, times: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        words = self.text_encoder(input_ids=ids).last_hidden_state
        return self.unet(noisy, times, blurred(words)).sample


def blurred(words: torch.Tensor) -> torch.Tensor:
    """Text features `(batch, length, width)`, each text's with noise of a size of its own."""
    level = BLUR * torch.rand(len(words), 1, 1, device=words.device)
    return words + level * torch.randn_like(words)


@torch.no_grad()
def latents_of(vae: AutoencoderDC, pixels: torch.Tensor) -> torch.Tensor:
    """The UNet's latents of `(batch, 3, height, width)` uint8."""
    with autocast():
        return vae.encode(pixels.float() / 127.5 - 1).latent.float() * vae.config.scaling_factor


def scheduler() -> DPMSolverMultistepScheduler:
    found = DPMSolverMultistepScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        algorithm_type="dpmsolver++",
        timestep_spacing="trailing",
    )
    found.register_to_config(clip_sample=False)  # for DDIM and DDPM, which would clip latents to [-1, 1]
    return found


@cache
def signal_levels() -> torch.Tensor:
    return scheduler().alphas_cumprod


def denoising_loss(model: nn.Module, clean: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
    """The v-prediction loss; times are spread evenly over the batch, higher noise is somewhat more frequent."""
    batch, where = len(clean), clean.device
    alphas = signal_levels().to(where)
    share = (torch.randperm(batch, device=where) + torch.rand(batch, device=where)) / batch
    times = (share.pow(0.75) * len(alphas)).long().clamp(max=len(alphas) - 1)
    keep = alphas[times].sqrt()[:, None, None, None]
    spoil = (1 - alphas[times]).sqrt()[:, None, None, None]
    noise = torch.randn_like(clean)
    with autocast():
        guess = model(keep * clean + spoil * noise, times, condition)
    return F.mse_loss(guess.float(), keep * noise - spoil * clean)


def fit(model: Teacher, arguments: argparse.Namespace, out: Path, scenes_of: str, full: float) -> None:
    """Train what is not frozen of a teacher on the scenes of a stage; `full` of the texts are full descriptions."""
    tokenizer = load_vocabulary(arguments.work)
    vae = AutoencoderDC.from_pretrained(arguments.work / "autoencoder" / "model").to(device()).eval()
    silent, _ = encode_texts(tokenizer, [""])
    model.to(device())
    batch = arguments.batch

    def batch_of(step: int) -> dict[str, torch.Tensor]:
        start = step * batch
        found, said = scenes(scenes_of, start, batch), []
        for view in range(VIEWS):
            said += captions(found, scenes_of, VIEWS * start + view * batch, full)
        ids, _ = encode_texts(tokenizer, said)
        ids = torch.where(torch.rand(len(ids), 1) < SILENT, silent, ids)
        return {"pixels": images(found, arguments.data, 64), "ids": ids}

    def loss_of(batch: dict[str, torch.Tensor], done: float) -> dict[str, torch.Tensor]:
        latents = latents_of(vae, batch["pixels"])
        return {"loss": denoising_loss(model, latents.repeat(VIEWS, 1, 1, 1), batch["ids"])}

    train(model, batch_of, loss_of, out=out, steps=arguments.steps, minutes=arguments.minutes,
          learning_rate=arguments.rate, weight_decay=0.01, warmup=200, average=0.999)  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    arguments = stage_arguments(__doc__, argv, minutes=True, steps=STEPS, batch=BATCH, rate=RATE, full=FULL)
    out = arguments.work / "teacher"
    if (out / "unet").exists():
        return
    torch.manual_seed(0)
    model = Teacher(load_vocabulary(arguments.work))
    if (out / "begin").exists():  # a run that goes on from a checkpoint
        model.text_encoder = CLIPTextModel.from_pretrained(out / "begin" / "text_encoder")
        model.unet = UNet2DConditionModel.from_pretrained(out / "begin" / "unet")
    sizes = [sum(p.numel() for p in part.parameters()) / 1e6 for part in (model.unet, model.text_encoder)]
    logging.info("%.2f M weights in the UNet, %.2f M in the text encoder", *sizes)
    fit(model, arguments, out, "teacher", arguments.full)
    scheduler().save_pretrained(out / "scheduler")
    model.text_encoder.save_pretrained(out / "text_encoder")
    model.unet.save_pretrained(out / "unet")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
