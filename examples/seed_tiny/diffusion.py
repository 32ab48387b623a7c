"""Teacher stage: the UNet of the small latent diffusion model, on the frozen autoencoder and text encoder.

It plays Stable Diffusion's part: trained from captions and descriptions, before and without any visual code.
"""

import logging
from functools import cache
from pathlib import Path

import torch
from diffusers import AutoencoderDC, DPMSolverMultistepScheduler, UNet2DConditionModel
from torch.nn import functional as F
from transformers import CLIPTextModel, PreTrainedTokenizerFast

from features import rows_of
from loop import autocast, device, stage_arguments, train
from model import WIDTH
from pixels import load_pixels
from seed_hf.pictograms.wordings import caption_variants, full_description
from text import encode_texts


STEPS, BATCH, RATE = 3000, 128, 1e-3
# How often a picture is called by its caption, its full description, another wording, or, what is left, nothing.
CAPTION, DESCRIPTION, OTHER = 0.2, 0.65, 0.06


def build() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=16,
        out_channels=16,
        block_out_channels=(64, 128),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=16,
        cross_attention_dim=WIDTH,
        attention_head_dim=8,
        resnet_time_scale_shift="scale_shift",
    )


def scheduler() -> DPMSolverMultistepScheduler:
    return DPMSolverMultistepScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        algorithm_type="dpmsolver++",
        timestep_spacing="trailing",
    )


@torch.no_grad()
def encode_pixels(vae: AutoencoderDC, pixels: torch.Tensor) -> torch.Tensor:
    parts = [vae.encode(part.to(device()).float() / 127.5 - 1).latent for part in pixels.split(128)]
    return torch.cat(parts) * vae.config.scaling_factor


@torch.no_grad()
def encode_captions(encoder: CLIPTextModel, tokenizer, texts: list[str]) -> torch.Tensor:
    """Text features `(texts, 24, 192)`, float16: the space of the generation embeddings."""
    ids, _ = encode_texts(tokenizer, texts)
    parts = []
    for part in ids.split(512):
        with autocast():
            parts.append(encoder(input_ids=part.to(encoder.device)).last_hidden_state.half().cpu())
    return torch.cat(parts)


class Wordings:
    """The text features of every wording of every training picture, and random draws of them.

    Row 0 of `features` is the empty text.
    """

    def __init__(self, data: Path, work: Path):
        tokenizer = PreTrainedTokenizerFast.from_pretrained(work / "text" / "tokenizer")
        encoder = CLIPTextModel.from_pretrained(work / "text" / "text_encoder").to(device()).eval()
        texts: dict[str, int] = {"": 0}
        number = lambda text: texts.setdefault(text, len(texts))  # noqa: E731
        rows = rows_of(data)
        plain = [number(row["caption"].lower()) for row in rows]
        full = [number(full_description(row)) for row in rows]
        other = [[number(text) for text in caption_variants(row)] for row in rows]
        longest = max(map(len, other))
        other = [(found * longest)[:longest] for found in other]
        self.places = torch.tensor([[0, a, b, *found] for a, b, found in zip(plain, full, other)], device=device())
        self.features = encode_captions(encoder, tokenizer, list(texts)).to(device())

    def draw(self, rows: torch.Tensor) -> torch.Tensor:
        """Features `(rows, 24, 192)` of one wording, or none, of each of these training pictures."""
        chance = torch.rand(len(rows), device=rows.device)
        column = torch.randint(3, self.places.shape[1], (len(rows),), device=rows.device)  # another wording
        column[chance < CAPTION + DESCRIPTION] = 2
        column[chance < CAPTION] = 1
        column[chance >= CAPTION + DESCRIPTION + OTHER] = 0
        return self.features[self.places[rows, column]].float()


def training_latents(data: Path, work: Path) -> torch.Tensor:
    vae = AutoencoderDC.from_pretrained(work / "autoencoder" / "model").to(device()).eval()
    return encode_pixels(vae, load_pixels(data, "train", 64))


@cache
def signal_levels() -> torch.Tensor:
    return scheduler().alphas_cumprod


def denoising_loss(model: UNet2DConditionModel, clean: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
    """v-prediction of latents `(batch, 16, 8, 8)` drawn from embeddings `(batch, 24, 192)`, at random noise levels.

    High noise is drawn more often than low: there it is decided what a picture shows.
    """
    batch, where = len(clean), clean.device
    alphas = signal_levels().to(where)
    noise = torch.randn_like(clean)
    times = (torch.rand(batch, device=where).sqrt() * len(alphas)).long().clamp(max=len(alphas) - 1)
    keep = alphas[times].sqrt()[:, None, None, None]
    spoil = (1 - alphas[times]).sqrt()[:, None, None, None]
    with autocast():
        guess = model(keep * clean + spoil * noise, times, condition).sample
    return F.mse_loss(guess.float(), keep * noise - spoil * clean)


def main(argv: list[str] | None = None) -> None:
    arguments = stage_arguments(__doc__, argv, steps=STEPS)
    out = arguments.work / "diffusion"
    if (out / "unet").exists():
        return
    latents = training_latents(arguments.data, arguments.work)
    wordings = Wordings(arguments.data, arguments.work)
    logging.info("latents %s, wordings %s", tuple(latents.shape), tuple(wordings.features.shape))
    torch.manual_seed(0)
    model = build().to(device())

    def loss_of(step: int) -> dict[str, torch.Tensor]:
        picked = torch.randint(len(latents), (BATCH,), device=latents.device)
        return {"loss": denoising_loss(model, latents[picked], wordings.draw(picked))}

    train(
        model,
        loss_of,
        out=out,
        steps=arguments.steps,
        learning_rate=RATE,
        weight_decay=0.01,
        muon=True,
        warmup=200,
        average=0.999,
        log_every=100,
    )
    scheduler().save_pretrained(out / "scheduler")
    model.save_pretrained(out / "unet")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
