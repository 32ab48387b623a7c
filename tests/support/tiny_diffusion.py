"""Builders of tiny diffusion parts and pipelines around `tiny.tiny_tokenizer`."""

import torch
from diffusers import AutoencoderDC, AutoencoderKL, UNet2DConditionModel

from tiny import tiny_text_tokenizer, tiny_tokenizer


DIM = 20  # generation_dim of tiny_tokenizer
TOKENS = 6  # num_generation_tokens of tiny_tokenizer


def some_codes(rows: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.randint(64, (rows, 32), generator=torch.Generator().manual_seed(seed))


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def tiny_unet(seed: int = 1, **overrides) -> UNet2DConditionModel:
    torch.manual_seed(seed)
    settings = {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "cross_attention_dim": DIM,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "norm_num_groups": 4,
        "attention_head_dim": 4,
        **overrides,
    }
    return UNet2DConditionModel(**settings).eval()


def tiny_vae(seed: int = 2) -> AutoencoderKL:
    """Pictures of 16 x 16 from latents of 4 x 8 x 8."""
    torch.manual_seed(seed)
    vae = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=16,
        scaling_factor=0.5,
    )
    return vae.eval()


def tiny_dc(seed: int = 2) -> AutoencoderDC:
    """The same sizes as `tiny_vae`, of the kind that seed-tiny uses."""
    torch.manual_seed(seed)
    blocks = {
        "block_types": ("ResBlock", "ResBlock"),
        "block_out_channels": (8, 8),
        "qkv_multiscales": ((), ()),
        "layers_per_block": (1, 1),
    }
    vae = AutoencoderDC(
        latent_channels=4,
        attention_head_dim=4,
        scaling_factor=0.5,
        **{f"{half}_{name}": value for half in ("encoder", "decoder") for name, value in blocks.items()},
    )
    return vae.eval()


def tiny_model_and_processor(seed: int = 4):
    """A `SeedForConditionalGeneration` with a random language model, and its `SeedProcessor`."""
    from seed_hf import (
        SeedForCausalLM,
        SeedForConditionalGeneration,
        SeedImageProcessor,
        SeedProcessor,
        SeedTextConfig,
    )
    from seed_hf.modeling.processing_seed import extend_text_tokenizer

    text_tokenizer = tiny_text_tokenizer()
    torch.manual_seed(seed)
    config = SeedTextConfig(
        text_vocab_size=len(text_tokenizer),
        codebook_size=64,
        code_dim=8,
        hidden_size=16,
        word_embed_proj_dim=16,
        ffn_dim=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=128,
        init_std=0.5,
        bos_token_id=text_tokenizer.bos_token_id,
        eos_token_id=text_tokenizer.eos_token_id,
        pad_token_id=text_tokenizer.pad_token_id,
    )
    model = SeedForConditionalGeneration.from_parts(tiny_tokenizer(), SeedForCausalLM(config)).eval()
    image_processor = SeedImageProcessor(size={"height": 28, "width": 28})
    return model, SeedProcessor(image_processor, extend_text_tokenizer(text_tokenizer, codebook_size=64))


def tiny_pipeline(seed_model=None, **parts):
    """A silent pipeline with random weights; around a bare tokenizer unless told otherwise."""
    from seed_hf.pipelines.empty_prompt import EmptyPromptEmbedding
    from seed_hf.pipelines.pipeline_seed_image import SeedImagePipeline

    parts = {"unet": tiny_unet(), "vae": tiny_vae(), **parts}
    if "empty_prompt" not in parts and "text_encoder" not in parts:
        torch.manual_seed(3)
        parts["empty_prompt"] = EmptyPromptEmbedding.from_embeds(torch.randn(TOKENS, DIM))
    pipe = SeedImagePipeline(tiny_tokenizer() if seed_model is None else seed_model, **parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def tiny_donor(kind: str, text_tokenizer=None):
    """A whole `StableDiffusionPipeline` ("text") or `StableUnCLIPImg2ImgPipeline` ("image") for `tiny_tokenizer`."""
    from diffusers import DDIMScheduler, DDPMScheduler, StableDiffusionPipeline, StableUnCLIPImg2ImgPipeline
    from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
    from transformers import (
        CLIPImageProcessor,
        CLIPTextConfig,
        CLIPTextModel,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
    )

    tokenizer = text_tokenizer or tiny_text_tokenizer()
    tokenizer.model_max_length = TOKENS
    torch.manual_seed(5)
    sizes = {"hidden_size": DIM, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text_encoder = CLIPTextModel(
        CLIPTextConfig(vocab_size=len(tokenizer), max_position_embeddings=TOKENS, eos_token_id=2, **sizes)
    ).eval()
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1)
    shared = {"vae": tiny_vae(), "text_encoder": text_encoder, "tokenizer": tokenizer, "scheduler": scheduler}
    if kind == "text":
        donor = StableDiffusionPipeline(
            unet=tiny_unet(), safety_checker=None, feature_extractor=None, requires_safety_checker=False, **shared
        )
    else:
        normalizer = StableUnCLIPImageNormalizer(embedding_dim=DIM)
        with torch.no_grad():
            normalizer.mean.normal_()
            normalizer.std.uniform_(0.5, 2.0)
        vision = CLIPVisionConfig(image_size=28, patch_size=14, projection_dim=DIM, **sizes)
        donor = StableUnCLIPImg2ImgPipeline(
            feature_extractor=CLIPImageProcessor(size={"height": 28, "width": 28}),
            image_encoder=CLIPVisionModelWithProjection(vision).eval(),
            image_normalizer=normalizer,
            image_noising_scheduler=DDPMScheduler(num_train_timesteps=50),
            unet=tiny_unet(class_embed_type="projection", projection_class_embeddings_input_dim=2 * DIM),
            **shared,
        )
    donor.set_progress_bar_config(disable=True)
    return donor
