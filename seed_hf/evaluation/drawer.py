"""Drawing for an evaluation: every row has noise of its own, so that no figure depends on batch or order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from seed_hf.artifacts.fingerprints import rules_fingerprint, scheduler_settings
from seed_hf.devices import generator_of
from seed_hf.inference import STEPS, draw_images
from seed_hf.pipelines.prompt_codes import generate_codes

from .result import generation_settings, image_settings, model_facts
from .rows import EvaluationRow


# Of the authors' demos, by target and width of the generation embeddings: SEED-1 with Stable Diffusion 1.4 (whose PLMS
# is diffusers' PNDM), SEED-2 with unCLIP 2.1. What the figures of the papers were drawn with is not published.
AUTHORS_DRAWING: dict[tuple[str, int], dict[str, Any]] = {
    ("text", 768): {"num_inference_steps": 50, "guidance_scale": 7.5, "scheduler": "PNDMScheduler"},
    ("image", 1024): {"num_inference_steps": 20, "guidance_scale": 10.0},
}


class Drawer:
    """A pipeline with the settings of an evaluation.

    Args:
        pipeline: A [`SeedImagePipeline`].
        seed: Of the noise, and of the codes where they are sampled.
        num_inference_steps: Denoising steps. By default those of the authors' demo for this diffusion model, else 20.
        guidance_scale: By default the pipeline's.
        num_candidates: Code sequences to choose from, as in the pipeline's call; by default the pipeline's. One is
            decoded greedily, several are sampled.
        generation_kwargs: Options of the language model's `generate` in place of greedy decoding, such as `do_sample`.
            Whatever is sampled is sampled row by row.
    """

    def __init__(
        self,
        pipeline: Any,
        *,
        seed: int = 0,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        num_candidates: int | None = None,
        generation_kwargs: dict[str, Any] | None = None,
    ):
        config = pipeline.config
        self.pipeline, self.seed = pipeline, seed
        self.num_inference_steps = num_inference_steps or self.authors.get("num_inference_steps", STEPS)
        self.guidance_scale = config.guidance_scale if guidance_scale is None else guidance_scale
        self.num_candidates = config.num_candidates if num_candidates is None else num_candidates
        self.generation_kwargs = dict(generation_kwargs or {})
        pipeline.set_progress_bar_config(disable=True)

    @property
    def model(self) -> Any:
        """The [`SeedForConditionalGeneration`] inside."""
        return self.pipeline.seed_model

    @property
    def tokenizer(self) -> Any:
        """The [`SeedTokenizer`] inside."""
        return self.pipeline.visual_tokenizer

    @property
    def authors(self) -> dict[str, Any]:
        """The authors' settings for a diffusion model like this one; empty for others."""
        config = self.tokenizer.config
        return AUTHORS_DRAWING.get((config.generation_target, config.generation_dim), {})

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides the images beside the weights. Ready for JSON."""
        names = ("seed", "num_inference_steps", "guidance_scale", "num_candidates", "generation_kwargs")
        processor = self.pipeline.processor
        return {
            **{name: getattr(self, name) for name in names},
            "scheduler": type(self.pipeline.scheduler).__name__,
            "scheduler_config": scheduler_settings(self.pipeline.scheduler),
            **({} if processor is None else self._processor_settings(processor)),
        }

    def _processor_settings(self, processor: Any) -> dict[str, Any]:
        prompts = {"prompt_format": processor.prompt_format, "image_prompt": processor.image_prompt}
        writes = generation_settings(self.model) if hasattr(self.model, "language_model") else {}
        return {**prompts, **image_settings(processor.image_processor), **writes}

    @property
    def facts(self) -> dict[str, Any]:
        """What a result says of the models that take part."""
        found: dict[str, Any] = {**model_facts(self.model)}
        if (processor := self.pipeline.processor) is not None:
            found["text_tokenizer"] = rules_fingerprint(processor.tokenizer)
        for name in ("unet", "vae", "empty_prompt", "image_normalizer"):
            if (part := getattr(self.pipeline, name)) is not None:
                found[name] = model_facts(part)
        return found

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the images, in pixels."""
        size, factor = self.pipeline.unet.config.sample_size, self.pipeline.vae_scale_factor
        height, width = (size, size) if isinstance(size, int) else size
        return width * factor, height * factor

    def check_writes(self) -> None:
        """Raises `ValueError` if the pipeline has no language model, which writes codes and reads texts."""
        if not hasattr(self.model, "language_model") or self.pipeline.processor is None:
            raise ValueError(
                "This pipeline has no language model, so it draws from the codes of images alone: --source images, "
                "and for roundtrip --ranked-among 0."
            )

    def fault(self, prompt: str) -> str:
        """Why a prompt cannot be drawn: it is empty, or the model has no room for an image after it; else empty.

        Args:
            prompt: What to draw.
        """
        if not prompt.strip():
            return "an empty prompt"
        return self._no_room(self.pipeline.processor.draw([prompt])["input_ids"].shape[1])

    def fault_of_edit(self, instruction: str) -> str:
        """Why an instruction cannot be followed: the model has no room for an image after it.

        Args:
            instruction: What to change.
        """
        any_codes = torch.zeros(1, self.model.config.text_config.num_query_tokens, dtype=torch.long)
        return self._no_room(self._chats(any_codes, [instruction])["input_ids"].shape[1])

    def _no_room(self, length: int) -> str:
        config = self.model.config.text_config
        limit, image = getattr(config, "max_position_embeddings", None), config.num_query_tokens + 2
        if limit is None or length + image <= limit:
            return ""
        return f"a prompt of {length} tokens and an image of {image} do not fit into the model's {limit} positions"

    def encode_prompts(self, prompts: Sequence[str], ids: Sequence[str]) -> torch.Tensor:
        """The codes that the language model writes for each prompt, a LongTensor `(prompts, 32)` on the CPU.

        Args:
            prompts: What to draw.
            ids: Of the rows; together with `seed` they decide what is sampled.
        """
        if self.num_candidates == 1 and not self.generation_kwargs:
            greedy = {"do_sample": False, "num_beams": 1}
            return self.pipeline.encode_prompt(list(prompts), generation_kwargs=greedy, num_candidates=1).cpu()
        each = [
            self.pipeline.encode_prompt(prompt, generator, self.generation_kwargs, self.num_candidates)
            for prompt, generator in zip(prompts, self._generators(ids), strict=True)
        ]
        return torch.cat(each).cpu()

    def encode_edits(self, codes: torch.Tensor, instructions: Sequence[str], ids: Sequence[str]) -> torch.Tensor:
        """The codes that the language model answers with when it is asked, in a chat, to change an image.

        Args:
            codes: Of the images, LongTensor `(images, 32)`.
            instructions: One for each image.
            ids: Of the rows; together with `seed` they decide what is sampled.

        Returns:
            LongTensor `(images, 32)` on the CPU.
        """
        if self.num_candidates != 1:
            raise ValueError(f"An edit has one candidate, got num_candidates={self.num_candidates}.")
        if not self.generation_kwargs:
            return self._answer_with_codes(codes, instructions, None, {"do_sample": False, "num_beams": 1})
        each = zip(codes.split(1), instructions, self._generators(ids), strict=True)
        options = self.generation_kwargs
        return torch.cat([self._answer_with_codes(row, [said], seed, options) for row, said, seed in each])

    def _answer_with_codes(
        self, codes: torch.Tensor, instructions: Sequence[str], generator: torch.Generator | None, options: dict
    ) -> torch.Tensor:
        inputs = self._chats(codes, instructions).to(self.model.device)
        return generate_codes(self.model, inputs, generator, options).cpu()

    def _chats(self, codes: torch.Tensor, instructions: Sequence[str]) -> Any:
        chats = [
            [{"role": "user", "content": [{"type": "image", "codes": row}, {"type": "text", "text": said}]}]
            for row, said in zip(codes.tolist(), instructions, strict=True)
        ]
        return self.pipeline.processor.apply_chat_template(
            chats, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt", padding=True
        )

    def encode_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """The codes that the tokenizer reads from images, a LongTensor `(images, 32)` on the CPU.

        Args:
            images: Of any size.
        """
        return self.pipeline.encode_image(list(images)).cpu()

    def draw(self, codes: torch.Tensor, ids: Sequence[str]) -> list[Image.Image]:
        """One image for each row of codes.

        Args:
            codes: LongTensor `(rows, 32)`.
            ids: Of the rows; together with `seed` they decide the noise.
        """
        settings = {"num_inference_steps": self.num_inference_steps, "guidance_scale": self.guidance_scale}
        return draw_images(self.pipeline, codes, self._generators(ids), **settings)

    @torch.inference_mode()
    def writes_valid_spans(self, prompts: Sequence[str]) -> list[bool]:
        """Whether the language model writes a whole image by itself after each prompt and `<img>`: 32 visual tokens,
        then `</img>`. It is free to write anything, greedily; everywhere else only valid spans can be written.

        Args:
            prompts: What to draw.
        """
        config = self.model.config.text_config
        inputs = self.pipeline.processor.draw(list(prompts)).to(self.model.device)
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        begin = torch.full_like(ids[:, :1], config.boi_token_id)
        number = config.num_query_tokens
        written = self.model.language_model.generate(
            torch.cat([ids, begin], 1),
            attention_mask=torch.cat([mask, torch.ones_like(begin)], 1),
            generation_mode=None,
            max_new_tokens=number + 1,
            do_sample=False,
            num_beams=1,
        )[:, ids.shape[1] + 1 :]
        if written.shape[1] < number + 1:  # all have ended before
            return [False] * len(prompts)
        codes = written[:, :number] - config.visual_token_offset
        whole = ((codes >= 0) & (codes < config.codebook_size)).all(1)
        return (whole & (written[:, number] == config.eoi_token_id)).tolist()

    def _generators(self, ids: Sequence[str]) -> list[torch.Generator]:
        return [generator_of(seed_of(self.seed, each)) for each in ids]


class DrawingTask:
    """What tasks share whose images a [`Drawer`] draws."""

    drawer: Drawer

    @property
    def protocol(self) -> dict[str, Any]:
        return self.drawer.authors

    @property
    def model(self) -> dict[str, Any]:
        return self.drawer.facts

    def length(self, row: EvaluationRow) -> int:
        return len(row.captions[0]) if row.captions else 0


def seed_of(seed: int, row_id: str) -> int:
    """The seed of a row: of the run's seed and the row's id, whatever the other rows are.

    Args:
        seed: Of the run.
        row_id: Of the row.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}:{row_id}".encode()).digest()[:6], "big")
