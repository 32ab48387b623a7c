"""How well a SEED model tells captions apart: the likelihood of each caption of a set, given an image's codes.

A greedy caption is right only if its wording is, so exact match says little about a model that has not seen the
wording yet. Likelihoods can be compared before and after fine-tuning.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tqdm.auto import tqdm

from seed_hf.modeling.cache_name_seed import CACHE
from seed_hf.texts import MAX_NEW_TOKENS, generate_texts

from .sets import distinct_captions


@dataclass(frozen=True)
class ChoiceResult:
    """A choice among the distinct captions of a set, for each of its images.

    Attributes:
        accuracy: Share of images, in percent, whose own caption is the likeliest; a tie counts against the model.
        loss_per_token: Mean negative log-likelihood of the tokens of the images' own captions, the end token included,
            in nats.
        candidates: The distinct captions. Chance accuracy is 100 / their number.
        choices: The likeliest caption of each image.
    """

    accuracy: float
    loss_per_token: float
    candidates: list[str]
    choices: list[str]


def evaluate_choice(
    model, processor, codes: torch.Tensor, captions: Sequence[str], batch_size: int = 64
) -> ChoiceResult:
    """Choose for each image among the distinct captions of all images.

    Args:
        model: A `SeedForConditionalGeneration`.
        processor: Its `SeedProcessor`; the prompt is its `caption_prompt`.
        codes: `(images, num_query_tokens)`.
        captions: The caption of each image.
        batch_size: Images at a time. The result does not depend on it.

    Raises:
        ValueError: There are no images, or another number of captions.
    """
    if len(codes) != len(captions) or not captions:
        raise ValueError(f"One caption for each image is needed, got {len(captions)} for {len(codes)}.")
    candidates, own = distinct_captions(captions)
    scores, lengths = caption_likelihoods(model, processor, codes, candidates, batch_size)
    own_scores = scores.gather(1, own[:, None])
    right = (scores >= own_scores).sum(1) == 1
    return ChoiceResult(
        accuracy=100.0 * right.double().mean().item(),
        loss_per_token=-own_scores.sum().item() / lengths[own].sum().item(),
        candidates=candidates,
        choices=[candidates[i] for i in scores.argmax(1).tolist()],
    )


@torch.no_grad()
def caption_likelihoods(
    model, processor, codes: torch.Tensor, captions: Sequence[str], batch_size: int = 64
) -> tuple[torch.Tensor, torch.Tensor]:
    """The log-likelihood of each caption given each image.

    Args:
        model: A [`SeedForConditionalGeneration`].
        processor: Its [`SeedProcessor`].
        codes: `(images, num_query_tokens)`.
        captions: The candidates.
        batch_size: Images at a time.

    Returns:
        Log-likelihoods `(images, captions)`, and the number of tokens of each caption `(captions,)`. Both include the
        end token.

    Raises:
        ValueError: They are NaN.
    """
    answers = [processor.sequences.answer("caption", text=caption) for caption in captions]
    ids = [torch.tensor(answer, device=model.device) for answer in answers]
    scores = torch.empty(len(codes), len(captions))
    for start in tqdm(range(0, len(codes), batch_size), desc="likelihoods", leave=False):
        prompts = caption_prompts(processor, codes[start : start + batch_size]).to(model.device)
        # The prompt runs once: its cache is cropped after each caption.
        prompt = model(input_ids=prompts, use_cache=True)
        cache, first = prompt[CACHE], prompt.logits[:, -1:]
        for column, caption in enumerate(ids):
            rows = caption.expand(len(prompts), -1)
            rest = model(input_ids=rows[:, :-1], use_cache=True, **{CACHE: cache}).logits
            cache.crop(1 - len(caption))
            logits = torch.cat([first, rest], 1).float().log_softmax(-1)
            scores[start : start + len(prompts), column] = logits.gather(-1, rows[..., None]).sum((1, 2)).cpu()
    check_numbers(scores)
    return scores, torch.tensor([len(caption) for caption in ids])


def check_numbers(likelihoods: torch.Tensor) -> None:
    """Raises `ValueError` if likelihoods are NaN. A comparison with NaN is false, so that they would rank first.

    Args:
        likelihoods: Of texts, in any shape.
    """
    if likelihoods.isnan().any():
        raise ValueError(
            "The language model's likelihoods are NaN, and ranks of them would mean nothing. Either its weights are "
            "damaged, or numbers became too large for its type: use --dtype float32 or bfloat16."
        )


def captions_of_codes(
    model, processor, codes: torch.Tensor, batch_size: int = 64, max_new_tokens: int = MAX_NEW_TOKENS
) -> list[str]:
    """Greedy captions of images given by their codes.

    Args:
        model: A [`SeedForConditionalGeneration`].
        processor: Its [`SeedProcessor`]; the prompt is its `caption_prompt`.
        codes: `(images, num_query_tokens)`.
        batch_size: Images at a time.
        max_new_tokens: Length limit of a caption.
    """
    texts = []
    for start in tqdm(range(0, len(codes), batch_size), desc="captions", leave=False):
        inputs = processor.caption(codes=codes[start : start + batch_size])
        texts += generate_texts(model, processor, inputs, max_new_tokens)
    return texts


def caption_prompts(processor, codes: torch.Tensor) -> torch.Tensor:
    """The prompts of `processor.caption` with visual tokens instead of placeholders, `(images, length)`.

    Args:
        processor: A [`SeedProcessor`].
        codes: `(images, num_query_tokens)`.
    """
    return torch.tensor([processor.sequences.prompt("caption", codes=row) for row in codes.tolist()])
