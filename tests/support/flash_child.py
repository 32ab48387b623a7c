"""Every model that declares flash attention, with it and with sdpa, in bf16 on a GPU; prints how far apart they are.

    PYTHONPATH=tests/support:tests/support/flash_of_torch python tests/support/flash_child.py

The kernel is that of the package `flash_attn`. Where it is not installed, `flash_of_torch` has one of that name: it
calls FlashAttention 2 as PyTorch ships it, and transformers runs its whole flash route on it.
"""

import importlib

import torch
from torch.nn import functional as F
from transformers.utils import is_flash_attn_2_available

from seed_hf.data.batches.language_model import LanguageModelCollator
from seed_hf.data.batches.packing import packed_inputs
from seed_hf.modeling.extension_seed import extended
from tiny import tiny_text_tokenizer, tiny_tokenizer
from tiny_families import FAMILIES
from tiny_language import CODEBOOK_SIZE, TEXT_VOCAB_SIZE


DEVICE, DTYPE, FLASH = "cuda", torch.bfloat16, "flash_attention_2"
WIDE = {"hidden_size": 128, "num_attention_heads": 2, "num_hidden_layers": 2}  # the kernels want heads of 64
WIDE |= {"initializer_range": 0.05, "init_std": 0.05, "word_embed_proj_dim": 128, "head_dim": 64}
VISUAL = {"codebook_size": CODEBOOK_SIZE, "num_query_tokens": 32, "code_dim": 8, "visual_embedding": "learned"}


def wide_model(name: str):
    """A language model of a family with heads that a kernel takes."""
    torch.manual_seed(0)
    tiny = FAMILIES[name][0]()
    config = tiny.config.to_dict()
    config |= {key: value for key, value in WIDE.items() if key in config}
    plain = type(tiny)(type(tiny.config)(**config))
    return extended(FAMILIES[name][1], plain, text_vocab_size=TEXT_VOCAB_SIZE, codebook=None, **VISUAL).eval()


def in_turn(make, compute) -> None:
    """What is computed in fp32, and how far from it the two attentions are in bf16. Flash may be as far as sdpa."""
    reference = compute(make().to(DEVICE), "sdpa")
    sdpa, flash = (compute(make().to(DEVICE, DTYPE), attention) for attention in ("sdpa", FLASH))
    for name, expected in reference.items():
        scale = expected.abs().max()
        far = [((one[name].float() - expected).abs().max() / scale).item() for one in (sdpa, flash)]
        print(f"  {name}: sdpa {far[0]:.5f}, flash {far[1]:.5f} from fp32")
        assert far[1] <= 2 * far[0] + 1e-3, name


def language_model(model, attention: str) -> dict[str, torch.Tensor]:
    model.set_attn_implementation(attention)
    assert model.config._attn_implementation == attention
    ids = torch.randint(3, 300, (3, 40), generator=torch.Generator().manual_seed(0)).to(DEVICE)
    mask = torch.ones_like(ids)
    mask[0, :17] = 0
    with torch.no_grad():
        logits = model(ids, attention_mask=mask).logits[mask.bool()]
        spans = model.generate(ids, attention_mask=mask, generation_mode="image", do_sample=False)[:, ids.shape[1] :]
    codes = spans[:, 1:33] - model.config.visual_token_offset
    assert codes.shape == (3, 32) and codes.min() >= 0 and codes.max() < CODEBOOK_SIZE
    rows = [{"codes": list(range(i, i + 32)), "caption": "a red apple " * (i + 1)} for i in range(5)]
    packed = LanguageModelCollator(tiny_text_tokenizer(), model.config, pack_length=160)(rows)
    packed = {key: value.to(DEVICE) for key, value in packed.items() if isinstance(value, torch.Tensor)}
    out = model(**packed_inputs(packed, attention), use_cache=False).logits.flatten(0, 1)[packed["loss_positions"]]
    F.cross_entropy(out.float(), packed["labels"].flatten()[packed["loss_positions"] + 1]).backward()
    gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    return {"logits of padded rows": logits, "logits of packed rows": out.detach(), "their gradients": gradients}


def visual_tokenizer(model, attention: str) -> dict[str, torch.Tensor]:
    model.set_attn_implementation({"vision_config": attention})
    assert model.vision_model.config._attn_implementation == attention
    pixels = torch.randn(3, 3, 28, 28, generator=torch.Generator().manual_seed(0)).to(DEVICE, model.dtype)
    with torch.no_grad():
        return {"causal embeddings": model.get_causal_embeddings(pixels)}


def wide_tokenizer():
    vision = tiny_tokenizer().config.vision_config.to_dict()
    return tiny_tokenizer(vision_config={**vision, "hidden_size": 128, "initializer_range": 0.05})


if __name__ == "__main__":
    assert is_flash_attn_2_available()
    print("kernel of", importlib.import_module("flash_attn").__file__)
    for name in FAMILIES:
        print(name)
        in_turn(lambda name=name: wide_model(name), language_model)
    print("visual tokenizer")
    in_turn(wide_tokenizer, visual_tokenizer)
