"""Compares a converted tokenizer with results of the authors' code for the same weights and inputs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer


# Largest relative difference that counts as equal in fp32 on a CPU. Gradients are rounded twice.
TOLERANCE = 1e-5
GRADIENT_FACTOR = 10
# Inputs of the stages. Everything else in a recorded file is a result.
_INPUTS = ("pixel_values", "input_ids", "attention_mask", "text_features", "image_features")


@dataclass
class ParityRow:
    """One recorded tensor.

    Args:
        stage: Its name.
        absolute: The largest difference.
        relative: The largest difference over the largest recorded value.
        equal: For codes, the share that is equal.
    """

    stage: str
    absolute: float
    relative: float
    equal: float | None = None

    def holds(self, tolerance: float) -> bool:
        if self.equal is not None:
            return self.equal == 1.0
        return self.relative <= tolerance * (GRADIENT_FACTOR if self.stage.startswith("grad_") else 1)


@dataclass
class Parity:
    """The comparison of all recorded tensors. `print` shows it as a table.

    Args:
        rows: One for each tensor.
        tolerance: Largest relative difference of results and losses. Gradients may differ ten times as much.
    """

    rows: list[ParityRow] = field(default_factory=list)
    tolerance: float = TOLERANCE

    @property
    def holds(self) -> bool:
        """Whether all codes are equal and everything else within the tolerance."""
        return all(row.holds(self.tolerance) for row in self.rows)

    def __str__(self) -> str:
        lines = [f"{'stage':<22}{'largest difference':>20}{'relative':>12}{'equal codes':>14}"]
        for row in self.rows:
            equal = "" if row.equal is None else f"{100 * row.equal:.2f} %"
            verdict = "" if row.holds(self.tolerance) else "  too far"
            lines.append(f"{row.stage:<22}{row.absolute:>20.2e}{row.relative:>12.2e}{equal:>14}{verdict}")
        return "\n".join(lines)


def read_recorded(path: str | Path) -> dict[str, torch.Tensor]:
    """The tensors of a `*_io.safetensors` file.

    Args:
        path: The file.

    Raises:
        ValueError: The file is absent or damaged.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise ValueError(
            f"{path}: not a readable safetensors file with recorded inputs and results. {error}"
        ) from error


def compare_tokenizer(
    model: SeedTokenizer, recorded: Mapping[str, torch.Tensor], tolerance: float = TOLERANCE
) -> Parity:
    """Run a model on recorded inputs and compare all recorded results.

    Args:
        model: In eval mode.
        tolerance: See [`Parity`].
        recorded: `pixel_values` and any of these results of the authors' classes:

            - inference: `image_embeds`, `causal_embeddings`, `pre_quant`, `codes`, `post_quant`, `recon_hidden` (the
              code decoder's output), `reverse_hidden`, `generation_embeds`;
            - stage I, with `input_ids` and `attention_mask`: `image_feature`, `text_feature`, `loss_itc`,
              `grad_query_tokens`, `grad_temp`, `grad_text_proj`;
            - stage II, with `text_features` or `image_features`: `recon_causal`, the weighted losses `loss_embed`,
              `loss_recon_s`, `loss_distil_text` or `loss_distil_image` and their sum `loss`, `grad_codebook`,
              `grad_encode_0`.

    Raises:
        ValueError: There are no inputs, a recorded name is unknown, or the model lacks that stage.
    """
    if "pixel_values" not in recorded:
        raise ValueError(f"The recorded file has no pixel_values, only {', '.join(sorted(recorded)) or 'nothing'}.")
    names = [name for name in recorded if name not in _INPUTS]
    size = model.config.vision_config.image_size
    if tuple(recorded["pixel_values"].shape[1:]) != (3, size, size):
        given = tuple(recorded["pixel_values"].shape)
        raise ValueError(f"The recorded pixel_values are {given}; this tokenizer takes (batch, 3, {size}, {size}).")
    if not names:
        raise ValueError("The recorded file has inputs alone, and no result to compare with.")
    computed = _stage_one(model, recorded) if "input_ids" in recorded else _stage_two(model, recorded)
    if unknown := [name for name in names if name not in computed]:
        raise ValueError(
            f"The recorded file has unknown results: {', '.join(unknown)}. Known results for its inputs: "
            f"{', '.join(computed)}."
        )
    # In the order of the computation, so that the table shows where a difference begins.
    rows = [_row(name, computed[name], recorded[name]) for name in computed if name in recorded]
    return Parity(rows, tolerance)


def _row(name: str, ours: torch.Tensor, theirs: torch.Tensor) -> ParityRow:
    if ours.numel() != theirs.numel():
        raise ValueError(f"{name}: recorded as {tuple(theirs.shape)}, computed as {tuple(ours.shape)}.")
    ours, theirs = ours.detach().double().reshape(theirs.shape), theirs.double()
    difference, largest = (ours - theirs).abs().amax().item(), theirs.abs().amax().item()
    equal = (ours == theirs).double().mean().item() if name == "codes" else None
    return ParityRow(name, difference, difference / max(largest, 1e-30), equal)


def _stage_one(model: SeedTokenizer, recorded) -> dict[str, torch.Tensor]:
    inputs = (recorded["pixel_values"], recorded["input_ids"], recorded.get("attention_mask"))
    with torch.enable_grad():
        output = model(*inputs, stage="contrastive")
        weights = (model.query_tokens, model.temperature, model.text_projection.weight)
        gradients = torch.autograd.grad(output.loss, weights)
    return {
        "causal_embeddings": output.causal_embeddings,
        "image_feature": output.image_features,
        "text_feature": output.text_features,
        "loss_itc": output.loss,
        **dict(zip(("grad_query_tokens", "grad_temp", "grad_text_proj"), gradients)),
    }


def _stage_two(model: SeedTokenizer, recorded) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        vision = model.vision_model(recorded["pixel_values"]).last_hidden_state
        causal = model.get_causal_embeddings(vision_embeddings=vision)
        before = model.code_encoder(causal)
        codes = model.quantizer.encode(before)
        after = model.code_decoder(model.quantizer.lookup(codes))
        head = model.generation_decoder
        decoded = head.decoder(after)
        computed = {
            "image_embeds": vision,
            "causal_embeddings": causal,
            "pre_quant": before,
            "codes": codes,
            "post_quant": after,
            "recon_hidden": decoded,
        }
        if head.has_queries:
            queries = head.query_tokens.expand(len(codes), -1, -1)
            computed["reverse_hidden"] = head.reverse_qformer(queries, encoder_hidden_states=decoded).last_hidden_state
        computed["generation_embeds"] = head(after)
        if model.config.embedding_decoder:
            computed["recon_causal"] = model.embed_codes(codes)
    target = model.config.generation_target
    if f"{target}_features" not in recorded:
        return computed
    with torch.enable_grad():
        output = model(
            causal_embeddings=causal, target_embeddings=recorded[f"{target}_features"], stage="quantization"
        )
        weights = (model.quantizer.embedding.weight, model.code_encoder[0].get_parameter("weight"))
        gradients = torch.autograd.grad(output.loss, weights)
    config = model.config
    computed["loss_embed"] = config.vq_loss_weight * output.vq_loss
    if output.reconstruction_loss is not None:
        computed["loss_recon_s"] = config.reconstruction_loss_weight * output.reconstruction_loss
    computed[f"loss_distil_{target}"] = config.generation_loss_weight * output.generation_loss
    computed["loss"] = output.loss
    return {**computed, **dict(zip(("grad_codebook", "grad_encode_0"), gradients))}
