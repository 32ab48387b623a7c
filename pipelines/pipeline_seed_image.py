"""The SEED image pipeline: prompt, picture or visual codes in, pictures out (arXiv 2307.08041, section 2.3).

    prompt --language model--+
    picture --tokenizer------+--> codes --tokenizer--> generation embeddings --UNet--> latents --VAE--> pictures
    codes -------------------+

The generation embeddings stand where the diffusion model's own text embeddings would (SEED-1) or where unCLIP has its
image embedding (SEED-2), so the UNet, the VAE and the scheduler are those of an unchanged Stable Diffusion or unCLIP.
"""

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    ModelMixin,
    SchedulerMixin,
    UNet2DConditionModel,
)
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from huggingface_hub import snapshot_download
from PIL import Image
from transformers import PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin

from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from seed_hf.modeling.publishing_seed import PrivateByDefault

from .diffusion_parts import check_fit, load_diffusion, parts_of, unclip_labels
from .empty_prompt import EmptyPromptEmbedding
from .hub_code import add_code, installed_classes, is_a
from .pipeline_inputs import check_candidates, check_inputs


# Stable Diffusion's noise schedule with the fast solver, for pipelines that are built without a scheduler.
_DEFAULT_SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "algorithm_type": "dpmsolver++",
    "steps_offset": 1,
}


@dataclass
class SeedImagePipelineOutput(BaseOutput):
    """Output of [`SeedImagePipeline`].

    Args:
        images: `list[PIL.Image.Image]`, or an array `(rows, height, width, 3)` for `"np"`, a tensor `(rows, 3, height,
            width)` in [0, 1] for `"pt"`, the latents for `"latent"`.
        codes: `torch.LongTensor` of shape `(rows, num_query_tokens)`: the codes that each picture was drawn from.
    """

    images: list[Image.Image] | np.ndarray | torch.Tensor
    codes: torch.Tensor


class SeedImagePipeline(PrivateByDefault, DiffusionPipeline):
    r"""Draws pictures from prompts, from other pictures, or from visual codes.

    Args:
        seed_model ([`SeedForConditionalGeneration`] or [`SeedTokenizer`]): Makes and reads the codes. A bare tokenizer
            draws from pictures and codes, not from prompts.
        unet (`UNet2DConditionModel`): Its `cross_attention_dim` is the tokenizer's `generation_dim`.
        vae (`AutoencoderKL` or `AutoencoderDC`): Decodes the latents.
        scheduler (`SchedulerMixin`, *optional*): Defaults to `DPMSolverMultistepScheduler` (DPM-Solver++) with
            Stable Diffusion's noise schedule. Pass your own if the UNet was trained with another schedule.
        processor ([`SeedProcessor`], *optional*): Prompts need it. Without one, pictures are prepared by the default
            [`SeedImageProcessor`] at the image encoder's size.
        text_encoder, tokenizer (*optional*): The diffusion model's own, only used to make `empty_prompt`.
        empty_prompt ([`EmptyPromptEmbedding`], *optional*): For guidance; made from `text_encoder` and `tokenizer`
            when these are given and it is not.
        image_normalizer (`StableUnCLIPImageNormalizer`), image_noising_scheduler (`SchedulerMixin`, *optional*):
            unCLIP's own; a tokenizer with the image-aligned target (SEED-2) needs both.
        guidance_scale (`float`, *optional*, defaults to 7.5): What a call uses unless told otherwise; saved along.
        num_candidates (`int`, *optional*, defaults to 1): Likewise, see `__call__`.

    Raises:
        TypeError: If `seed_model` or `processor` is something else.
        ValueError: If the parts or their sizes do not fit.
    """

    model_cpu_offload_seq = "text_encoder->seed_model->empty_prompt->unet->vae"
    _exclude_from_cpu_offload = ["image_normalizer"]
    _optional_components = [
        "scheduler",
        "processor",
        "text_encoder",
        "tokenizer",
        "empty_prompt",
        "image_normalizer",
        "image_noising_scheduler",
    ]
    _callback_tensor_inputs = ["latents", "prompt_embeds"]

    def __init__(
        self,
        seed_model: PreTrainedModel,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL | AutoencoderDC,
        scheduler: SchedulerMixin | None = None,
        processor: ProcessorMixin | None = None,
        text_encoder: PreTrainedModel | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        empty_prompt: ModelMixin | None = None,
        image_normalizer: StableUnCLIPImageNormalizer | None = None,
        image_noising_scheduler: SchedulerMixin | None = None,
        guidance_scale: float = 7.5,
        num_candidates: int = 1,
    ):
        super().__init__()
        if not is_a(seed_model, "SeedForConditionalGeneration", "SeedTokenizer"):
            raise TypeError(
                "seed_model must be a SeedForConditionalGeneration or a SeedTokenizer, "
                f"got {type(seed_model).__name__}."
            )
        if processor is not None and not is_a(processor, "SeedProcessor"):
            raise TypeError(f"processor must be a SeedProcessor or None, got {type(processor).__name__}.")
        visual_tokenizer = seed_model if is_a(seed_model, "SeedTokenizer") else seed_model.visual_tokenizer
        if processor is not None and visual_tokenizer is not seed_model:
            text_config = seed_model.config.text_config
            if differing := processor.vocabulary.differences(text_config):
                theirs = {name: getattr(processor.vocabulary, name) for name in differing}
                ours = {name: getattr(text_config, name) for name in differing}
                raise ValueError(
                    f"The processor's text tokenizer has {theirs}, the language model {ours}. They do not belong "
                    "together: load the processor from the folder of the language model."
                )
        check_fit(visual_tokenizer.config, unet.config, vae.config, image_normalizer, image_noising_scheduler)
        if empty_prompt is None and text_encoder is not None and tokenizer is not None:
            # unCLIP reads the empty prompt as its text encoder pads it; elsewhere it stands beside the codes' own.
            of_text = visual_tokenizer.config.generation_target == "text"
            tokens = visual_tokenizer.config.num_generation_tokens if of_text else tokenizer.model_max_length
            empty_prompt = EmptyPromptEmbedding.from_text_encoder(text_encoder, tokenizer, tokens)
        self.register_modules(
            seed_model=seed_model,
            unet=unet,
            vae=vae,
            scheduler=scheduler or DPMSolverMultistepScheduler(**_DEFAULT_SCHEDULER),
            processor=processor,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            empty_prompt=empty_prompt,
            image_normalizer=image_normalizer,
            image_noising_scheduler=image_noising_scheduler,
        )
        self.register_to_config(guidance_scale=guidance_scale, num_candidates=num_candidates)
        if isinstance(vae, AutoencoderDC):
            self.vae_scale_factor = vae.spatial_compression_ratio
        else:
            self.vae_scale_factor = 2 ** (len(vae.config.block_out_channels) - 1)
        self.vae_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs) -> "SeedImagePipeline":
        """Loads a folder that `save_pretrained` wrote, or a Hub repository with the same content.

        All arguments of `DiffusionPipeline.from_pretrained` work. A repository is downloaded whole first, because
        diffusers itself finds classes from outside only for a local folder; importing this module has made them known.
        """
        folder = os.fspath(pretrained_model_name_or_path)
        if not os.path.isdir(folder):
            if os.path.exists(folder) or folder.startswith((".", "/", "~")) or folder.count("/") > 1:
                raise ValueError(f"{folder}: no such folder. Give a pipeline's folder or a repository id 'user/name'.")
            options = ("revision", "token", "cache_dir", "local_files_only", "force_download")
            folder = snapshot_download(folder, **{name: kwargs.pop(name) for name in options if name in kwargs})
        return super().from_pretrained(folder, **kwargs)

    @classmethod
    def load_config(cls, *args, **kwargs):
        config = super().load_config(*args, **kwargs)
        return installed_classes(config) if __name__.startswith("seed_hf.") else config

    def save_config(self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs) -> None:
        """Writes `model_index.json`, and the code for those who have not installed this package.

        They load the folder with `DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)`.
        `save_pretrained` calls this when the components are written and, if asked to, uploads what is there then.
        """
        super().save_config(save_directory, push_to_hub=push_to_hub, **kwargs)
        add_code(self, save_directory)

    @classmethod
    def from_diffusion(
        cls,
        diffusion: str | os.PathLike | DiffusionPipeline,
        seed_model: PreTrainedModel,
        *,
        processor: ProcessorMixin | None = None,
        guidance_scale: float | None = None,
        **kwargs,
    ) -> "SeedImagePipeline":
        """From the diffusion model that a tokenizer was aligned with: Stable Diffusion (SEED-1) or unCLIP (SEED-2).

        Its text encoder is used once, for the empty prompt, and does not become part of the pipeline.

        Args:
            diffusion: A `StableDiffusionPipeline` or `StableUnCLIPImg2ImgPipeline`, its folder or repository id.
            seed_model, processor: As for the class itself.
            guidance_scale: The new pipeline's default; 7.5 for Stable Diffusion and 10 for unCLIP, as the authors.
            kwargs: For loading: `dtype`, `revision`, `variant`, `local_files_only` ...

        Raises:
            TypeError, ValueError: It is another pipeline, or does not fit the tokenizer.
        """
        donor = diffusion if isinstance(diffusion, DiffusionPipeline) else load_diffusion(diffusion, **kwargs)
        parts = parts_of(donor)
        if guidance_scale is not None:
            parts["guidance_scale"] = guidance_scale
        pipe = cls(seed_model, processor=processor, **parts)
        pipe.register_modules(text_encoder=None, tokenizer=None)
        return pipe

    @property
    def visual_tokenizer(self) -> PreTrainedModel:
        """The [`SeedTokenizer`], whichever kind `seed_model` is."""
        return self.seed_model if is_a(self.seed_model, "SeedTokenizer") else self.seed_model.visual_tokenizer

    @property
    def is_unclip(self) -> bool:
        """Whether the tokenizer's embedding is the image-aligned one (SEED-2)."""
        return self.visual_tokenizer.config.generation_target == "image"

    @property
    def guidance_scale(self) -> float:
        """That of the call under way, as callbacks expect it; 1 is none."""
        return self._guidance_scale

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether the call under way mixes two predictions."""
        return self._guidance_scale > 1

    @property
    def num_timesteps(self) -> int:
        """Denoising steps of the call under way."""
        return self._num_timesteps

    @property
    def interrupt(self) -> bool:
        """Whether a callback has asked to stop, by setting `pipe._interrupt`."""
        return self._interrupt

    def check_inputs(self, **inputs) -> None:
        """Raises `ValueError` or `TypeError` for anything that a call cannot work with, before any model runs."""
        check_inputs(self, **inputs)

    def encode_prompt(
        self,
        prompt: str | list[str],
        generator: torch.Generator | list[torch.Generator] | None = None,
        generation_kwargs: dict | None = None,
        num_candidates: int | None = None,
    ) -> torch.Tensor:
        """Lets the language model say the codes of a picture: `(rows, num_query_tokens)`.

        Of several candidates for a prompt the one is kept whose image features lie nearest to the prompt's text
        features in the tokenizer's own space (stage I), as DALL-E ranked its pictures with CLIP. Nothing is drawn for
        it: codes have image features of their own.

        Transformers samples from torch's global state. So that a generator also fixes sampled codes, a seed is drawn
        from a copy of it (of the first in a list) and used for this step alone. The generator and the global state are
        left as they were: the same codes, given as `codes=`, are then drawn with the same noise.
        """
        device = self._execution_device
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        inputs = self.processor.draw(prompts).to(device)
        options = dict(generation_kwargs or {})
        if num_candidates is None:
            num_candidates = self.config.num_candidates
        check_candidates(self, num_candidates, options)
        if num_candidates > 1:
            options = {"do_sample": True, "top_k": 0, **options, "num_return_sequences": num_candidates}
        _wake(self.seed_model)
        source = generator[0] if isinstance(generator, list) else generator
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else [], enabled=source is not None):
            if source is not None:
                copied = torch.Generator(source.device)
                copied.set_state(source.get_state())
                torch.manual_seed(torch.randint(2**62, (1,), generator=copied, device=source.device).item())
            ids = self.seed_model.generate(**inputs, generation_mode="image", **options)
        start = inputs.input_ids.shape[1] + 1  # after the prompt and <img>; image mode makes the span valid
        config = self.seed_model.config.text_config
        codes = ids[:, start : start + config.num_query_tokens] - config.visual_token_offset
        return codes if num_candidates == 1 else self._nearest(codes, prompts)

    @torch.no_grad()
    def _nearest(self, codes: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        """Of the rows of codes that belong to each prompt, equally many, the one nearest to it."""
        limit = self.visual_tokenizer.config.qformer_config.max_position_embeddings
        texts = self.processor.text_tower(prompts, limit).to(codes.device)
        wanted = self.visual_tokenizer.get_text_features(texts.input_ids, texts.attention_mask)
        found = self.visual_tokenizer.get_image_features(codes=codes).unflatten(0, (len(prompts), -1))
        best = torch.einsum("pcd,pd->pc", found, wanted).argmax(1)
        return codes.unflatten(0, (len(prompts), -1))[torch.arange(len(prompts), device=codes.device), best]

    def encode_image(self, image: Image.Image | list[Image.Image]) -> torch.Tensor:
        """The codes of pictures: `(rows, num_query_tokens)`."""
        images = [image] if isinstance(image, Image.Image) else list(image)
        pixel_values = self._image_processor()(images, return_tensors="pt").pixel_values
        _wake(self.seed_model)
        return self.visual_tokenizer.encode(pixel_values.to(self._execution_device, self.visual_tokenizer.dtype))

    def encode_codes(self, codes: torch.Tensor, do_classifier_free_guidance: bool) -> torch.Tensor:
        """What Stable Diffusion's UNet reads: `(rows, tokens, dim)`, the empty prompt's rows first under guidance."""
        _wake(self.seed_model)
        embeds = self.visual_tokenizer.decode(codes).to(self.unet.dtype)
        if not do_classifier_free_guidance:
            return embeds
        return torch.cat([self.empty_prompt(len(embeds)).to(embeds.device, embeds.dtype), embeds])

    def encode_codes_for_unclip(
        self, codes: torch.Tensor, do_classifier_free_guidance: bool, noise_level: int = 0, generator=None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the UNet of unCLIP reads: the empty prompt `(rows, tokens, dim)` and class labels `(rows, 2 dim)`.

        Under guidance the rows are doubled; the first half of the labels is zero, as in diffusers.
        """
        _wake(self.seed_model)
        embeds = self.visual_tokenizer.decode(codes).to(self.unet.dtype)
        labels = unclip_labels(
            embeds, self.image_normalizer, self.image_noising_scheduler, noise_level, generator=generator
        )
        if do_classifier_free_guidance:
            labels = torch.cat([torch.zeros_like(labels), labels])
        return self.empty_prompt(len(labels)).to(labels.device, labels.dtype), labels

    def prepare_latents(self, rows: int, height: int, width: int, generator, latents=None) -> torch.Tensor:
        """The noise that drawing starts from, scaled for the scheduler: `(rows, channels, height / f, width / f)`."""
        if latents is None:
            latents = randn_tensor(
                self._latents_shape(rows, height, width),
                generator=generator,
                device=self._execution_device,
                dtype=self.unet.dtype,
            )
        latents = latents.to(self._execution_device, self.unet.dtype)
        return latents * self.scheduler.init_noise_sigma

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        image: Image.Image | list[Image.Image] | None = None,
        codes: torch.Tensor | None = None,
        *,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 25,
        guidance_scale: float | None = None,
        num_images_per_prompt: int = 1,
        num_candidates: int | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        noise_level: int = 0,
        generation_kwargs: dict | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable | PipelineCallback | MultiPipelineCallbacks | None = None,
        callback_on_step_end_tensor_inputs: list[str] | None = None,
    ) -> SeedImagePipelineOutput | tuple:
        r"""Draws. Exactly one of `prompt`, `image` and `codes` is given.

        Args:
            prompt (`str` or `list[str]`): What to draw, in words; the language model turns it into codes.
            image (`PIL.Image.Image` or a list of them): Pictures to draw again from nothing but their codes.
            codes (`torch.LongTensor` of shape `(rows, num_query_tokens)` or `(num_query_tokens,)`): Visual codes.
            height, width (`int`, *optional*): In pixels; default to the size that the UNet was trained at.
            num_inference_steps (`int`, *optional*, defaults to 25): Denoising steps.
            guidance_scale (`float`, *optional*): Classifier-free guidance; 1 switches it off. Defaults to the
                pipeline's own `guidance_scale`.
            num_images_per_prompt (`int`, *optional*, defaults to 1): Pictures from each row of codes.
            num_candidates (`int`, *optional*): For a prompt: of so many sampled rows of codes the one is drawn that
                the tokenizer itself finds nearest to the prompt. 1 takes what the language model says first. Defaults
                to the pipeline's own `num_candidates`.
            generator (`torch.Generator` or a list with one for each picture, *optional*): Makes the call repeatable.
            latents (`torch.Tensor`, *optional*): Starting noise, instead of a generator.
            noise_level (`int`, *optional*, defaults to 0): unCLIP only: noise on the image embedding; more of it gives
                pictures that keep less to the codes.
            generation_kwargs (`dict`, *optional*): Options of the language model's `generate` such as `do_sample`,
                `temperature`, `top_k`, `num_beams`.
            output_type (`str`, *optional*, defaults to `"pil"`): `"pil"`, `"np"`, `"pt"` or `"latent"`.
            return_dict (`bool`, *optional*, defaults to `True`): `False` gives the tuple `(images, codes)`.
            callback_on_step_end (`Callable`, *optional*): Called as `(pipeline, step, timestep, tensors)` after each
                step; may return changed tensors.
            callback_on_step_end_tensor_inputs (`list[str]`, *optional*, defaults to `["latents"]`): The tensors it
                gets: `"latents"`, `"prompt_embeds"`.

        Returns:
            [`SeedImagePipelineOutput`]: One picture and one row of codes for each row and `num_images_per_prompt`.

        Raises:
            ValueError, TypeError: For inputs that do not fit, before any model runs.
        """
        if isinstance(callback_on_step_end, (PipelineCallback, MultiPipelineCallbacks)):
            callback_on_step_end_tensor_inputs = callback_on_step_end.tensor_inputs
        elif callback_on_step_end_tensor_inputs is None:
            callback_on_step_end_tensor_inputs = ["latents"]
        default_height, default_width = self._default_size()
        height, width = height or default_height, width or default_width
        if guidance_scale is None:
            guidance_scale = self.config.guidance_scale
        if num_candidates is None:
            num_candidates = self.config.num_candidates
        self.check_inputs(
            prompt=prompt,
            image=image,
            codes=codes,
            height=height,
            width=width,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            num_images_per_prompt=num_images_per_prompt,
            num_candidates=num_candidates,
            generator=generator,
            latents=latents,
            generation_kwargs=generation_kwargs,
            output_type=output_type,
            callback_on_step_end_tensor_inputs=callback_on_step_end_tensor_inputs,
            noise_level=noise_level,
        )
        self._guidance_scale = guidance_scale
        self._interrupt = False
        device = self._execution_device

        # 1. To codes, whatever was given
        if prompt is not None:
            codes = self.encode_prompt(prompt, generator, generation_kwargs, num_candidates)
        elif image is not None:
            codes = self.encode_image(image)
        assert codes is not None  # check_inputs wants one of the three
        codes = codes.reshape(-1, codes.shape[-1]).to(device, torch.long)
        codes = codes.repeat_interleave(num_images_per_prompt, dim=0)

        # 2. From codes to the condition, and the noise to start from
        if self.is_unclip:
            prompt_embeds, class_labels = self.encode_codes_for_unclip(
                codes, self.do_classifier_free_guidance, noise_level, generator
            )
        else:
            prompt_embeds, class_labels = self.encode_codes(codes, self.do_classifier_free_guidance), None
        latents = self.prepare_latents(len(codes), height, width, generator, latents)
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        timesteps = self.scheduler.timesteps
        self._num_timesteps = len(timesteps)
        takes_generator = "generator" in inspect.signature(self.scheduler.step).parameters
        step_kwargs = {"generator": generator} if takes_generator else {}

        # 3. Denoise
        with self.progress_bar(total=len(timesteps)) as progress_bar:
            for step, timestep in enumerate(timesteps):
                if self.interrupt:
                    break
                model_input = torch.cat([latents] * 2) if self.do_classifier_free_guidance else latents
                model_input = self.scheduler.scale_model_input(model_input, timestep)
                noise = self.unet(
                    model_input,
                    timestep,
                    encoder_hidden_states=prompt_embeds,
                    class_labels=class_labels,
                    return_dict=False,
                )[0]
                if self.do_classifier_free_guidance:
                    noise_empty, noise_codes = noise.chunk(2)
                    noise = noise_empty + self.guidance_scale * (noise_codes - noise_empty)
                latents = self.scheduler.step(noise, timestep, latents, **step_kwargs, return_dict=False)[0]
                if callback_on_step_end is not None:
                    tensors = {"latents": latents, "prompt_embeds": prompt_embeds}
                    tensors = {name: tensors[name] for name in callback_on_step_end_tensor_inputs}
                    changed = callback_on_step_end(self, step, timestep, tensors) or {}
                    latents = changed.pop("latents", latents)
                    prompt_embeds = changed.pop("prompt_embeds", prompt_embeds)
                progress_bar.update()

        # 4. To pictures
        if output_type == "latent":
            images = latents
        else:
            latents = (latents / self.vae.config.scaling_factor).to(self.vae.dtype)
            images = self.vae.decode(latents, return_dict=False)[0]
            images = self.vae_processor.postprocess(images, output_type=output_type)
        self.maybe_free_model_hooks()
        if not return_dict:
            return images, codes
        return SeedImagePipelineOutput(images=images, codes=codes)

    def _default_size(self) -> tuple[int, int]:
        size = self.unet.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        return height * self.vae_scale_factor, width * self.vae_scale_factor

    def _latents_shape(self, rows: int, height: int, width: int) -> tuple[int, int, int, int]:
        factor = self.vae_scale_factor
        return rows, self.unet.config.in_channels, height // factor, width // factor

    def _image_processor(self) -> SeedImageProcessor:
        if self.processor is not None:
            return self.processor.image_processor
        size = self.visual_tokenizer.config.vision_config.image_size
        return SeedImageProcessor(size={"height": size, "width": size})


def _wake(module) -> None:
    """Moves an offloaded model to the accelerator: accelerate's hooks only watch `forward`, not other methods."""
    if hasattr(module, "_hf_hook"):
        module._hf_hook.pre_forward(module)


__all__ = ["SeedImagePipeline", "SeedImagePipelineOutput"]
