"""From prompts and images to visual codes, and from codes to generation embeddings: the half that draws nothing."""

from typing import Any

import torch
from diffusers.image_processor import PipelineImageInput

from seed_hf.modeling.image_processing_seed import SeedImageProcessor

from .diffusion_parts import wake
from .hub_code import is_a
from .image_inputs import pil_images
from .pipeline_inputs import check_candidates, check_generation_kwargs, check_prompt, check_seed_model
from .prompt_codes import generate_codes, nearest_codes, prompt_batches


class Encoding:
    """Codes and embeddings, as a mix-in of the pipeline. It needs neither `unet` nor `vae`."""

    # Of the pipeline.
    seed_model: Any
    processor: Any
    unet: Any
    config: Any
    _execution_device: Any

    @property
    def visual_tokenizer(self) -> Any:  # a SeedTokenizer, or None where there is no seed_model
        """The [`SeedTokenizer`]: `seed_model` itself, or the one inside it."""
        return visual_tokenizer_of(self.seed_model)

    def encode_prompt(
        self,
        prompt: str | list[str],
        generator: torch.Generator | list[torch.Generator] | None = None,
        generation_kwargs: dict | None = None,
        num_candidates: int | None = None,
    ) -> torch.Tensor:
        """Codes `(rows, num_query_tokens)` that the language model generates for prompts.

        It needs neither `unet` nor `vae`; codes go into a call as `codes=`.

        Args:
            prompt: What to draw.
            generator: Also fixes sampled codes, and is left as it was. Of a list, each prompt has its own.
            generation_kwargs: Options of the language model's `generate`. With `num_return_sequences` a prompt has so
                many rows, one after the other.
            num_candidates: Code sequences to sample for each prompt; the tokenizer's text tower picks the best match.

        Raises:
            ValueError, TypeError: As a call.
        """
        check_prompt(self, prompt)
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        options = dict(generation_kwargs or {})
        if num_candidates is None:
            num_candidates = self.config.num_candidates
        check_generation_kwargs(options, free="num_return_sequences" if num_candidates == 1 else "")
        check_candidates(self, num_candidates, options)
        if num_candidates > 1:
            options = {"do_sample": True, "top_k": 0, **options, "num_return_sequences": num_candidates}
        wake(self.seed_model)
        sampled = self.samples_codes(options, num_candidates)
        batches = prompt_batches(prompts, generator) if sampled else [(prompts, generator)]
        device = self._execution_device
        codes = torch.cat(
            [
                generate_codes(self.seed_model, self.processor.draw(some).to(device), own, options)
                for some, own in batches
            ]
        )
        if num_candidates == 1:
            return codes
        return nearest_codes(self.visual_tokenizer, self.processor, codes, prompts)

    def samples_codes(self, generation_kwargs: dict | None = None, num_candidates: int | None = None) -> bool:
        """Whether the codes of a prompt depend on the generator.

        Args:
            generation_kwargs, num_candidates: As of `encode_prompt`.
        """
        given = generation_kwargs or {}
        several = (self.config.num_candidates if num_candidates is None else num_candidates) > 1
        settings = (given.get("generation_config"), self.seed_model.generation_config)
        asked = [given.get("do_sample"), *(each.do_sample for each in settings if each is not None)]
        return several or bool(next((each for each in asked if each is not None), False))

    def encode_image(self, image: PipelineImageInput) -> torch.Tensor:
        """The codes of images: `(rows, num_query_tokens)`. It needs neither `unet` nor `vae`.

        Args:
            image: As in a call.

        Raises:
            ValueError, TypeError: As a call.
        """
        check_seed_model(self, "image")
        if self.processor is None:
            image_processor = SeedImageProcessor.for_tokenizer(self.visual_tokenizer.config)
        else:
            image_processor = self.processor.image_processor
        pixel_values = image_processor(pil_images(image), return_tensors="pt").pixel_values
        wake(self.seed_model)
        return self.visual_tokenizer.encode(pixel_values.to(self._execution_device, self.visual_tokenizer.dtype))

    def encode_codes(self, codes: torch.Tensor) -> torch.Tensor:
        """Generation embeddings of codes, for `prompt_embeds` or `image_embeds` of a call.

        Args:
            codes: `(rows, num_query_tokens)`.

        Returns:
            `(rows, num_generation_tokens, generation_dim)`, or `(rows, generation_dim)` for unCLIP.

        Raises:
            ValueError, TypeError: As a call.
        """
        check_seed_model(self, "codes")
        wake(self.seed_model)
        if isinstance(codes, torch.Tensor):  # what else it may be, the tokenizer refuses
            codes = codes.to(self._execution_device)
        embeds = self.visual_tokenizer.decode(codes)
        return embeds if self.unet is None else embeds.to(self.unet.dtype)


def visual_tokenizer_of(seed_model: Any) -> Any:
    """The [`SeedTokenizer`] of a model, which may be one itself; `None` of `None`.

    Args:
        seed_model: Of the pipeline.
    """
    if seed_model is None or is_a(seed_model, "SeedTokenizer"):
        return seed_model
    return seed_model.visual_tokenizer


__all__ = ["Encoding", "visual_tokenizer_of"]
