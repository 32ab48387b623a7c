"""Packing: several samples share a sequence of a fixed length, and none attends to another."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers.utils import is_flash_attn_2_available, is_flash_attn_3_available


PADDING = -1  # the sample id of a token that belongs to no sample


def pack(lengths: Sequence[int], pack_length: int) -> list[tuple[int, int]]:
    """Places for samples in sequences, by first-fit decreasing.

    Samples are placed from the longest to the shortest, each into the first sequence with room for it; equal lengths
    keep their order. So the same lengths always give the same places.

    Args:
        lengths: Tokens of each sample.
        pack_length: Tokens of a sequence.

    Returns:
        For each sample, in the order of `lengths`, the number of its sequence and its first position there.

    Raises:
        ValueError: A sample is longer than a sequence.
    """
    if max(lengths) > pack_length:
        raise ValueError(f"A sample of {max(lengths)} tokens does not fit into sequences of {pack_length}.")
    used: list[int] = []
    places = [(0, 0)] * len(lengths)
    for sample in sorted(range(len(lengths)), key=lambda sample: -lengths[sample]):
        fits = (row for row, taken in enumerate(used) if taken + lengths[sample] <= pack_length)
        row = next(fits, len(used))
        if row == len(used):
            used.append(0)
        places[sample] = row, used[row]
        used[row] += lengths[sample]
    return places


def borders(sample_ids: np.ndarray) -> np.ndarray:
    """The first positions, in the flattened batch, of each stretch of one sample or of padding, and the batch's end.

    Args:
        sample_ids (`np.ndarray` of shape `(B, L)`): The sample of each token, `PADDING` for none.

    Returns:
        `np.ndarray` of shape `(S + 1,)`, int32: what the flash kernels call the cumulative sequence lengths.
    """
    begins = np.ones(sample_ids.shape, dtype=bool)
    begins[:, 1:] = sample_ids[:, 1:] != sample_ids[:, :-1]
    return np.append(begins.ravel().nonzero()[0], sample_ids.size).astype(np.int32)


def block_causal_mask(sample_ids: torch.Tensor) -> torch.Tensor:
    """The attention mask: a token attends only to itself and earlier tokens of its own sample.

    Args:
        sample_ids (`torch.LongTensor` of shape `(B, L)`): The sample of each token. Padding counts as one more sample,
            because a row of the mask without any true value would give NaN.

    Returns:
        `torch.BoolTensor` of shape `(B, 1, L, L)`, queries before keys; true where a query attends to a key.
    """
    same = sample_ids[:, None, :, None] == sample_ids[:, None, None, :]
    return same.tril_()


def packed_inputs(batch: Mapping[str, torch.Tensor], attn_implementation: str, config: Any = None) -> dict[str, Any]:
    """The inputs of a language model for a packed batch, such that the attention in use keeps samples apart.

    OPT's own attention ignores that `position_ids` start again at 0. So sdpa and eager get the whole mask. The flash
    kernels take no mask: they get the batch as one row, with the borders between samples.

    Args:
        batch: From a [`LanguageModelCollator`] with `pack_length`.
        attn_implementation: "sdpa", "eager", or a name with "flash" in it.
        config: Of the language model, which says whether some layers look only so many tokens back. The flash kernels
            are told so by the model.

    Raises:
        ValueError: The attention is any other.
    """
    ids, positions = batch["input_ids"], batch["position_ids"]
    check_attention(attn_implementation)
    if "flash" in attn_implementation:
        cu_seq_lens = batch["cu_seq_lens"]
        return {
            "input_ids": ids.reshape(1, -1),
            "position_ids": positions.reshape(1, -1),
            "cu_seq_lens_q": cu_seq_lens,
            "cu_seq_lens_k": cu_seq_lens,
            # The kernels allow an upper bound. The true maximum would have to be copied from the device.
            "max_length_q": ids.shape[1],
            "max_length_k": ids.shape[1],
        }
    masks = _masks(block_causal_mask(batch["sample_ids"]), config)
    if attn_implementation == "eager":  # adds its mask to the scores
        masks = {kind: _added(mask) for kind, mask in masks.items()}
    mask = masks if len(masks) > 1 else next(iter(masks.values()))
    return {"input_ids": ids, "position_ids": positions, "attention_mask": mask}


def _masks(mask: torch.Tensor, config: Any) -> dict[str, torch.Tensor]:
    """The mask of each kind of layers. A model whose layers are all of one kind takes it as it is."""
    window, kinds = getattr(config, "sliding_window", None), set(getattr(config, "layer_types", None) or ())
    length = mask.shape[-1]
    if not window or window >= length or kinds == {"full_attention"}:
        return {"full_attention": mask}
    near = torch.ones(length, length, dtype=torch.bool, device=mask.device).triu_(1 - window)
    sliding = {"sliding_attention": mask & near}
    return {"full_attention": mask, **sliding} if "full_attention" in kinds else sliding


def _added(mask: torch.Tensor) -> torch.Tensor:
    return torch.zeros(mask.shape, device=mask.device).masked_fill_(~mask, torch.finfo(torch.float32).min)


def check_attention(attn_implementation: str) -> None:
    """Raise `ValueError` for an attention that would let packed samples attend to each other."""
    if attn_implementation not in ("sdpa", "eager") and "flash" not in attn_implementation:
        raise ValueError(
            f"Packed samples cannot be kept apart with the attention {attn_implementation!r}. Load the language model "
            "with attn_implementation='sdpa', 'eager' or 'flash_attention_2', or leave out pack_length."
        )


def installed_flash_attention() -> str | None:
    """The name of the newest flash kernel that is installed and has a device to run on; `None` if there is none."""
    if is_flash_attn_3_available():
        return "flash_attention_3"
    return "flash_attention_2" if is_flash_attn_2_available() else None
