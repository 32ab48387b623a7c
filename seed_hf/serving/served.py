"""The model of a server: what its thread does with batches of jobs, and what may be asked of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from seed_hf.artifacts.known_words import KnownWords, read_known_words
from seed_hf.artifacts.loading import DEFAULT, Source, locate
from seed_hf.artifacts.opening import open_model, open_pipeline
from seed_hf.devices import generator_of
from seed_hf.inference import STEPS, draw_images, encode_pixels

from .batches import Job


if TYPE_CHECKING:
    import torch
    from PIL import Image

    from seed_hf.modeling.modeling_seed import SeedForConditionalGeneration
    from seed_hf.modeling.processing_seed import SeedProcessor
    from seed_hf.pipelines.pipeline_seed_image import SeedImagePipeline


@dataclass(frozen=True)
class Drawing:
    """How an image is drawn.

    Attributes:
        steps: Of denoising.
        guidance: Scale; `None` is the pipeline's own.
        size: Width and height; `None` is what the UNet was trained at.
    """

    steps: int = STEPS
    guidance: float | None = None
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Prompt:
    """Words to draw.

    Attributes:
        text: The prompt.
        seed: Of sampled codes, and of nothing else.
        sample: Whether the codes are sampled; else they are the likeliest.
    """

    text: str
    seed: int
    sample: bool


class ServedModel:
    """What a server serves. Only one thread may run its runners; reading its settings is free.

    Args:
        name: What clients call it.
        model: A [`SeedForConditionalGeneration`].
        processor: Its processor.
        pipe: The pipeline of the model; without one, nothing is drawn.
        known: The words of a small model.
    """

    def __init__(
        self,
        name: str,
        model: SeedForConditionalGeneration,
        processor: SeedProcessor,
        pipe: SeedImagePipeline | None = None,
        known: KnownWords | None = None,
    ):
        self.name, self.model, self.processor, self.pipe, self.known = name, model.eval(), processor, pipe, known
        self.tokenizer = model.visual_tokenizer
        config = model.config.text_config
        self.positions, self.places, self.codebook_size = (
            config.max_position_embeddings,
            config.num_query_tokens,
            config.codebook_size,
        )
        words = self.tokenizer.config.qformer_config.vocab_size
        self.has_image_features = self.tokenizer.config.text_tower
        self.has_text_features = self.has_image_features and words == config.text_vocab_size
        if pipe is not None:
            pipe.set_progress_bar_config(disable=True)

    @classmethod
    def load(
        cls,
        source: Source = None,
        *,
        name: str | None = None,
        device: torch.device | str | None = None,
    ) -> ServedModel:
        """The model of a folder or a Hub id.

        Args:
            source: A pipeline, or a model, which draws nothing. Default: seed-tiny.
            name: What clients call it; the last part of the source by default.
            device: As of [`load_pipeline`].

        Raises:
            FileNotFoundError: There is no such folder and no such repository.
            ValueError: It holds something else, a pipeline without language model or processor, or weights that are
                NaN or infinite.
        """
        place = os.fspath(DEFAULT if source is None else source)
        name = name or os.path.basename(place.rstrip("/")) or place
        try:
            locate(source, "pipeline")
        except ValueError:  # a model alone
            model, processor = open_model(source, device=device)
            return cls(name, model, processor, None, read_known_words(source, "model"))
        pipe = open_pipeline(source, reads_and_writes=True, device=device)
        return cls(name, pipe.seed_model, pipe.processor, pipe, read_known_words(source, "pipeline"))

    def runners(self) -> dict[str, Callable[[list[Job]], None]]:
        """What the model does, by kind.

        - "encode": pixels `(3, height, width)` to a list of codes.
        - "write": a [`Row`], key `row.key`, to a [`Written`], with its parts before.
        - "prompt": a [`Prompt`] to a list of codes, as the pipeline makes them.
        - "draw": `(codes, seed)`, key a [`Drawing`], to an image.
        - "image features": pixels, key "pixels", or a list of codes, key "codes", to floats.
        - "text features": a text to floats.
        """
        runners = {
            "encode": self._encode,
            "write": self._write,
            "prompt": self._prompt,
            "draw": self._draw,
            "image features": self._image_features,
            "text features": self._text_features,
        }
        return {kind: _without_gradients(run) for kind, run in runners.items()}

    def pixels(self, image: Image.Image) -> torch.Tensor:
        """What the model sees of an image, `(3, height, width)`; any thread may call this.

        Args:
            image: RGB.
        """
        return self.processor.image_processor(image, return_tensors="pt").pixel_values[0]

    def _encode(self, jobs: list[Job]) -> None:
        _finish(jobs, encode_pixels(self.tokenizer, self._stacked(jobs)).tolist())

    def _write(self, jobs: list[Job]) -> None:
        from .writing import write

        write(self.model, self.processor, jobs)

    def _prompt(self, jobs: list[Job]) -> None:
        assert self.pipe is not None  # the routes see to it
        greedy = [job for job in jobs if not (job.work.sample or self.pipe.samples_codes())]
        if greedy:
            _finish(greedy, self.pipe.encode_prompt([job.work.text for job in greedy]).tolist())
        for job in jobs:  # the samples of a batch would depend on each other
            if job not in greedy and not job.gone:
                prompt: Prompt = job.work
                sampling = {"do_sample": True, "temperature": 1.0} if prompt.sample else {}
                job.finish(self.pipe.encode_prompt(prompt.text, generator_of(prompt.seed), sampling)[0].tolist())

    def _draw(self, jobs: list[Job]) -> None:
        import torch

        def interrupt_if_nobody_waits(pipe: Any, step: int, timestep: Any, tensors: dict) -> dict:
            if all(job.gone for job in jobs):
                pipe._interrupt = True  # diffusers' way for callbacks
            return {}

        assert self.pipe is not None
        how: Drawing = jobs[0].key  # type: ignore[assignment]
        width, height = how.size or (None, None)
        drawn = draw_images(
            self.pipe,
            torch.tensor([job.work[0] for job in jobs]),
            [generator_of(job.work[1]) for job in jobs],
            num_inference_steps=how.steps,
            guidance_scale=how.guidance,
            height=height,
            width=width,
            callback_on_step_end=interrupt_if_nobody_waits,
        )
        _finish(jobs, drawn)

    def _image_features(self, jobs: list[Job]) -> None:
        import torch

        if jobs[0].key == "codes":
            codes = torch.tensor([job.work for job in jobs]).to(self.model.device)
            found = self.tokenizer.get_image_features(codes=codes)
        else:
            found = self.tokenizer.get_image_features(self._stacked(jobs))
        _finish(jobs, found.pooler_output.float().tolist())

    def _text_features(self, jobs: list[Job]) -> None:
        limit = self.tokenizer.config.qformer_config.max_position_embeddings
        texts = self.processor.text_tower([job.work for job in jobs], limit).to(self.model.device)
        found = self.tokenizer.get_text_features(texts.input_ids, texts.attention_mask)
        _finish(jobs, found.pooler_output.float().tolist())

    def _stacked(self, jobs: Sequence[Job]) -> torch.Tensor:
        import torch

        return torch.stack([job.work for job in jobs]).to(self.model.device, self.tokenizer.dtype)


def _without_gradients(run: Callable[[list[Job]], None]) -> Callable[[list[Job]], None]:
    def guarded(jobs: list[Job]) -> None:
        import torch

        with torch.no_grad():
            run(jobs)

    return guarded


def _finish(jobs: Sequence[Job], results: Sequence[Any]) -> None:
    for job, result in zip(jobs, results):
        job.finish(result)


__all__ = ["Drawing", "Prompt", "ServedModel"]
