"""The SEED image pipeline: prompt, image or visual codes in, images out (arXiv 2307.08041, section 2.3).

    prompt --language model--+
    image ---tokenizer-------+--> codes --tokenizer--> generation embeddings --UNet--> latents --VAE--> images
    codes -------------------+

The generation embeddings replace the text embeddings of Stable Diffusion (SEED-1) or the image embedding of unCLIP
(SEED-2). The UNet, the VAE and the scheduler are those of an unchanged Stable Diffusion or unCLIP.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    DiffusionPipeline,
    ModelMixin,
    SchedulerMixin,
    UNet2DConditionModel,
)
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.image_processor import PipelineImageInput, VaeImageProcessor
from diffusers.pipelines.pipeline_utils import StableDiffusionMixin
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
from diffusers.utils.torch_utils import randn_tensor
from transformers import PreTrainedTokenizerBase, ProcessorMixin
from transformers.modeling_utils import PreTrainedModel

from seed_hf.modeling.finite_values_seed import NotFiniteError, rows_not_finite
from seed_hf.modeling.publishing_seed import PrivateByDefault

from .call_state import CallState
from .captured_unet import CapturedUNet
from .conditions import text_condition, unclip_condition
from .denoising import set_timesteps
from .diffusion_parts import check_fit, default_scheduler
from .drawing_in_parts import draw_in_parts
from .empty_prompt import EmptyPromptEmbedding
from .encoding import Encoding, visual_tokenizer_of
from .hub_code import is_a
from .image_inputs import pil_images
from .pipeline_folder import PipelineFolder
from .pipeline_inputs import check_inputs
from .pipeline_output import SeedImagePipelineOutput
from .processor_check import check_processor
from .unet_lora import UNetLora
from .whole_parts import check_parts


class SeedImagePipeline(
    CallState, Encoding, PipelineFolder, PrivateByDefault, UNetLora, StableDiffusionMixin, DiffusionPipeline
):
    r"""Draws images from prompts, from other images, from visual codes, or from generation embeddings.

    It has what `StableDiffusionPipeline` has for its UNet: `load_lora_weights`, `enable_freeu`,
    `fuse_qkv_projections`, offloading. Parts may be left out with `from_pretrained(...,
    unet=None)`: a pipeline without `unet` encodes alone, one without `vae` draws latents, one without `seed_model`
    draws from embeddings.

    Args:
        seed_model ([`SeedForConditionalGeneration`] or [`SeedTokenizer`]): Makes and reads the codes. A bare tokenizer
            draws from images and codes, not from prompts. `None` draws from embeddings alone.
        unet (`UNet2DConditionModel`): Its `cross_attention_dim` is the tokenizer's `generation_dim`.
        vae (`AutoencoderKL` or `AutoencoderDC`): Decodes the latents.
        scheduler (`SchedulerMixin`, *optional*): Defaults to `DPMSolverMultistepScheduler` (DPM-Solver++) with
            Stable Diffusion's noise schedule. Pass your own if the UNet was trained with another schedule.
        processor ([`SeedProcessor`], *optional*): Prompts need it. Without one, images are prepared by the default
            [`SeedImageProcessor`] at the image encoder's size.
        text_encoder, tokenizer (*optional*): The diffusion model's own, only used to make `empty_prompt`.
        empty_prompt ([`EmptyPromptEmbedding`], *optional*): For guidance; made from `text_encoder` and `tokenizer`
            when these are given and it is not.
        image_normalizer (`StableUnCLIPImageNormalizer`), image_noising_scheduler (`SchedulerMixin`, *optional*):
            unCLIP's own; a tokenizer with the image-aligned target (SEED-2) needs both.
        guidance_scale (`float`, *optional*, defaults to 7.5): Default of a call; saved with the pipeline.
        num_candidates (`int`, *optional*, defaults to 1): Default of a call; saved with the pipeline.

    Raises:
        TypeError: If `seed_model` or `processor` is something else.
        ValueError: If the parts or their sizes do not fit, or a part lacks weights.
    """

    model_cpu_offload_seq = "text_encoder->seed_model->empty_prompt->unet->vae"
    _exclude_from_cpu_offload = ["image_normalizer"]
    _optional_components = [
        "seed_model",
        "unet",
        "vae",
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
        seed_model: PreTrainedModel | None,
        unet: UNet2DConditionModel | None,
        vae: AutoencoderKL | AutoencoderDC | None,
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
        if seed_model is not None and not is_a(seed_model, "SeedForConditionalGeneration", "SeedTokenizer"):
            raise TypeError(
                "seed_model must be a SeedForConditionalGeneration, a SeedTokenizer or None, "
                f"got {type(seed_model).__name__}."
            )
        if processor is not None and not is_a(processor, "SeedProcessor"):
            raise TypeError(f"processor must be a SeedProcessor or None, got {type(processor).__name__}.")
        visual_tokenizer = visual_tokenizer_of(seed_model)
        if processor is not None and seed_model is not None and visual_tokenizer is not seed_model:
            check_processor(processor, seed_model.config.text_config)
        check_parts(unet, vae, empty_prompt, image_normalizer)
        config = getattr(visual_tokenizer, "config", None)
        check_fit(config, unet, vae, empty_prompt, image_normalizer, image_noising_scheduler)
        if empty_prompt is None and text_encoder is not None and tokenizer is not None:
            # unCLIP reads the empty prompt at its text encoder's length, Stable Diffusion at that of the codes'.
            of_text = visual_tokenizer is not None and visual_tokenizer.config.generation_target == "text"
            tokens = visual_tokenizer.config.num_generation_tokens if of_text else tokenizer.model_max_length
            empty_prompt = EmptyPromptEmbedding.from_text_encoder(text_encoder, tokenizer, tokens)
        self.register_modules(
            seed_model=seed_model,
            unet=unet,
            vae=vae,
            scheduler=scheduler or default_scheduler(),
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
            self.vae_scale_factor = 2 ** (len(vae.config.block_out_channels) - 1) if vae is not None else 8
        self.vae_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)
        self.captured_unet: CapturedUNet | None = None

    @property
    def is_unclip(self) -> bool:
        """Whether it draws with unCLIP, from image-aligned embeddings (SEED-2)."""
        if self.visual_tokenizer is not None:
            return self.visual_tokenizer.config.generation_target == "image"
        return self.unet is not None and self.unet.config.class_embed_type == "projection"

    def enable_group_offload(self, onload_device: torch.device, *args, exclude_modules=(), **kwargs) -> None:
        """As in diffusers, for the models that draw. `seed_model` and `image_normalizer` stay on `onload_device`.

        Groups are fetched when a `forward` begins. Codes and embeddings come from other methods, which would compute
        with what is left in the place of the weights.

        Args:
            onload_device: Where models compute.
            exclude_modules: Names of further parts that stay there.
            args, kwargs: As in diffusers: `offload_device`, `offload_type`, `num_blocks_per_group`, `use_stream` ...
        """
        names = [exclude_modules] if isinstance(exclude_modules, str) else list(exclude_modules or ())
        super().enable_group_offload(
            onload_device, *args, exclude_modules=[*names, "seed_model", "image_normalizer"], **kwargs
        )

    def enable_cuda_graphs(self) -> None:
        """Captures the UNet's pass as a CUDA graph at the first call of each shape, and repeats it from then on.

        A small batch then takes the time of the GPU, not that of Python. Call it again after LoRA weights were loaded
        or the UNet was changed in place. On other devices nothing changes. `disable_cuda_graphs` frees the memory.
        """
        self.captured_unet = CapturedUNet()

    def disable_cuda_graphs(self) -> None:
        """Calls the UNet as it is again."""
        self.captured_unet = None

    def check_inputs(self, **inputs) -> None:
        """Raises `ValueError` or `TypeError` for arguments that a call cannot use, before any model runs."""
        check_inputs(self, **inputs)

    def prepare_latents(self, rows: int, height: int, width: int, generator, latents=None) -> torch.Tensor:
        """The starting noise, scaled for the scheduler: `(rows, channels, height / f, width / f)`."""
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
        image: PipelineImageInput | None = None,
        codes: torch.Tensor | None = None,
        *,
        prompt_embeds: torch.Tensor | None = None,
        image_embeds: torch.Tensor | None = None,
        negative_prompt: str | None = None,
        negative_codes: torch.Tensor | None = None,
        negative_prompt_embeds: torch.Tensor | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 20,
        timesteps: list[int] | None = None,
        sigmas: list[float] | None = None,
        guidance_scale: float | None = None,
        guidance_rescale: float = 0.0,
        eta: float = 0.0,
        num_images_per_prompt: int = 1,
        batch_size: int | None = None,
        num_candidates: int | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        noise_level: int = 0,
        generation_kwargs: dict | None = None,
        cross_attention_kwargs: dict[str, Any] | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable | PipelineCallback | MultiPipelineCallbacks | None = None,
        callback_on_step_end_tensor_inputs: list[str] | None = None,
    ) -> Any:  # a tuple with return_dict=False
        r"""Draws images. Give exactly one of `prompt`, `image`, `codes`, `prompt_embeds` and `image_embeds`.

        Args:
            prompt (`str` or `list[str]`): What to draw; the language model turns it into codes.
            image (`PIL.Image.Image`, `np.ndarray`, `torch.Tensor` or a list of them): Images to draw again from their
                codes alone. Arrays are `(height, width, 3)`, tensors `(3, height, width)`, or both with rows first;
                their numbers are uint8 or floats from 0 to 1.
            codes (`torch.LongTensor` of shape `(rows, num_query_tokens)` or `(num_query_tokens,)`): Visual codes.
            prompt_embeds (`torch.Tensor` of shape `(rows, num_generation_tokens, generation_dim)`): Generation
                embeddings for Stable Diffusion (SEED-1), such as `encode_codes` returns.
            image_embeds (`torch.Tensor` of shape `(rows, generation_dim)`): The same for unCLIP (SEED-2).
            negative_prompt (`str`, *optional*): What guidance leads away from; the language model turns it into codes.
            negative_codes (`torch.LongTensor` of shape `(num_query_tokens,)` or `(1, num_query_tokens)`, *optional*):
                The same as codes. By default guidance leads away from the empty prompt.
            negative_prompt_embeds (`torch.Tensor`, *optional*): The same as generation embeddings, one row of the
                shape of `prompt_embeds` or `image_embeds`, or one for each image.
            height, width (`int`, *optional*): In pixels. Default: the size that the UNet was trained at.
            num_inference_steps (`int`, *optional*, defaults to 20): Denoising steps: SEED-2's demo; SEED-1's took 50.
            timesteps (`list[int]`), sigmas (`list[float]`, *optional*): Steps of your own, instead of
                `num_inference_steps`, for schedulers whose `set_timesteps` takes them.
            guidance_scale (`float`, *optional*): Classifier-free guidance; 1 switches it off. Defaults to the
                pipeline's own `guidance_scale`.
            guidance_rescale (`float`, *optional*, defaults to 0): How far guided predictions are scaled back to the
                size of unguided ones, up to 1 (arXiv 2305.08891).
            eta (`float`, *optional*, defaults to 0): Noise of `DDIMScheduler`'s steps (arXiv 2010.02502), for
                schedulers whose `step` takes it.
            num_images_per_prompt (`int`, *optional*, defaults to 1): Images to draw from each row of codes, which
                differ by their noise. For codes of their own, repeat the prompt and sample (`generation_kwargs`).
            batch_size (`int`, *optional*): Images that are denoised and decoded at once, which bounds memory. Each
                image is the same as if all were drawn at once, unless the scheduler draws noise of its own from a
                single generator. By default all.
            num_candidates (`int`, *optional*): For prompts: sample this many code sequences and draw the best match,
                as the tokenizer's text tower ranks them. 1 disables ranking. Default: the pipeline's own.
            generator (`torch.Generator` or a list with one for each image, *optional*): Makes the call repeatable.
                With a list, a prompt's codes and images are those of a call with its own generators alone.
            latents (`torch.Tensor`, *optional*): Starting noise, instead of a generator.
            noise_level (`int`, *optional*, defaults to 0): unCLIP only: noise on the image embedding. More noise gives
                images that follow the codes less.
            generation_kwargs (`dict`, *optional*): Options of the language model's `generate` such as `do_sample`,
                `temperature`, `top_k`, `num_beams`.
            cross_attention_kwargs (`dict`, *optional*): Passed to the UNet's attention processors; `{"scale": 0.5}` is
                the scale of loaded LoRA weights.
            output_type (`str`, *optional*, defaults to `"pil"`): `"pil"`, `"np"`, `"pt"` or `"latent"`.
            return_dict (`bool`, *optional*, defaults to `True`): `False` gives the tuple `(images, codes)`.
            callback_on_step_end (`Callable`, *optional*): Called as `(pipeline, step, timestep, tensors)` after each
                step; may return changed tensors.
            callback_on_step_end_tensor_inputs (`list[str]`, *optional*, defaults to `["latents"]`): The tensors that
                the callback gets: `"latents"`, `"prompt_embeds"`.

        Returns:
            [`SeedImagePipelineOutput`]: `num_images_per_prompt` images, each with its codes, for every prompt, image
            or row of codes or embeddings. Embeddings have no codes: `None`.

        Raises:
            ValueError, TypeError: For inputs that do not fit, before any model runs.
            NotFiniteError: An image is NaN or infinite.
        """
        call = self._checked_call(locals())
        with self._in_call(call.guidance_scale, guidance_rescale, cross_attention_kwargs):
            # 1. To codes, and to generation embeddings, after the scheduler has seen the steps, which it may refuse
            steps = set_timesteps(self.scheduler, num_inference_steps, timesteps, sigmas, self._execution_device)
            codes, embeds, negative = self._embeds_of(call)

            # 2. The condition and the starting noise
            guided, class_labels = self.do_classifier_free_guidance, None
            if self.is_unclip:
                condition, class_labels = unclip_condition(embeds, negative, self, guided, noise_level, generator)
            else:
                condition = text_condition(embeds, negative, self.empty_prompt, guided)
            latents = self.prepare_latents(len(embeds), call.height, call.width, generator, latents)

            # 3. Denoise, and decode to images
            images = draw_in_parts(self, call, steps, latents, condition, class_labels)
        codes = codes if codes is None else codes[: len(images)]  # fewer where a callback has stopped the call
        self.maybe_free_model_hooks()
        if not return_dict:
            return images, codes
        return SeedImagePipelineOutput(images=images, codes=codes)

    def _checked_call(self, arguments: dict[str, Any]) -> SimpleNamespace:
        """The arguments of a call with their defaults, after all checks."""
        call = SimpleNamespace(**arguments)
        del call.self, call.return_dict
        if isinstance(call.callback_on_step_end, (PipelineCallback, MultiPipelineCallbacks)):
            call.callback_on_step_end_tensor_inputs = call.callback_on_step_end.tensor_inputs
        elif call.callback_on_step_end_tensor_inputs is None:
            call.callback_on_step_end_tensor_inputs = ["latents"]
        defaults = {name: self.config[name] for name in ("num_candidates", "guidance_scale")}
        if call.height is None or call.width is None:
            defaults["height"], defaults["width"] = self._default_size()
        for name, default in defaults.items():
            if getattr(call, name) is None:
                setattr(call, name, default)
        if call.image is not None:
            call.image = pil_images(call.image)
        self.check_inputs(**vars(call))
        return call

    def _embeds_of(self, call: SimpleNamespace) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor | None]:
        """(codes, generation embeddings, those that guidance leads away from), of all images of a call"""
        said = (call.generator, call.generation_kwargs, call.num_candidates)
        codes: torch.Tensor | None = None
        embeds = call.prompt_embeds if call.prompt_embeds is not None else call.image_embeds
        if embeds is None:
            each = self._codes_of(call.prompt, call.image, call.codes, *said)
            codes = each.repeat_interleave(call.num_images_per_prompt, dim=0)
            embeds = self.encode_codes(codes)
        else:
            embeds = self._placed(embeds).repeat_interleave(call.num_images_per_prompt, dim=0)
        negative: torch.Tensor | None
        if call.negative_prompt is not None or call.negative_codes is not None:
            prompt = call.negative_prompt
            if prompt is not None and isinstance(call.generator, list) and self.samples_codes(*said[1:]):
                prompt = [prompt] * len(call.generator)  # each by its own
            negative = self.encode_codes(self._codes_of(prompt, None, call.negative_codes, *said))
        elif (negative := call.negative_prompt_embeds) is not None:
            negative = self._placed(negative)
            if len(negative) > 1 and len(negative) != len(embeds):
                negative = negative.repeat_interleave(call.num_images_per_prompt, dim=0)
        return codes, embeds, negative

    def _codes_of(self, prompt, image, codes, generator, generation_kwargs, num_candidates) -> torch.Tensor:
        """The codes `(rows, num_query_tokens)` of whichever is given."""
        if prompt is not None:
            codes = self.encode_prompt(prompt, generator, generation_kwargs, num_candidates)
        elif image is not None:
            codes = self.encode_image(image)
        assert codes is not None  # check_inputs wants one of these
        return codes.reshape(-1, codes.shape[-1]).to(self._execution_device, torch.long)

    def _placed(self, embeds: torch.Tensor) -> torch.Tensor:
        return embeds.to(self._execution_device, self.unet.dtype)

    @torch.no_grad()
    def decode_latents(self, latents: torch.Tensor, output_type: str = "pil") -> Any:
        """Images of denoised latents.

        Args:
            latents: `(rows, channels, height, width)`, as `output_type="latent"` gives them.
            output_type: As in a call.

        Raises:
            NotFiniteError: What the VAE makes of them is NaN or infinite, which would be a black image.
        """
        if output_type == "latent":
            return latents
        latents = (latents / self.vae.config.scaling_factor).to(self.vae.dtype)
        images = self.vae.decode(latents, return_dict=False)[0]
        if wrong := rows_not_finite(images):
            raise NotFiniteError(
                f"{len(wrong)} of {len(images)} images are NaN or infinite, which would be black. Use float32 or "
                "bfloat16 for UNet and VAE, intact weights, and a scheduler and steps that fit the UNet.",
                wrong,
            )
        return self.vae_processor.postprocess(images, output_type=output_type)

    def _default_size(self) -> tuple[int, int]:
        size = 0 if self.unet is None else self.unet.config.sample_size  # check_inputs tells that there is no UNet
        if size is None:
            raise ValueError("The UNet's config has no sample_size: give height and width.")
        height, width = (size, size) if isinstance(size, int) else size
        return height * self.vae_scale_factor, width * self.vae_scale_factor

    def _latents_shape(self, rows: int, height: int, width: int) -> tuple[int, int, int, int]:
        factor = self.vae_scale_factor
        return rows, self.unet.config.in_channels, height // factor, width // factor


__all__ = ["SeedImagePipeline", "SeedImagePipelineOutput"]
