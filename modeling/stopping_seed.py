"""What ends a row while a model writes: stop strings and the time limit wait until an image span has ended."""

from typing import Any

import torch
from transformers import MaxTimeCriteria, StoppingCriteria, StopStringCriteria

from .visual_vocabulary_seed import VisualVocabulary


class AfterText(StoppingCriteria):
    """A criterion that ends a row after text alone: not within an image span, nor for the names of visual tokens.

    Args:
        criterion: Of transformers.
        vocabulary: Of the language model.
    """

    def __init__(self, criterion: StoppingCriteria, vocabulary: VisualVocabulary):
        self.criterion, self.vocabulary = criterion, vocabulary

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        return self.criterion(input_ids, scores, **kwargs) & self.vocabulary.is_text(input_ids[:, -1])


def stop_after_text(config: Any, options: dict[str, Any], kwargs: dict[str, Any]) -> dict[str, None]:
    """Replaces stop strings and the time limit, among the arguments of `generate`, by criteria that spare image spans.

    Args:
        config: Of the language model.
        options: What holds for the call: its arguments, its generation config and that of the model.
        kwargs: The arguments of the call, which are changed.

    Returns:
        The options that are replaced, as they have to be for transformers: `None`.
    """
    vocabulary, found = VisualVocabulary.of(config), {}
    strings, tokenizer, seconds = (options.get(name) for name in ("stop_strings", "tokenizer", "max_time"))
    if strings is not None and tokenizer is not None:  # without one, transformers says what is missing
        found["stop_strings"] = StopStringCriteria(tokenizer, strings)
    if seconds is not None:
        found["max_time"] = MaxTimeCriteria(seconds)
    if found:
        added = [AfterText(criterion, vocabulary) for criterion in found.values()]
        kwargs["stopping_criteria"] = [*(kwargs.get("stopping_criteria") or ()), *added]
    return dict.fromkeys(found)


__all__ = ["AfterText", "stop_after_text"]
