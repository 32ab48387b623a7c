"""Checks of the arguments of a [`SeedImagePipeline`] call, before any model runs."""

import inspect
import math

import torch

from .diffusion_parts import embeds_guidance, width_read_by
from .hub_code import is_a


_OUTPUT_TYPES = ("pil", "np", "pt", "latent")
# Options of `generate` that the pipeline sets itself.
_RESERVED = (
    "input_ids",
    "attention_mask",
    "pixel_values",
    "codes",
    "generation_mode",
    "num_return_sequences",
    "return_dict_in_generate",
)


def check_inputs(
    pipeline,
    *,
    prompt,
    image,
    codes,
    prompt_embeds,
    image_embeds,
    negative_prompt,
    negative_codes,
    negative_prompt_embeds,
    height,
    width,
    num_inference_steps,
    timesteps,
    sigmas,
    guidance_scale,
    guidance_rescale,
    eta,
    num_images_per_prompt,
    batch_size,
    num_candidates,
    generator,
    latents,
    generation_kwargs,
    output_type,
    callback_on_step_end_tensor_inputs,
    noise_level,
    **unchecked,
):
    """See [`SeedImagePipeline.check_inputs`]."""
    if num_images_per_prompt < 1:
        raise ValueError(f"num_images_per_prompt must be at least 1, got {num_images_per_prompt}.")
    given = _only_one(prompt=prompt, image=image, codes=codes, prompt_embeds=prompt_embeds, image_embeds=image_embeds)
    _check_there(pipeline, given, output_type)
    if prompt is not None:
        rows = check_prompt(pipeline, prompt)
        check_candidates(pipeline, num_candidates, generation_kwargs)
    elif codes is not None:
        rows = _check_codes(pipeline, codes)
    elif image is not None:
        rows = len(image)
    else:
        rows = _check_embeds(pipeline, given, image_embeds if pipeline.is_unclip else prompt_embeds)
    rows *= num_images_per_prompt
    embeds = image_embeds if pipeline.is_unclip else prompt_embeds
    negatives = (negative_prompt, negative_codes, negative_prompt_embeds)
    negative = _check_negative(pipeline, *negatives, guidance_scale, rows, num_images_per_prompt)
    _check_tokens(pipeline, embeds, negative_prompt_embeds, guidance_scale, negative)
    if prompt is None and negative_prompt is None and generation_kwargs:
        raise ValueError("generation_kwargs are options of the language model, which only a prompt uses.")
    check_generation_kwargs(generation_kwargs)
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, or None for all images at once; got {batch_size}.")
    if height % pipeline.vae_scale_factor or width % pipeline.vae_scale_factor or height < 1 or width < 1:
        raise ValueError(
            f"height and width must be positive multiples of {pipeline.vae_scale_factor}, got {height} and {width}."
        )
    _check_steps(pipeline.scheduler, num_inference_steps, timesteps, sigmas, eta)
    _check_guidance(pipeline, guidance_scale, guidance_rescale, negative, noise_level)
    each = generator if isinstance(generator, list) else [generator] * (generator is not None)
    if not all(isinstance(one, torch.Generator) for one in each):
        raise TypeError(f"generator must be a torch.Generator or a list with one for each image, got {generator!r}.")
    if isinstance(generator, list) and len(generator) != rows:
        raise ValueError(f"{len(generator)} generators for {rows} images. Give one for each, or a single one.")
    shape = pipeline._latents_shape(rows, height, width)
    if latents is not None and tuple(latents.shape) != shape:
        raise ValueError(f"latents must have shape {shape}, got {tuple(latents.shape)}.")
    unknown = [name for name in callback_on_step_end_tensor_inputs if name not in pipeline._callback_tensor_inputs]
    if unknown:
        known = ", ".join(pipeline._callback_tensor_inputs)
        raise ValueError(f"callback_on_step_end_tensor_inputs may name {known}, got {unknown}.")


def _only_one(**inputs) -> str:
    """The name of the one input that is given."""
    given = [name for name, value in inputs.items() if value is not None]
    if len(given) != 1:
        raise ValueError(f"Give exactly one of {', '.join(inputs)}; got {' and '.join(given) or 'none'}.")
    return given[0]


def _check_there(pipeline, given: str, output_type: str) -> None:
    """Raises `ValueError` if a part is missing that this call needs."""
    if output_type not in _OUTPUT_TYPES:
        raise ValueError(f"output_type must be one of {', '.join(_OUTPUT_TYPES)}, got {output_type!r}.")
    if pipeline.unet is None:
        raise ValueError(
            "This pipeline has no unet: it encodes alone, with encode_prompt, encode_image, encode_codes."
        )
    if pipeline.vae is None and output_type != "latent":
        raise ValueError("This pipeline has no vae: it draws latents alone, with output_type='latent'.")
    if given not in ("prompt_embeds", "image_embeds"):
        check_seed_model(pipeline, given)
    drawer, other = ("unCLIP", "prompt_embeds") if pipeline.is_unclip else ("Stable Diffusion", "image_embeds")
    if given == other:
        fitting = "image_embeds" if pipeline.is_unclip else "prompt_embeds"
        raise ValueError(f"This pipeline draws with {drawer}: give {fitting}, not {other}.")


def check_seed_model(pipeline, given: str) -> None:
    """Raises `ValueError` if the pipeline has no model for an input of this name."""
    if pipeline.seed_model is None:
        raise ValueError(
            f"{given} needs a seed_model, and this pipeline has none: it draws from prompt_embeds or image_embeds."
        )


def check_generation_kwargs(generation_kwargs: dict | None, free: str = "") -> None:
    """Raises `ValueError` for options of `generate` that the pipeline sets itself, but for one that may be free."""
    taken = [name for name in _RESERVED if name in (generation_kwargs or {}) and name != free]
    if taken:
        raise ValueError(f"generation_kwargs may not contain {', '.join(taken)}: the pipeline sets them.")


def _check_embeds(pipeline, name: str, embeds) -> int:
    """How many rows generation embeddings have."""
    if pipeline.is_unclip:
        rank, dim, shape = 2, pipeline.image_normalizer.config.embedding_dim, "(rows, {})"
    else:
        rank, dim, shape = 3, width_read_by(pipeline.unet.config), "(rows, tokens, {})"
    if not isinstance(embeds, torch.Tensor) or not embeds.is_floating_point():
        raise TypeError(f"{name} must be a tensor of floats, got {getattr(embeds, 'dtype', type(embeds).__name__)}.")
    if embeds.ndim != rank or dim not in (None, embeds.shape[-1]) or not len(embeds):
        raise ValueError(f"{name} must have shape {shape.format(dim or 'width')}, got {tuple(embeds.shape)}.")
    return len(embeds)


def _check_tokens(pipeline, embeds, negative_prompt_embeds, guidance_scale: float, negative: bool) -> None:
    """Raises `ValueError` if embeddings and what guidance leads away from are of different shapes."""
    if pipeline.is_unclip or guidance_scale <= 1 or embeds_guidance(pipeline.unet):
        return
    tokenizer, empty = pipeline.visual_tokenizer, pipeline.empty_prompt
    of_codes = None if tokenizer is None else (tokenizer.config.num_generation_tokens, tokenizer.config.generation_dim)
    shape = of_codes if embeds is None else tuple(embeds.shape[1:])
    other: tuple | None
    if negative_prompt_embeds is not None:
        name, other = "negative_prompt_embeds", tuple(negative_prompt_embeds.shape[1:])
    elif negative:
        name, other = "codes that guidance leads away from", of_codes
    else:
        name, other = "empty prompt", None if empty is None else tuple(empty.embeds.shape)
    if other not in (None, shape):
        raise ValueError(
            f"The generation embeddings have the shape {shape} and those of the {name} {other}: (tokens, width) must "
            "be equal. Without guidance (guidance_scale=1) any number of tokens is drawn."
        )


def _check_steps(scheduler, num_inference_steps, timesteps, sigmas, eta) -> None:
    if not hasattr(scheduler, "scale_model_input") or not hasattr(scheduler, "init_noise_sigma"):
        raise ValueError(
            f"{type(scheduler).__name__} is for flow matching, or for models of another kind. These UNets predict "
            "noise or velocity: take another scheduler, such as DPMSolverMultistepScheduler."
        )
    if num_inference_steps < 1:
        raise ValueError(f"num_inference_steps must be at least 1, got {num_inference_steps}.")
    if timesteps is not None and sigmas is not None:
        raise ValueError("Give timesteps or sigmas, not both.")
    for name, value in (("timesteps", timesteps), ("sigmas", sigmas)):
        if value is None:
            continue
        if len(value) == 0:
            raise ValueError(f"{name} is empty.")
        if name not in inspect.signature(scheduler.set_timesteps).parameters:
            raise ValueError(f"{type(scheduler).__name__} takes no {name} of your own; give num_inference_steps.")
    if eta and "eta" not in inspect.signature(scheduler.step).parameters:
        raise ValueError(f"{type(scheduler).__name__} has no eta; DDIMScheduler has.")


def _check_guidance(pipeline, guidance_scale, guidance_rescale, negative: bool, noise_level) -> None:
    if not math.isfinite(guidance_scale):
        raise ValueError(f"guidance_scale must be a finite number, got {guidance_scale}.")
    if not 0 <= guidance_rescale <= 1:
        raise ValueError(f"guidance_rescale must be from 0 to 1, got {guidance_rescale}.")
    guided = guidance_scale > 1 and not embeds_guidance(pipeline.unet)
    if guidance_rescale and not guided:
        raise ValueError(
            f"guidance_rescale changes predictions that are guided by two rows: with guidance_scale={guidance_scale} "
            "and this UNet none is."
        )
    if pipeline.is_unclip:
        levels = pipeline.image_noising_scheduler.config.num_train_timesteps
        if not 0 <= noise_level < levels:
            raise ValueError(f"noise_level must be in [0, {levels}), got {noise_level}.")
    elif noise_level:
        raise ValueError("noise_level is for unCLIP (SEED-2); this pipeline draws with Stable Diffusion (SEED-1).")
    needs_empty_prompt = pipeline.is_unclip or (guided and not negative)
    if needs_empty_prompt and pipeline.empty_prompt is None:
        needy = "unCLIP" if pipeline.is_unclip else f"guidance_scale={guidance_scale}"
        raise ValueError(
            f"{needy} needs the embedding of the empty prompt. Build the pipeline with "
            "empty_prompt=, or with the diffusion model's text_encoder= and tokenizer=; Stable "
            "Diffusion can also draw with guidance_scale=1."
        )


def check_prompt(pipeline, prompt, name: str = "prompt") -> int:
    """The number of prompts; raises `ValueError` or `TypeError` if the pipeline cannot write their codes."""
    check_seed_model(pipeline, name)
    if is_a(pipeline.seed_model, "SeedTokenizer"):
        raise ValueError(
            "A prompt needs a language model, and this pipeline's seed_model is a bare SeedTokenizer. "
            "Build it with a SeedForConditionalGeneration, or call it with image= or codes=."
        )
    if pipeline.processor is None:
        raise ValueError("A prompt needs a text tokenizer. Build the pipeline with processor=SeedProcessor(...).")
    prompts = [prompt] if isinstance(prompt, str) else prompt
    if not isinstance(prompts, (list, tuple)) or not all(isinstance(text, str) for text in prompts):
        raise TypeError(f"{name} must be a string or a list of strings, got {type(prompt).__name__}.")
    if not prompts or not all(text.strip() for text in prompts):
        raise ValueError(
            "A prompt is empty. Say what to draw."
            if name == "prompt"
            else f"{name} is empty. Say what guidance leads away from, or leave it out."
        )
    _check_lengths(pipeline, prompts)
    return len(prompts)


def _check_lengths(pipeline, prompts) -> None:
    """Raises `ValueError`, with their numbers, for prompts after which the model has no room for an image."""
    config = pipeline.seed_model.config.text_config
    room = config.max_position_embeddings - config.num_query_tokens - 2
    lengths = [int(row.sum()) for row in pipeline.processor.draw(list(prompts)).attention_mask]
    too_long = [f"prompt {row} ({length} tokens)" for row, length in enumerate(lengths) if length > room]
    if too_long:
        raise ValueError(
            f"{', '.join(too_long)}: too long. The model has {config.max_position_embeddings} positions, and an image "
            f"takes {config.num_query_tokens + 2}: there is room for no more than {room} tokens of a prompt."
        )


def _check_negative(
    pipeline, negative_prompt, negative_codes, negative_prompt_embeds, guidance_scale, rows: int, of_each: int
) -> bool:
    names = ("negative_prompt", "negative_codes", "negative_prompt_embeds")
    values = dict(zip(names, (negative_prompt, negative_codes, negative_prompt_embeds)))
    given = [name for name, value in values.items() if value is not None]
    if not given:
        return False
    if len(given) > 1:
        raise ValueError(f"Give one of {', '.join(names)}, not {' and '.join(given)}.")
    if guidance_scale <= 1:
        raise ValueError(f"Only guidance leads away from something: guidance_scale={guidance_scale} is none.")
    if embeds_guidance(pipeline.unet):
        raise ValueError(
            "This UNet was distilled to guide itself (time_cond_proj_dim), away from nothing else: leave out "
            f"{given[0]}."
        )
    if negative_prompt_embeds is not None:
        given_rows = _check_embeds(pipeline, "negative_prompt_embeds", negative_prompt_embeds)
        if given_rows not in (1, rows, rows // of_each):
            raise ValueError(
                f"negative_prompt_embeds has {given_rows} rows for {rows} images. Give one for all, or one each."
            )
        return True
    if pipeline.seed_model is None:
        raise ValueError(f"{given[0]} needs a seed_model, and this pipeline has none: give negative_prompt_embeds.")
    if negative_prompt is not None:
        if not isinstance(negative_prompt, str):
            raise TypeError(f"negative_prompt must be a string, got {type(negative_prompt).__name__}.")
        check_prompt(pipeline, negative_prompt, "negative_prompt")
    elif _check_codes(pipeline, negative_codes) != 1:
        raise ValueError(f"negative_codes are those of one image, got {tuple(negative_codes.shape)}.")
    return True


def check_candidates(pipeline, num_candidates: int, generation_kwargs: dict | None) -> None:
    """Raises `ValueError` if this pipeline cannot rank this many candidates."""
    if num_candidates < 1:
        raise ValueError(f"num_candidates must be at least 1, got {num_candidates}.")
    if num_candidates == 1:
        return
    config, words = pipeline.visual_tokenizer.config, pipeline.seed_model.config.text_config.text_vocab_size
    if not config.text_tower:
        raise ValueError(
            f"num_candidates={num_candidates} needs a tokenizer with its text tower (text_tower=True): that tells "
            "how well codes fit a prompt. This one has none: pass num_candidates=1."
        )
    if config.qformer_config.vocab_size != words:
        raise ValueError(
            f"num_candidates={num_candidates} needs a text tower that reads the language model's vocabulary of "
            f"{words} tokens. This one has {config.qformer_config.vocab_size}: pass num_candidates=1."
        )
    if not (generation_kwargs or {}).get("do_sample", True):
        raise ValueError(
            f"num_candidates={num_candidates} needs sampling, or all candidates are the same. Leave do_sample out "
            "of generation_kwargs, or pass num_candidates=1."
        )


def _check_codes(pipeline, codes) -> int:
    if isinstance(codes, torch.Tensor) and codes.ndim == 1:
        codes = codes.unsqueeze(0)
    rows = len(pipeline.visual_tokenizer.check_codes(codes))
    if rows == 0:
        raise ValueError("codes has no rows.")
    return rows


__all__ = [
    "check_candidates",
    "check_generation_kwargs",
    "check_inputs",
    "check_prompt",
    "check_seed_model",
]
