"""What a model says about images: captions and answers, decoded the same way everywhere in the package."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    import torch
    from PIL import Image

    from seed_hf.modeling.modeling_seed import SeedForConditionalGeneration
    from seed_hf.modeling.processing_seed import SeedProcessor


# A caption or an answer ends after at most this many tokens.
MAX_NEW_TOKENS = 32


@dataclass(frozen=True)
class LikelyText:
    """A text with its probability among all texts that the model could have written."""

    text: str
    probability: float


def describe(
    model: "SeedForConditionalGeneration", processor: "SeedProcessor", images: Sequence["Image.Image"]
) -> list[str]:
    """The greedy caption of each image.

    Args:
        model: Sees the images and writes the captions.
        processor: The model's processor; the prompt is its `caption_prompt`.
        images: RGB images, captioned in one batch.
    """
    return generate_texts(model, processor, processor.caption(images))


def answer(
    model: "SeedForConditionalGeneration",
    processor: "SeedProcessor",
    images: Sequence["Image.Image"],
    questions: Sequence[str],
) -> list[str]:
    """The greedy answer to each question.

    Args:
        model: Sees the images and answers.
        processor: The model's processor; the prompt is its `question_prompt`.
        images: RGB images, one for each question, in one batch.
        questions: Question i is about image i.
    """
    return generate_texts(model, processor, processor.ask(images, list(questions)))


def likely_captions(
    model: "SeedForConditionalGeneration",
    processor: "SeedProcessor",
    image: "Image.Image",
    count: int = 3,
    num_beams: int = 8,
) -> list[LikelyText]:
    """The likeliest captions of an image, by beam search, likeliest first.

    Args:
        model: Sees the image and writes the captions.
        processor: The model's processor; the prompt is its `caption_prompt`.
        image: RGB.
        count: How many at most; captions that differ in special tokens alone count as one.
        num_beams: Of the search, at least `count`.
    """
    import torch

    inputs = {name: value.to(model.device) for name, value in processor.caption([image]).items()}
    settings: dict[str, Any] = {"do_sample": False, "num_beams": num_beams, "num_return_sequences": num_beams}
    # With this length penalty a score is the logarithm of the text's probability.
    scored: dict[str, Any] = {"length_penalty": 0.0, "renormalize_logits": True, "return_dict_in_generate": True}
    with torch.inference_mode():
        found = model.generate(
            **inputs, generation_mode="text", max_new_tokens=MAX_NEW_TOKENS, output_scores=True, **settings, **scored
        )
    new = found.sequences[:, inputs["input_ids"].shape[1] :]
    texts = processor.post_process_multimodal_output(new, generation_mode="text")
    total: dict[str, float] = {}
    for text, score in zip(texts, found.sequences_scores.exp().tolist()):
        total[text.strip()] = total.get(text.strip(), 0.0) + score
    likeliest = sorted(total.items(), key=lambda pair: -pair[1])[:count]
    return [LikelyText(text, probability) for text, probability in likeliest]


def generate_texts(
    model: "SeedForConditionalGeneration",
    processor: "SeedProcessor",
    inputs: Mapping[str, "torch.Tensor"],
    max_new_tokens: int = MAX_NEW_TOKENS,
    *,
    num_beams: int = 1,
    length_penalty: float = 1.0,
) -> list[str]:
    """Continuations of a batch of prompts without sampling and without the prompts: greedy ones, or the best beams.

    Args:
        model: Continues the prompts.
        processor: The model's processor.
        inputs: What `processor.caption` or `processor.ask` returns, padded on the left; `codes` may replace
            `pixel_values`.
        max_new_tokens: Length limit of a continuation.
        num_beams: Beams searched at once; 1 is greedy.
        length_penalty: The score of a beam is divided by its length to this power.
    """
    import torch

    inputs = {name: value.to(model.device) for name, value in inputs.items()}
    settings: dict[str, Any] = {"do_sample": False, "num_beams": num_beams, "max_new_tokens": max_new_tokens}
    if num_beams > 1:
        settings["length_penalty"] = length_penalty
    with torch.inference_mode():
        ids = model.generate(**inputs, generation_mode="text", **settings)
    new = ids[:, inputs["input_ids"].shape[1] :]
    texts = processor.post_process_multimodal_output(new, generation_mode="text")
    return [text.strip() for text in texts]
