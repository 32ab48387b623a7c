"""FlashAttention 2 of PyTorch under the names of the package flash-attn."""

import torch


__version__ = "2.8.3"


def _attend(q, k, v, q_ends, k_ends, q_length, k_length, scale, causal):
    return torch.ops.aten._flash_attention_forward(
        q, k, v, q_ends, k_ends, q_length, k_length, 0.0, causal, False, scale=scale
    )[0]


def flash_attn_func(q, k, v, dropout_p=0.0, softmax_scale=None, causal=False, **kwargs):
    return _attend(q, k, v, None, None, q.shape[1], k.shape[1], softmax_scale, causal)


def flash_attn_varlen_func(
    q,
    k,
    v,
    cu_seqlens_q,
    cu_seqlens_k,
    max_seqlen_q,
    max_seqlen_k,
    dropout_p=0.0,
    softmax_scale=None,
    causal=False,
    **kwargs,
):
    return _attend(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, softmax_scale, causal)


flash_attn_with_kvcache = None
