"""The parts of Stable Diffusion or Stable unCLIP in a [`SeedImagePipeline`]: loading, checking and running them.

Stable Diffusion reads the 77 text-aligned generation embeddings of SEED-1 instead of its text embeddings. Stable
unCLIP reads the one image-aligned embedding of SEED-2 as class labels, and the text embedding of the empty prompt
(paper 2.3; the authors' release, branch main).
"""

import os

import torch
import transformers
from diffusers import DiffusionPipeline, DPMSolverMultistepScheduler
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.utils.torch_utils import randn_tensor
from huggingface_hub import snapshot_download

from seed_hf.modeling.whole_weights_seed import load_whole


HUB_OPTIONS = ("revision", "token", "cache_dir", "local_files_only", "force_download")
# Parts of the diffusion pipelines that drawing from codes does not need. They are not loaded.
_UNUSED = {
    "StableDiffusionPipeline": ("safety_checker", "feature_extractor", "image_encoder"),
    "StableUnCLIPImg2ImgPipeline": ("feature_extractor", "image_encoder"),
}
# SEED-1 and SEED-2 demos of the authors' release
_GUIDANCE = {"StableDiffusionPipeline": 7.5, "StableUnCLIPImg2ImgPipeline": 10.0}


def default_scheduler() -> DPMSolverMultistepScheduler:
    """Stable Diffusion's noise schedule with a fast solver, for pipelines that are built without a scheduler."""
    scheduler = DPMSolverMultistepScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        algorithm_type="dpmsolver++",
        steps_offset=1,
    )
    # Not read by this solver, but by DDIM and DDPM that are made from its config: they would clip latents to [-1, 1].
    scheduler.register_to_config(clip_sample=False)
    return scheduler


def local_folder(place: str | os.PathLike, **hub) -> str:
    """A pipeline's folder; a Hub repository is downloaded whole.

    Args:
        place: A folder or a repository id.
        hub: Of `HUB_OPTIONS`.

    Raises:
        ValueError: It is neither.
    """
    folder = os.fspath(place)
    if os.path.isdir(folder):
        return folder
    if os.path.exists(folder) or folder.startswith((".", "/", "~")) or folder.count("/") > 1:
        raise ValueError(f"{folder}: no such folder. Give a pipeline's folder or a repository id 'user/name'.")
    return snapshot_download(folder, **hub)


def load_diffusion(source: str | os.PathLike, **kwargs) -> DiffusionPipeline:
    """A `StableDiffusionPipeline` or `StableUnCLIPImg2ImgPipeline` from a folder or repository, without unused parts.

    Args:
        kwargs: As `DiffusionPipeline.from_pretrained` takes them (`dtype`, `revision`, `local_files_only` ...).

    Raises:
        ValueError: The folder holds another pipeline, or lacks weights.
    """
    where = {name: value for name, value in kwargs.items() if name in HUB_OPTIONS}
    config = DiffusionPipeline.load_config(source, **where)
    name = config.get("_class_name")
    name = name[-1] if isinstance(name, list) else name  # [module, class] where the folder has code
    if name not in _UNUSED:
        raise ValueError(f"{source}: holds a {name}. SEED draws with {' or '.join(_UNUSED)}.")
    checker = {"requires_safety_checker": False} if "safety_checker" in _UNUSED[name] else {}
    library, encoder = config.get("text_encoder") or (None, "")
    if library == "transformers" and "text_encoder" not in kwargs and "device_map" not in kwargs:
        kwargs["text_encoder"] = _text_encoder(getattr(transformers, encoder), source, kwargs)
    return DiffusionPipeline.from_pretrained(source, **dict.fromkeys(_UNUSED[name]), **checker, **kwargs)


def _text_encoder(cls, source, kwargs: dict):
    """The text encoder, whole: it makes the empty prompt. diffusers would not tell that weights are missing."""
    options = {name: kwargs[name] for name in (*HUB_OPTIONS, "dtype", "variant") if name in kwargs}
    if isinstance(dtype := options.get("dtype"), dict):
        options["dtype"] = dtype.get("text_encoder", dtype.get("default"))
    return load_whole(cls, source, subfolder="text_encoder", **options)


def parts_of(donor: DiffusionPipeline) -> dict:
    """The components and the guidance scale for `SeedImagePipeline(...)`.

    Raises:
        TypeError: `donor` is another pipeline.
    """
    name = type(donor).__name__
    if name not in _UNUSED:
        raise TypeError(f"SEED draws with {' or '.join(_UNUSED)}, got {name}.")
    parts = {name: getattr(donor, name) for name in ("unet", "vae", "scheduler", "text_encoder", "tokenizer")}
    if name == "StableUnCLIPImg2ImgPipeline":
        parts |= {name: getattr(donor, name) for name in ("image_normalizer", "image_noising_scheduler")}
    return {**parts, "guidance_scale": _GUIDANCE[name]}


def embeds_guidance(unet) -> bool:
    """Whether a UNet was distilled to guide itself and reads the scale of it (LCM, arXiv 2310.04378)."""
    return getattr(getattr(unet, "config", None), "time_cond_proj_dim", None) is not None


def width_read_by(unet_config) -> int | None:
    """The width of the embeddings that a UNet reads, `cross_attention_dim`; `None` if its blocks differ in it."""
    width = unet_config.cross_attention_dim
    widths = {width} if isinstance(width, int) else set(width or ())
    return widths.pop() if len(widths) == 1 else None


def check_fit(
    tokenizer_config, unet, vae, empty_prompt=None, image_normalizer=None, image_noising_scheduler=None
) -> None:
    """Raises `ValueError` if these parts cannot work together. Parts that are `None` fit everything."""
    if unet is None:
        return
    unet_config = unet.config
    if vae is not None and vae.config.latent_channels != unet_config.in_channels:
        raise ValueError(
            f"The VAE has {vae.config.latent_channels} latent channels and the UNet {unet_config.in_channels} input "
            "channels. They must be equal."
        )
    width, labelled = width_read_by(unet_config), unet_config.class_embed_type == "projection"
    if labelled or (tokenizer_config is not None and tokenizer_config.generation_target == "image"):
        _check_unclip(tokenizer_config, unet_config, image_normalizer, image_noising_scheduler)
    elif tokenizer_config is not None:
        dim = tokenizer_config.generation_dim
        if width not in (None, dim):
            raise ValueError(
                f"The tokenizer's embeddings are {dim} wide (generation_dim) and the UNet reads {width} "
                "(cross_attention_dim). They must be equal."
            )
    if empty_prompt is not None and width not in (None, empty_prompt.config.dim):
        raise ValueError(
            f"The empty prompt's embedding is {empty_prompt.config.dim} wide and the UNet reads {width} "
            "(cross_attention_dim). They must be equal."
        )


def _check_unclip(tokenizer_config, unet_config, image_normalizer, image_noising_scheduler) -> None:
    if tokenizer_config is not None and tokenizer_config.generation_target == "text":
        raise ValueError(
            "This UNet is unCLIP's and reads an image embedding (SEED-2). The tokenizer has the text-aligned "
            "target (SEED-1): draw with Stable Diffusion."
        )
    labelled = unet_config.class_embed_type == "projection"
    if not labelled or image_normalizer is None or image_noising_scheduler is None:
        raise ValueError(
            "The image-aligned target (SEED-2) needs unCLIP: draw with unCLIP's UNet, image_normalizer and "
            "image_noising_scheduler; from_diffusion takes them from a StableUnCLIPImg2ImgPipeline."
        )
    # unCLIP's label is the embedding followed by the embedding of the noise level, which has the same width.
    normalized, labels = image_normalizer.config.embedding_dim, unet_config.projection_class_embeddings_input_dim
    dim = normalized if tokenizer_config is None else tokenizer_config.generation_dim
    if (labels, normalized) != (2 * dim, dim):
        raise ValueError(
            f"The tokenizer's image embedding is {dim} wide (generation_dim); this UNet wants {labels // 2} "
            f"(half of projection_class_embeddings_input_dim) and image_normalizer {normalized}. They must be equal."
        )


def unclip_labels(
    embeds: torch.Tensor, image_normalizer, image_noising_scheduler, noise_level: int, generator=None
) -> torch.Tensor:
    """Class labels of Stable unCLIP `(rows, 2 dim)`: noised image embeddings `(rows, dim)`, then the noise level."""
    noise = randn_tensor(embeds.shape, generator=generator, device=embeds.device, dtype=embeds.dtype)
    levels = torch.full((len(embeds),), noise_level, device=embeds.device)
    mean, std = (value.to(embeds.device, embeds.dtype) for value in (image_normalizer.mean, image_normalizer.std))
    noised = image_noising_scheduler.add_noise((embeds - mean) / std, noise, levels) * std + mean
    level = get_timestep_embedding(levels, embeds.shape[-1], flip_sin_to_cos=True, downscale_freq_shift=0)
    return torch.cat([noised, level.to(noised.dtype)], dim=1)


def wake(module) -> None:
    """Moves an offloaded model to the accelerator: accelerate's hooks only watch `forward`, not other methods."""
    if hasattr(module, "_hf_hook"):
        module._hf_hook.pre_forward(module)
