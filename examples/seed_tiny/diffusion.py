"""Teacher stage: the UNet of the small latent diffusion model, on the frozen autoencoder and text encoder.

It plays Stable Diffusion's part: trained from captions and descriptions, before and without any visual code.
"""

import logging

import torch
from diffusers import AutoencoderDC, DPMSolverMultistepScheduler, UNet2DConditionModel
from torch.nn import functional as F
from transformers import CLIPTextModel, PreTrainedTokenizerFast

from loop import autocast, device, stage_arguments, train
from model import WIDTH
from pixels import load_pixels
from seed_hf.data.dataset import caption_variants, full_description
from text import encode_texts, rows_of


STEPS, BATCH, RATE = 4000, 64, 1e-3
# How often a picture is called by its caption, its full description, another wording, or nothing at all.
CAPTION, DESCRIPTION, OTHER = 0.2, 0.65, 0.06


def build() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=16,
        out_channels=16,
        block_out_channels=(128, 160),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=8,
        # Besides the cross-attention, the text reaches every block through the time embedding.
        addition_embed_type="text",
        addition_embed_type_num_heads=6,
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
    parts = [vae.encode(part.to(device()).float() / 127.5 - 1).latent.cpu() for part in pixels.split(128)]
    return torch.cat(parts) * vae.config.scaling_factor


@torch.no_grad()
def encode_captions(encoder: CLIPTextModel, tokenizer, texts: list[str]) -> torch.Tensor:
    """Text features `(texts, 24, 192)`, float16: the space of the generation embeddings."""
    ids, _ = encode_texts(tokenizer, texts)
    parts = []
    for part in ids.split(256):
        with autocast():
            parts.append(encoder(input_ids=part.to(device())).last_hidden_state.half().cpu())
    return torch.cat(parts)


def main(argv: list[str] | None = None) -> None:
    arguments = stage_arguments(__doc__, argv, steps=STEPS)
    out = arguments.work / "diffusion"
    if (out / "unet").exists():
        return
    where = device()
    vae = AutoencoderDC.from_pretrained(arguments.work / "autoencoder" / "model").to(where).eval()
    latents = encode_pixels(vae, load_pixels(arguments.data, "train", 64, arguments.work / "features"))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(arguments.work / "text" / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(arguments.work / "text" / "text_encoder").to(where).eval()
    rows = rows_of(arguments.data)
    texts: dict[str, int] = {"": 0}
    number = lambda text: texts.setdefault(text, len(texts))  # noqa: E731
    names = [
        (number(row["caption"].lower()), number(full_description(row)), [number(v) for v in caption_variants(row)])
        for row in rows
    ]
    features = encode_captions(encoder, tokenizer, list(texts))
    logging.info("latents %s, texts %s", tuple(latents.shape), tuple(features.shape))

    torch.manual_seed(0)
    model = build().to(where)
    alphas = scheduler().alphas_cumprod.to(where)

    def loss_of(step: int) -> dict[str, torch.Tensor]:
        picked = torch.randint(len(latents), (BATCH,)).tolist()
        wording = []
        for row, chance in zip(picked, torch.rand(BATCH).tolist()):
            caption, description, variants = names[row]
            if chance < CAPTION:
                wording.append(caption)
            elif chance < CAPTION + DESCRIPTION:
                wording.append(description)
            elif chance < CAPTION + DESCRIPTION + OTHER:
                wording.append(variants[int(torch.randint(len(variants), ()))])
            else:
                wording.append(0)
        clean = latents[picked].to(where)
        noise = torch.randn_like(clean)
        times = torch.randint(0, 1000, (BATCH,), device=where)
        keep = alphas[times].sqrt()[:, None, None, None]
        spoil = (1 - alphas[times]).sqrt()[:, None, None, None]
        with autocast():
            guess = model(keep * clean + spoil * noise, times, features[wording].float().to(where)).sample
        return {"loss": F.mse_loss(guess.float(), keep * noise - spoil * clean)}

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
