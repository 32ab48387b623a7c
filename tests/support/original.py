"""The golden sets, and state dicts under the authors' names at other sizes."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from seed_hf import SeedTokenizer, SeedTokenizerConfig
from seed_hf.conversion.original_names import OriginalNames


GOLDEN = Path(__file__).parents[1] / "golden"
SETS = ("seed1_tokenizer", "seed2_tokenizer", "stage1_contrastive", "stage2_text", "stage2_image")
HEADS = {"vision_heads": 4}  # of the golden sets; their Q-Formers have 12, the default
STAGE_TWO = ("code_encoder", "quantizer", "code_decoder", "embedding_decoder", "generation_decoder")


def golden_weights(name: str) -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / f"{name}_weights.safetensors")


def golden_io(name: str) -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / f"{name}_io.safetensors")


def other_size(seed: int = 0, **overrides) -> SeedTokenizer:
    """Random weights of none of the golden sizes: ViT width 88, 3 blocks; Q-Former width 96, 4 layers; 8192 codes."""
    qformer = {"hidden_size": 96, "intermediate_size": 200, "num_attention_heads": 12, "initializer_range": 0.1}
    settings = {
        "vision_config": {
            "hidden_size": 88,
            "intermediate_size": 180,
            "num_hidden_layers": 3,
            "num_attention_heads": 8,
            "image_size": 64,
            "patch_size": 16,
            "initializer_range": 0.1,
        },
        "qformer_config": {"num_hidden_layers": 4, "vocab_size": 90, "max_position_embeddings": 40, **qformer},
        "decoder_config": {
            "hidden_size": 96,
            "intermediate_size": 150,
            "num_hidden_layers": 4,
            "num_attention_heads": 12,
            "layer_norm_eps": 1e-6,
            "initializer_range": 0.1,
        },
        "projection_dim": 24,
        "codebook_size": 8192,
        "initializer_range": 0.1,
        **overrides,
    }
    torch.manual_seed(seed)
    model = SeedTokenizer(SeedTokenizerConfig(**settings)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():  # norms and biases, too
            if name != "temperature":
                parameter.add_(torch.randn_like(parameter) * 0.05)
            if name.startswith("vision_model") and name.endswith("qkv.bias"):
                parameter[len(parameter) // 3 : 2 * len(parameter) // 3] = 0  # the authors' keys have no bias
    return model


def original_state(model: SeedTokenizer, names: OriginalNames | None = None) -> dict[str, torch.Tensor]:
    """The weights of `model` under the authors' names."""
    names = names or OriginalNames(model.config.generation_target)
    state = {}
    for ours, weight in model.state_dict().items():
        keys = names.of(ours)
        weight = weight.squeeze() if ours == "temperature" else weight  # a scalar there
        parts = [weight] if len(keys) == 1 else [weight.chunk(3)[0], weight.chunk(3)[2]]
        state.update({key: part.clone() for key, part in zip(keys, parts)})
    return state


def stage_one_state(model: SeedTokenizer) -> dict[str, torch.Tensor]:
    names = OriginalNames()
    later = {key for ours in model.state_dict() if ours.startswith(STAGE_TWO) for key in names.of(ours)}
    return {key: value for key, value in original_state(model, names).items() if key not in later}


def write_original_files(folder: Path) -> None:
    """Small checkpoints in files like those of the authors, with the published numbers of heads: the ViT, which all
    need, the rest of SEED-1 in two files, of SEED-2 in one, and of BLIP-2 in one."""
    vit = other_size().config.vision_config.to_dict() | {"hidden_size": 64, "num_attention_heads": 16}
    seed1, seed2, blip2 = (
        other_size(vision_config=vit, **settings)
        for settings in ({}, {"generation_target": "image", "generation_dim": 40}, {"text_tower": True})
    )
    state = original_state(seed1)
    eyes = {key: value for key, value in state.items() if key.startswith("visual_encoder.")}
    qformer = {key: value for key, value in state.items() if key.startswith(("Qformer.", "query_tokens", "ln_vision"))}
    files = {
        "causal_qformer.pth": qformer,
        "seed_tokenizer.pth": {key: value for key, value in state.items() if key not in {*eyes, *qformer}},
        "seed_quantizer.pt": {k: v for k, v in original_state(seed2, OriginalNames("image")).items() if k not in eyes},
        "blip2_pretrained.pth": {key: value for key, value in stage_one_state(blip2).items() if key not in eyes},
    }
    for name, weights in files.items():
        torch.save({"model": weights}, folder / name)
    torch.save({key.removeprefix("visual_encoder."): value for key, value in eyes.items()}, folder / "eva_vit_g.pth")
