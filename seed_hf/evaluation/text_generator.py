"""A model that sees images and says something about them: prompts, decoding and losses of the tasks about texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from seed_hf.artifacts.fingerprints import rules_fingerprint
from seed_hf.inference import encode_images
from seed_hf.modeling.prompts_seed import SequenceEncoder
from seed_hf.modeling.token_rows_seed import padded
from seed_hf.texts import MAX_NEW_TOKENS, generate_texts

from .likelihoods import check_likelihoods
from .result import generation_settings, image_settings, model_facts


if TYPE_CHECKING:
    from PIL import Image

    from seed_hf.modeling.modeling_seed import SeedForConditionalGeneration
    from seed_hf.modeling.processing_seed import SeedProcessor


@dataclass(frozen=True)
class Decoding:
    """How texts are generated: always without sampling, so that a row's text depends on nothing else.

    Args:
        num_beams: Beams searched at once; 1 is greedy.
        max_new_tokens: Length limit.
        length_penalty: The score of a beam is divided by its length to this power.
    """

    num_beams: int = 1
    max_new_tokens: int = MAX_NEW_TOKENS
    length_penalty: float = 1.0

    def __post_init__(self):
        for name in ("num_beams", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")


# What the authors evaluated SEED-LLaMA with before instruction tuning ("plain"): the COCO evaluation of its training,
# and the script for questions (which samples among beams). transformers 4.30 divided the score of a beam by the length
# of prompt and text, which is nearly the same for all: no penalty gives its outputs. How they decoded after
# instruction tuning is not published; the same settings are the defaults there.
AUTHORS_DECODING: dict[str, dict[str, Any]] = {
    "caption": {"num_beams": 5, "max_new_tokens": 120, "length_penalty": 0.0, "do_sample": False},
    "question": {"num_beams": 5, "max_new_tokens": 512, "length_penalty": 0.0, "do_sample": True},
}
# The instructions with which COCO's captions, and the answers of VQAv2, OK-VQA and VizWiz, were made into the data of
# instruction tuning (`torchdata_eval.py` of the authors' repository). Other prompts are the format's own.
_INSTRUCTED = ("vicuna", "llama2")
AUTHORS_INSTRUCTIONS = {
    "caption": "Please provide an accurate and concise description of the given image.",
    "question": "{} Please provide an accurate answer consisting of only one word or phrase.",
}


class TextGenerator:
    """A model with its processor, for one kind of sequence.

    Args:
        model: A [`SeedForConditionalGeneration`].
        processor: Its [`SeedProcessor`], whose prompts are used.
        sequence: "caption" or "question".
        prompt: Replaces the processor's; that of a question has `{}` for it.
        decoding: Settings that replace the authors' for this format of prompts, or the package's where theirs are not
            known.
        benchmark: Whether captions and short answers are wanted, as benchmarks have them. A model after instruction
            tuning is then asked by the authors' instruction, unless the processor has a prompt of its own.

    Raises:
        ValueError: A prompt without `{}`, numbers out of range, or a length penalty without beams.
    """

    def __init__(
        self,
        model: SeedForConditionalGeneration,
        processor: SeedProcessor,
        sequence: str,
        prompt: str | None = None,
        decoding: dict[str, Any] | None = None,
        *,
        benchmark: bool = False,
    ):
        self.model, self.processor, self.sequence = model, processor, sequence
        self._sequences = processor.sequences
        self._authors_prompt = getattr(self._sequences.format, f"{sequence}_prompt")
        if self._sequences.prompt_format in _INSTRUCTED:
            own = self._prompt_in_use != self._authors_prompt
            self._authors_prompt = AUTHORS_INSTRUCTIONS[sequence] if benchmark else None
            prompt = self._authors_prompt if prompt is None and not own else prompt
        if prompt is not None:
            changed = {"prompt_format": processor.sequences.prompt_format, f"{sequence}_prompt": prompt}
            self._sequences = SequenceEncoder(processor.tokenizer, processor.vocabulary, **changed)
        known = AUTHORS_DECODING[sequence] if self._sequences.prompt_format in ("plain", *_INSTRUCTED) else {}
        default = {name: value for name, value in known.items() if name != "do_sample"}
        self.decoding = Decoding(**{**default, **(decoding or {})})
        if "length_penalty" in (decoding or {}) and self.decoding.num_beams == 1:
            raise ValueError("length_penalty weighs beams, and greedy decoding has none: give num_beams, too.")

    @property
    def prompt_settings(self) -> dict[str, Any]:
        """The format of prompts, the prompt in use, and how images are prepared."""
        images = image_settings(self.processor.image_processor)
        prompt = {f"{self.sequence}_prompt": self._prompt_in_use}
        return {"prompt_format": self._sequences.prompt_format, **prompt, **images}

    @property
    def _prompt_in_use(self) -> str:
        return self._sequences.prompts.get(f"{self.sequence}_prompt", self._sequences.question_prompt)

    @property
    def settings(self) -> dict[str, Any]:
        """Prompt and decoding."""
        decoding = {**asdict(self.decoding), "do_sample": False, **generation_settings(self.model)}
        return {**self.prompt_settings, **decoding}

    @property
    def prompt_protocol(self) -> dict[str, Any]:
        """The authors' prompt, if it is known."""
        return {} if self._authors_prompt is None else {f"{self.sequence}_prompt": self._authors_prompt}

    @property
    def protocol(self) -> dict[str, Any]:
        """Prompt and decoding of the authors, as far as they are known."""
        known = AUTHORS_DECODING[self.sequence] if self._sequences.prompt_format == "plain" else {}
        return {**self.prompt_protocol, **known}

    @property
    def facts(self) -> dict[str, Any]:
        """What a result says of the model."""
        return {**model_facts(self.model), "text_tokenizer": rules_fingerprint(self.processor.tokenizer)}

    def fault(self, question: str = "", answer: str | None = None) -> str:
        """Why a text cannot be asked for: the model has no room for it. Else the rows beside it would cut it.

        Args:
            question: The question; empty for captions.
            answer: To be scored; `None` where texts are generated.
        """
        limit = getattr(self.model.config.text_config, "max_position_embeddings", None)
        prompt = len(self._sequences.prompt(self.sequence, question=question))
        more = self.decoding.max_new_tokens
        if answer is not None:
            more = len(self._sequences.answer(self.sequence, text=answer))
        if limit is None or prompt + more <= limit:
            return ""
        return f"a prompt of {prompt} tokens and {more} more do not fit into the model's {limit} positions"

    @torch.inference_mode()
    def codes(self, images: list[Image.Image]) -> list[list[int]]:
        """The visual codes of images.

        Args:
            images: RGB images.
        """
        return encode_images(self.model.visual_tokenizer, self.processor.image_processor, images).tolist()

    def generate(self, codes: Sequence[Sequence[int]], questions: Sequence[str] | None = None) -> list[str]:
        """What the model says about images.

        Args:
            codes: Of each image.
            questions: One for each image; `None` for captions.
        """
        prompts = self._prompts(codes, questions)
        width = max(map(len, prompts))
        settings = asdict(self.decoding)
        return generate_texts(self.model, self.processor, self._padded(prompts, width), **settings)

    @torch.inference_mode()
    def losses(
        self, codes: Sequence[Sequence[int]], questions: Sequence[str], answers: Sequence[str]
    ) -> list[tuple[float, int]]:
        """The language-model loss of each answer, summed over its tokens with the end, and the number of these.

        Args:
            codes: Of the image of each answer.
            questions: One for each answer.
            answers: Texts.

        Raises:
            ValueError: They are NaN.
        """
        prompts = self._prompts(codes, questions)
        said = [self._sequences.answer(self.sequence, text=answer) for answer in answers]
        rows = [prompt + answer for prompt, answer in zip(prompts, said, strict=True)]
        # Padded on the left, all answers end at the same place.
        inputs = self._padded(rows, max(map(len, rows)))
        longest = max(map(len, said))
        inputs = {name: value.to(self.model.device) for name, value in inputs.items()}
        logits = self.model(**inputs, use_cache=False, logits_to_keep=longest + 1).logits[:, :-1].float()
        ids = inputs["input_ids"][:, -longest:]
        losses = -logits.log_softmax(-1).gather(-1, ids[..., None])[..., 0]
        check_likelihoods(losses)
        return [
            (losses[row, longest - len(answer) :].cpu().double().sum().item(), len(answer))
            for row, answer in enumerate(said)
        ]

    def _prompts(self, codes: Sequence[Sequence[int]], questions: Sequence[str] | None) -> list[list[int]]:
        asked = questions if questions is not None else [""] * len(codes)
        return [
            self._sequences.prompt(self.sequence, codes=of_image, question=question)
            for of_image, question in zip(codes, asked, strict=True)
        ]

    def _padded(self, rows: list[list[int]], width: int) -> dict[str, torch.Tensor]:
        pad = self.processor.tokenizer.pad_token_id
        pad = self._sequences.eos if pad is None else pad
        return {
            "input_ids": torch.tensor(padded(rows, pad, width)),
            "attention_mask": torch.tensor(padded([[1] * len(row) for row in rows], 0, width)),
        }


class TextTask:
    """What tasks share in which a [`TextGenerator`] says something of images."""

    text_generator: TextGenerator

    @property
    def protocol(self) -> dict[str, Any]:
        return self.text_generator.protocol

    @property
    def model(self) -> dict[str, Any]:
        return self.text_generator.facts

    def see(self, images: list[Image.Image]) -> list[list[int]]:
        return self.text_generator.codes(images)
