"""Builders of tiny, randomly initialised models that the tests share. Nothing here touches a network or a GPU."""

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from seed_hf.modeling.configuration_seed import SeedTokenizerConfig


WORDS = "a red apple the blue fire engine generate an image photo of question what is shown ? short answer . : yes no"


def tiny_tokenizer_config(**overrides) -> SeedTokenizerConfig:
    """A SEED tokenizer of a few thousand weights: 28 px images, 32 codes, 64 codebook vectors, hidden width 24."""
    settings = {
        "vision_config": {
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
            "initializer_range": 0.2,
        },
        "qformer_config": {
            "hidden_size": 24,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "vocab_size": 331,  # that of `tiny_text_tokenizer`
            "max_position_embeddings": 32,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "initializer_range": 0.2,
        },
        "reverse_qformer_config": {
            "hidden_size": 24,
            "encoder_hidden_size": 24,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        },
        "codebook_size": 64,
        "code_dim": 8,
        "projection_dim": 16,
        "text_tower": True,
        "decoder_config": {
            "intermediate_size": 48,
            "num_hidden_layers": 1,
            "hidden_size": 24,
            "num_attention_heads": 2,
        },
        "num_generation_tokens": 6,
        "generation_dim": 20,
        "initializer_range": 0.2,
        **overrides,
    }
    return SeedTokenizerConfig(**settings)


def tiny_tokenizer(seed: int = 0, **overrides):
    """A [`SeedTokenizer`] with random weights and a codebook as spread out as its inputs, in eval mode."""
    from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer

    torch.manual_seed(seed)
    model = SeedTokenizer(tiny_tokenizer_config(**overrides)).eval()
    with torch.no_grad():
        model.quantizer.embedding.weight.normal_(std=0.3)
    return model


def tiny_text_tokenizer() -> PreTrainedTokenizerFast:
    """A lower-casing byte-level BPE of 331 entries with OPT's special tokens; `<s>` and `</s>` are apart."""
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=390,
        special_tokens=["<s>", "<pad>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([WORDS, " " + WORDS] * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", model_max_length=64
    )


def tiny_text_encoder(seed: int = 0):
    """A CLIP text encoder of the tiny tokenizer's generation width, for the ids of `tiny_text_tokenizer`."""
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(seed)
    size = {"hidden_size": 20, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    special = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    return CLIPTextModel(CLIPTextConfig(vocab_size=400, **size, **special)).eval()


def tiny_image_encoder(seed: int = 0):
    """A CLIP image encoder of 28 px images and the tiny tokenizer's generation width."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(seed)
    size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPVisionConfig(image_size=28, patch_size=14, projection_dim=20, initializer_factor=20.0, **size)
    return CLIPVisionModelWithProjection(config).eval()
