"""Models of the published sizes with random weights, made on the device: nothing is downloaded or copied to it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from seed_hf.modeling.configuration_seed import SeedLlamaConfig, SeedTextConfig, SeedTokenizerConfig
from seed_hf.modeling.modeling_seed_text import SeedForCausalLM, SeedLlamaForCausalLM
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer


if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel


M = TypeVar("M", bound=torch.nn.Module)

# SEED-1 draws with Stable Diffusion 1, SEED-2 with Stable unCLIP (2.1).
UNETS: dict[str, dict[str, Any]] = {
    "sd-1.5": {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
    "unclip": {
        "sample_size": 96,
        "cross_attention_dim": 1024,
        "attention_head_dim": (5, 10, 20, 20),
        "use_linear_projection": True,
        "class_embed_type": "projection",
        "projection_class_embeddings_input_dim": 2048,
    },
}


def on_device(make: Callable[[], M], device: torch.device | str, dtype: torch.dtype) -> M:
    """A module in eval mode whose weights are drawn on the device, in its number type.

    Args:
        make: Makes it.
        device: Where.
        dtype: Of the weights.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            module = make()
    finally:
        torch.set_default_dtype(before)
    return module.eval().requires_grad_(False)


def visual_tokenizer(device: torch.device | str, dtype: torch.dtype, layers: int = 39, **settings) -> SeedTokenizer:
    """SEED's tokenizer: ViT-g, Causal Q-Former, codebook, decoders.

    Args:
        device: Where.
        dtype: Of the weights.
        layers: Blocks of the ViT; 39 is the full depth.
        settings: Other fields of [`SeedTokenizerConfig`].
    """
    config = SeedTokenizerConfig(vision_config={"num_hidden_layers": layers}, **settings)
    return on_device(lambda: SeedTokenizer._from_config(config, dtype=dtype), device, dtype)


def opt_2_7b(device: torch.device | str, dtype: torch.dtype, layers: int = 32) -> SeedForCausalLM:
    """OPT-2.7B with 8,192 codes: SEED-OPT's language model.

    Args:
        device: Where.
        dtype: Of the weights.
        layers: Blocks; 32 is the full depth.
    """
    config = SeedTextConfig(
        hidden_size=2560, ffn_dim=10240, num_hidden_layers=layers, num_attention_heads=32, word_embed_proj_dim=2560
    )
    return on_device(lambda: SeedForCausalLM._from_config(config, dtype=dtype), device, dtype)


def llama_7b(device: torch.device | str, dtype: torch.dtype, layers: int = 32) -> SeedLlamaForCausalLM:
    """Vicuna-7B with 8,192 codes: the language model of SEED-LLaMA 8B.

    Args:
        device: Where.
        dtype: Of the weights.
        layers: Blocks; 32 is the full depth.
    """
    config = SeedLlamaConfig(text_vocab_size=32000, num_hidden_layers=layers, max_position_embeddings=2048)
    return on_device(lambda: SeedLlamaForCausalLM._from_config(config, dtype=dtype), device, dtype)


def unet(kind: str, device: torch.device | str, dtype: torch.dtype, **settings) -> "UNet2DConditionModel":
    """The UNet of Stable Diffusion 1.5 or of Stable unCLIP 2.1.

    Args:
        kind: `"sd-1.5"` or `"unclip"`.
        device: Where.
        dtype: Of the weights.
        settings: Fields of its configuration that differ, fewer blocks for example.
    """
    from diffusers import UNet2DConditionModel

    # The defaults of the class are Stable Diffusion's, but for these.
    return on_device(lambda: UNet2DConditionModel(**{**UNETS[kind], **settings}), device, dtype)


def vae(device: torch.device | str, dtype: torch.dtype, **settings) -> "AutoencoderKL":
    """The VAE of Stable Diffusion.

    Args:
        device: Where.
        dtype: Of the weights.
        settings: Fields of its configuration that differ.
    """
    from diffusers import AutoencoderKL

    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    size = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "sample_size": 512}
    return on_device(lambda: AutoencoderKL(**{**kinds, **size, **settings}), device, dtype)
