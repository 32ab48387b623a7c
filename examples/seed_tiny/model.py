"""The sizes of seed-tiny: one place for what the stages of the recipe share."""

from seed_hf.modeling.configuration_seed import SeedTokenizerConfig


WIDTH = 192
TEXT_LENGTH = 24  # tokens of a caption, and so generation embeddings; Stable Diffusion has 77
CODEBOOK = 4096
VOCABULARY = 1280
PROJECTION = 192
GUIDANCE = 4.0  # of drawings; the judge names more of them than at 2 or 7 (measure_drawings.py --guidance)


def tokenizer_config(vocabulary: int) -> SeedTokenizerConfig:
    """SEED at a size that a laptop runs: the paper's structure, 96 px pictures, width 192."""
    layers = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_attention_heads": 6}
    quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return SeedTokenizerConfig(
        vision_config={
            "hidden_size": WIDTH,
            "intermediate_size": 4 * WIDTH,
            "num_hidden_layers": 6,
            "num_attention_heads": 6,
            "image_size": 96,
            "patch_size": 12,
            "initializer_range": 0.02,
        },
        vision_norm_eps=1e-6,
        qformer_config={
            **layers,
            **quiet,
            "num_hidden_layers": 4,
            "vocab_size": vocabulary,
            "max_position_embeddings": 64,
            "pad_token_id": 1,
        },
        reverse_qformer_config={
            **layers,
            **quiet,
            "num_hidden_layers": 2,
            "encoder_hidden_size": WIDTH,
            "cross_attention_frequency": 1,
        },
        decoder_config={**layers, "num_hidden_layers": 2, "layer_norm_eps": 1e-6, "initializer_range": 0.02},
        codebook_size=CODEBOOK,
        projection_dim=PROJECTION,
        text_tower=True,
        num_generation_tokens=TEXT_LENGTH,
        generation_dim=WIDTH,
        generation_loss_weight=2.0,  # the paper's 0.5 leaves drawing behind in a run as short as this one
    )
