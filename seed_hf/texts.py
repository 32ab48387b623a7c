"""What a model says about images: captions and answers, decoded the same way everywhere in the package."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from seed_hf.threads import on_all_cores


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


def likely_texts(
    model: "SeedForConditionalGeneration",
    processor: "SeedProcessor",
    inputs: Mapping[str, "torch.Tensor"],
    num_beams: int = 8,
) -> list[list[LikelyText]]:
    """The three likeliest continuations of each of a batch of prompts, by beam search, likeliest first.

    Args:
        model: Continues the prompts.
        processor: The model's processor.
        inputs: As in [`generate_texts`].
        num_beams: Of the search. Texts that differ in special tokens alone count as one.
    """
    import torch

    inputs = {name: value.to(model.device) for name, value in inputs.items()}
    settings: dict[str, Any] = {"do_sample": False, "num_beams": num_beams, "num_return_sequences": num_beams}
    # With this length penalty a score is the logarithm of the text's probability.
    scored: dict[str, Any] = {"length_penalty": 0.0, "renormalize_logits": True, "return_dict_in_generate": True}
    with torch.inference_mode():
        found = model.generate(
            **inputs, generation_mode="text", max_new_tokens=MAX_NEW_TOKENS, output_scores=True, **settings, **scored
        )
    new = found.sequences[:, inputs["input_ids"].shape[1] :]
    texts = processor.post_process_multimodal_output(new, generation_mode="text")
    scores = found.sequences_scores.exp().tolist()
    rows = []
    for start in range(0, len(texts), num_beams):
        total: dict[str, float] = {}
        for text, score in zip(texts[start : start + num_beams], scores[start : start + num_beams]):
            total[text.strip()] = total.get(text.strip(), 0.0) + score
        likeliest = sorted(total.items(), key=lambda pair: -pair[1])[:3]
        rows.append([LikelyText(text, probability) for text, probability in likeliest])
    return rows


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
        max_new_tokens: Length limit of a continuation. Each row has as many as it would have alone: one whose prompt
            leaves less room does not cut those beside it, unless prompts have several images each.
        num_beams: Beams searched at once; 1 is greedy.
        length_penalty: The score of a beam is divided by its length to this power.
    """
    import torch

    inputs = {name: value.to(model.device) for name, value in inputs.items()}
    settings: dict[str, Any] = {"do_sample": False, "num_beams": num_beams, "max_new_tokens": max_new_tokens}
    if num_beams > 1:
        settings["length_penalty"] = length_penalty

    def write(own: Mapping[str, torch.Tensor]) -> list[str]:
        used = int(own["attention_mask"].sum(1).max())  # without padding that these rows do not need
        own = dict(own) | {name: own[name][:, -used:] for name in ("input_ids", "attention_mask")}
        ids = model.generate(**own, generation_mode="text", **settings)[:, used:]
        return [text.strip() for text in processor.post_process_multimodal_output(ids, generation_mode="text")]

    def write_rows(some: torch.Tensor) -> list[str]:
        return write({name: value[some] for name, value in inputs.items()})

    rows = len(inputs["input_ids"])
    texts = [""] * rows
    alone = any(hasattr(part, "get_base_model") for part in model.modules())  # peft changes its model during a call
    with torch.inference_mode():
        if any(len(value) != rows for value in inputs.values()):  # of several images, nobody knows which are whose
            return write(inputs)
        for some in _of_equal_room(model, inputs, max_new_tokens):

            def share(part: slice, some: torch.Tensor = some) -> list[str]:
                return write_rows(some[part])

            found = [share(slice(None))] if alone else on_all_cores(share, len(some))
            for row, text in zip(some.tolist(), [text for part in found for text in part], strict=True):
                texts[row] = text
    return texts


def _of_equal_room(model, inputs: Mapping[str, "torch.Tensor"], max_new_tokens: int) -> list["torch.Tensor"]:
    """The numbers of the rows that can be continued together: the model has room for as many tokens after each."""
    limit = getattr(model.config.text_config, "max_position_embeddings", None)
    lengths = inputs["attention_mask"].sum(1).cpu()
    room = (lengths * 0 + max_new_tokens) if limit is None else (limit - lengths).clamp(max=max_new_tokens)
    return [(room == each).nonzero().flatten() for each in room.unique()]
