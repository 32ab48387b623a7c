"""The likelihood of each caption of a set, given an image's codes."""

from collections.abc import Sequence

import torch
from tqdm.auto import tqdm

from seed_hf.modeling.cache_name_seed import CACHE


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
        rows = [processor.sequences.prompt("caption", codes=row) for row in codes[start : start + batch_size].tolist()]
        prompts = torch.tensor(rows, device=model.device)
        # The prompt runs once: its cache is cropped after each caption.
        prompt = model(input_ids=prompts, use_cache=True)
        cache, first = prompt[CACHE], prompt.logits[:, -1:]
        for column, caption in enumerate(ids):
            repeated = caption.expand(len(prompts), -1)
            rest = model(input_ids=repeated[:, :-1], use_cache=True, **{CACHE: cache}).logits
            cache.crop(1 - len(caption))
            logits = torch.cat([first, rest], 1).float().log_softmax(-1)
            scores[start : start + len(prompts), column] = logits.gather(-1, repeated[..., None]).sum((1, 2)).cpu()
    check_likelihoods(scores)
    return scores, torch.tensor([len(caption) for caption in ids])


def check_likelihoods(likelihoods: torch.Tensor) -> None:
    """Raises `ValueError` if likelihoods are NaN. A comparison with NaN is false, so that they would rank first.

    Args:
        likelihoods: Of texts, in any shape.
    """
    if likelihoods.isnan().any():
        raise ValueError(
            "The language model's likelihoods are NaN, and ranks of them would mean nothing. Either its weights are "
            "damaged, or numbers became too large for its type: use --dtype float32 or bfloat16."
        )
