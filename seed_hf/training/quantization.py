"""Stage II: codebook, decoder and Reverse Q-Former on top of the frozen encoder (arXiv 2307.08041, section 3.2)."""

import itertools
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast, gather_object
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from transformers import TrainerCallback

from seed_hf.codes import CodebookUsage, distinct
from seed_hf.data.batches.image_text import ImageTextCollator
from seed_hf.data.features.cached import CachedFeatures, FeatureFile
from seed_hf.data.features.targets import image_targets, text_targets

from .arguments import StageArguments
from .codebook import kmeans, pick
from .gathering import gather_features
from .options import check_tokenizer, checked
from .trainer import SeedTrainer
from .watched_images import WatchedCodes


logger = logging.getLogger(__name__)
_CHANGING = "With train_qformer, rows need images or vision_embeddings: causal embeddings change."
USAGE_FILE = "codebook_usage.safetensors"


@dataclass
class QuantizationConfig(StageArguments):
    """Arguments of stage II. Defaults are the authors' (`SEED_Tokenizer/`, `pretrain_codebook.yaml`), for 64 GPUs.

    The weights of the losses are part of the model: see `SeedTokenizerConfig`. With little data, set `warmup_steps` to
    a fraction of the run, for example 0.05.

    Args:
        codebook_init (`str`, *optional*, defaults to `"none"`): `"kmeans"` moves the codebook vectors to k-means
            centres of encoder outputs before the first step, also where the codebook was trained before. The paper
            starts from small random vectors.
        kmeans_batches (`int`, *optional*, defaults to 8): Number of random training batches, of all processes, for
            k-means.
        kmeans_iterations (`int`, *optional*, defaults to 10): Iterations of k-means.
        revive_dead_codes_every (`int`, *optional*, defaults to 0): Number of steps after which codes that were not
            used meanwhile move to random encoder outputs of the last batch. 0 leaves them alone, as in the paper.
        train_qformer (`bool`, *optional*, defaults to `False`): Whether to train the Q-Former and its queries, too,
            so that the losses on codes also shape the causal embeddings. The paper freezes them. Rows
            then need images (`pixel_values` or `vision_embeddings`) and, if the model has a text tower, captions for
            `contrastive_loss_weight` of its configuration.
        caption_loss_weight (`float`, *optional*, defaults to 0.0): Weight of the cross-entropy of the captions under
            the trainer's frozen `caption_decoder`, which reads the reconstructed embeddings. Not in the paper.
    """

    learning_rate: float = 1e-4
    warmup_steps: float = 2000
    num_train_epochs: float = 500
    per_device_train_batch_size: int = 256
    codebook_init: str = "none"
    kmeans_batches: int = 8
    kmeans_iterations: int = 10
    revive_dead_codes_every: int = 0
    train_qformer: bool = False
    caption_loss_weight: float = 0.0

    def __post_init__(self):
        if self.codebook_init not in ("none", "kmeans"):
            raise ValueError(f"codebook_init must be 'none' or 'kmeans', got {self.codebook_init!r}.")
        for name in ("kmeans_batches", "kmeans_iterations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.revive_dead_codes_every < 0:
            raise ValueError(f"revive_dead_codes_every must be 0 (off) or more, got {self.revive_dead_codes_every}.")
        if not (math.isfinite(self.caption_loss_weight) and self.caption_loss_weight >= 0):
            raise ValueError(f"caption_loss_weight must be 0 (off) or more, got {self.caption_loss_weight}.")
        super().__post_init__()


class QuantizationTrainer(SeedTrainer):
    """Trains everything after the Q-Former of a `SeedTokenizer`.

    A row has the image as `pixel_values`, or as cached `vision_embeddings` or `causal_embeddings`. It has the target
    of the generation embeddings as cached `target_embeddings`; or a `target_encoder` computes the target, from the
    caption (`input_ids`) for the text target and from the image for the image target. With cached causal and target
    embeddings no frozen network runs. Without a target there is no generation loss.

    These metrics are logged with the loss:

    - `vq_loss`, `reconstruction_loss`, `generation_loss` and, if they have a weight, `feature_loss`,
      `feature_contrast_loss`, `contrastive_loss` and `caption_loss`, all unweighted.
    - `used_codes`, `dead_codes` and `perplexity` of the codebook in the logging window.
    - `code_distance`: root mean square distance of the encoder's outputs from their codebook vectors.
    - `distinct_codes`: how many different codes an image has. Only this metric shows that all codes of an image are
      the same, which leaves it the information of one.

    Args:
        model (`SeedTokenizer`): With the weights of stage I.
        args ([`QuantizationConfig`], *optional*): Of the run.
        target_encoder (`nn.Module`, *optional*): Frozen encoder of the diffusion model. For the text target, its text
            encoder, called with `input_ids` alone, as diffusion pipelines do; its `last_hidden_state` is the target.
            For the image target, unCLIP's image encoder, called with `pixel_values`; its `image_embeds` is the target.
        caption_decoder (`nn.Module`, *optional*): Frozen decoder that has learned to write captions of causal
            embeddings, as the Q-Former of BLIP-2 does. It is called with embeddings `(batch, 32, hidden)` and
            `input_ids` `(batch, length)` and returns logits of the next tokens, `(batch, length, vocabulary)`. Its
            cross-entropy on the reconstructed embeddings, times `args.caption_loss_weight`, joins the loss: codes
            then keep what a caption needs. Rows need captions (`input_ids` and `attention_mask`).
        kwargs: As in `transformers.Trainer`. The default `data_collator` handles cached features.

    Raises:
        TypeError, ValueError: Something is given that would be ignored.
    """

    config_class = QuantizationConfig
    stage_name, watched = "Stage II", WatchedCodes
    more_metrics = ("used_codes", "dead_codes", "perplexity", "code_distance")
    loss_names = (
        "vq_loss",
        "reconstruction_loss",
        "generation_loss",
        "feature_loss",
        "feature_contrast_loss",
        "contrastive_loss",
    )
    metric_names = (*loss_names, "caption_loss", "distinct_codes")

    def __init__(
        self,
        model,
        args: QuantizationConfig | None = None,
        *,
        target_encoder: nn.Module | None = None,
        caption_decoder: nn.Module | None = None,
        **kwargs,
    ):
        args = checked(type(self), args, kwargs)
        check_tokenizer(model, self.stage_name)
        check_caption_loss(model, args, caption_decoder)
        if args.train_qformer:
            check_texts(model, target_encoder)
            for rows in (kwargs.get("train_dataset"), kwargs.get("eval_dataset")):
                for each in rows.values() if isinstance(rows, dict) else [rows]:
                    check_cached(each)
        model.freeze_for("quantization", args.train_qformer)
        kwargs["data_collator"] = kwargs.get("data_collator") or ImageTextCollator()
        super().__init__(model=model, args=args, **kwargs)
        self.model_accepts_loss_kwargs = True  # `compute_loss` weighs by `num_items_in_batch`
        size, device = model.config.codebook_size, self.args.device
        self._train_usage, self.evaluated = CodebookUsage(size, device), CodebookUsage(size, device)
        self._usage_since_revival = CodebookUsage(size, device)
        self._last_causal_embeddings: torch.Tensor | None = None
        self.target_encoder, self.caption_decoder = (
            module.to(device).eval().requires_grad_(False) if module else None
            for module in (target_encoder, caption_decoder)
        )
        self.add_callback(_CodebookCallback(self))

    def _check_sharding(self) -> None:
        super()._check_sharding()
        remedies = self.args.codebook_init != "none" or self.args.revive_dead_codes_every
        if remedies and (self.is_deepspeed_enabled or self.is_fsdp_enabled):
            raise ValueError(
                "codebook_init='kmeans' and revive_dead_codes_every change the codebook directly, which DeepSpeed and "
                "FSDP undo: they keep copies of the weights. Use plain data parallelism "
                "(examples/accelerate/several_gpus.yaml), or turn both off."
            )

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if self.args.train_qformer and "causal_embeddings" in inputs:
            raise ValueError(_CHANGING)
        gather = gather_features if self.accelerator.num_processes > 1 else None
        outputs = model(**self._model_inputs(inputs), stage="quantization", gather_features=gather)
        window = self.window(model)
        rows = len(outputs.codes)  # the last batch of an evaluation may have fewer
        for name in self.loss_names:
            if (loss := getattr(outputs, name)) is not None:
                window.add(name, loss * rows, rows)
        window.add("distinct_codes", distinct(outputs.codes).sum(), rows)
        self.count(model, len(outputs.codes))
        (self._train_usage if model.training else self.evaluated).add(outputs.codes)
        if model.training and self.args.revive_dead_codes_every:
            self._usage_since_revival.add(outputs.codes)
            self._last_causal_embeddings = outputs.causal_embeddings.detach()
        loss = outputs.loss
        if self.caption_decoder is not None:
            with self.accelerator.autocast():
                caption_loss = caption_loss_of(self.caption_decoder, outputs.reconstructed_embeddings, inputs)
            window.add("caption_loss", caption_loss * rows, rows)
            loss = loss + self.args.caption_loss_weight * caption_loss
        self.count_loss(model, loss, rows)
        if num_items_in_batch is not None:
            loss = loss * (rows / num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> torch.Tensor:
        """Rows of an optimizer step: a mean over the processes, as gradients are. A short batch counts as its rows."""
        tensors = [next(value for value in batch.values() if torch.is_tensor(value)) for batch in batch_samples]
        rows = torch.tensor(float(sum(map(len, tensors))), device=device)
        return self.accelerator.reduce(rows, "mean")

    def _model_inputs(self, inputs) -> dict[str, torch.Tensor]:
        # Features may be cached in half precision, and frozen weights may be in it.
        dtype = next(w.dtype for w in self.accelerator.unwrap_model(self.model).parameters() if w.requires_grad)
        text = {"input_ids", "attention_mask"}
        kept = {name: value.to(dtype) for name, value in inputs.items() if name not in text}
        if self.args.train_qformer and self.accelerator.unwrap_model(self.model).config.contrastive_loss_weight:
            kept |= {name: value for name, value in inputs.items() if name in text}
        if self.target_encoder is not None and "target_embeddings" not in inputs:
            config = self.accelerator.unwrap_model(self.model).config
            with torch.no_grad():
                if config.generation_target == "image" and "pixel_values" in kept:
                    kept["target_embeddings"] = image_targets(self.target_encoder, kept["pixel_values"], config)
                elif config.generation_target == "text" and "input_ids" in inputs:
                    kept["target_embeddings"] = text_targets(self.target_encoder, inputs["input_ids"], config)
        return kept

    def clear_windows(self):
        super().clear_windows()
        for usage in (self._train_usage, self._usage_since_revival):
            usage.counts.zero_()

    def window_metrics(self, window, training):
        usage = self._train_usage if training else self.evaluated
        metrics = {**super().window_metrics(window, training), **usage.read(self.accelerator)}
        if "vq_loss" in metrics:
            # Both terms of the VQ loss have the same value: the mean square over rows and dimensions.
            config = self.accelerator.unwrap_model(self.model).config
            metrics["code_distance"] = math.sqrt(metrics["vq_loss"] / (1 + config.vq_beta) * config.code_dim)
        return metrics

    # ---- two remedies for unused codes ----

    @torch.no_grad()
    def start_codebook_by_kmeans(self) -> None:
        """Move the codebook vectors to k-means centres of encoder outputs. `args.seed` alone decides the result."""
        model = self.accelerator.unwrap_model(self.model)
        generator = torch.Generator().manual_seed(self.args.seed)
        processes, own = self.accelerator.num_processes, []  # each encodes some batches, and all get the same outputs
        read = itertools.islice(self._random_rows(generator), self.args.kmeans_batches * processes)
        for place, rows in enumerate(read):
            if place % processes != self.accelerator.process_index:
                continue
            batch = self._model_inputs(self._prepare_inputs(self.data_collator(rows)))
            causal, seen = batch.get("causal_embeddings"), batch.get("vision_embeddings")
            with self.accelerator.autocast():  # frozen weights may be in half precision
                if causal is None:
                    causal = model.get_causal_embeddings(batch.get("pixel_values"), vision_embeddings=seen)
                own.append((place, code_space(model, causal).float().cpu()))
        vectors = [part for _, part in sorted(gather_object(own), key=lambda one: one[0])]
        weight = model.quantizer.embedding.weight
        outputs = torch.cat(vectors or [weight[:0].cpu()]).to(weight.device)
        if len(outputs) < len(weight):
            raise ValueError(
                f"codebook_init='kmeans' saw {len(outputs)} encoder outputs in {len(vectors)} batches, fewer than the "
                f"{len(weight)} codes: raise kmeans_batches, or give more rows."
            )
        centres = kmeans(outputs, len(weight), self.args.kmeans_iterations, generator)
        weight.copy_(broadcast(centres))
        logger.info("The codebook starts at k-means centres of %d encoder outputs.", len(outputs))

    def _random_rows(self, generator: torch.Generator) -> Iterator[list]:
        dataset, size = self.train_dataset, self.args.per_device_train_batch_size
        rows = iter(dataset)
        if hasattr(dataset, "__len__"):
            rows = (dataset[i] for i in torch.randperm(len(dataset), generator=generator).tolist())
        while batch := list(itertools.islice(rows, size)):
            yield batch

    @torch.no_grad()
    def revive_dead_codes(self) -> int:
        """Move codes that were not used since the last call to encoder outputs of the last batch, of all processes.

        Returns:
            How many codes were moved: no more than there are outputs, as no row chooses a second code at one place.
        """
        model = self.accelerator.unwrap_model(self.model)
        dead = (self._usage_since_revival.total(self.accelerator) == 0).nonzero().flatten()
        self._usage_since_revival.counts.zero_()
        if len(dead):
            generator = torch.Generator().manual_seed(self.args.seed + self.state.global_step)
            assert self._last_causal_embeddings is not None  # codes are counted where these are kept
            with self.accelerator.autocast():
                vectors = self.accelerator.gather(code_space(model, self._last_causal_embeddings))
            dead = dead[: len(vectors)]
            weight = model.quantizer.embedding.weight
            weight[dead] = broadcast(pick(vectors, len(dead), generator)).to(weight.dtype)
            logger.info("Step %d: %d unused codes moved to encoder outputs.", self.state.global_step, len(dead))
        return len(dead)

    # A checkpoint holds the counts since the last revival, so that a resumed run finds the same dead codes.

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        counts = self._usage_since_revival.total(self.accelerator)
        if self.args.should_save:
            save_file({"counts": counts.cpu()}, Path(output_dir) / USAGE_FILE)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None and (path := Path(checkpoint) / USAGE_FILE).is_file():
            self._usage_since_revival.counts.copy_(load_file(path)["counts"])


class _CodebookCallback(TrainerCallback):
    def __init__(self, trainer: QuantizationTrainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        if args.codebook_init == "kmeans" and state.global_step == 0:
            self.trainer.start_codebook_by_kmeans()

    def on_step_end(self, args, state, control, **kwargs):
        every = args.revive_dead_codes_every
        if every and state.global_step % every == 0:
            self.trainer.revive_dead_codes()


def check_caption_loss(model, args: QuantizationConfig, caption_decoder: nn.Module | None) -> None:
    if (caption_decoder is None) != (args.caption_loss_weight == 0):
        raise ValueError(
            "caption_loss_weight and caption_decoder belong together: "
            f"got {args.caption_loss_weight} and {'none' if caption_decoder is None else 'a decoder'}."
        )
    if caption_decoder is not None and not model.config.embedding_decoder:
        raise ValueError("This tokenizer reconstructs no causal embeddings, so no caption can be written of them.")


def check_cached(rows: Any) -> None:
    """Refuse cached features that a Q-Former which learns along would leave behind.

    Args:
        rows: A dataset, or `None`.

    Raises:
        ValueError: They hold causal embeddings.
    """
    if isinstance(rows, (CachedFeatures, FeatureFile)) and len(rows) and "causal_embeddings" in rows[0]:
        raise ValueError(_CHANGING)


def check_texts(model, target_encoder: nn.Module | None) -> None:
    """Where the Q-Former learns along, text tower and target encoder both read the one `input_ids` of a row.

    Args:
        model: A `SeedTokenizer`.
        target_encoder: Of the diffusion model.

    Raises:
        ValueError: They have vocabularies of different sizes.
    """
    config = model.config
    if config.contrastive_loss_weight and target_encoder is not None and config.generation_target == "text":
        encoder: Any = target_encoder.config
        sizes = encoder.vocab_size, config.qformer_config.vocab_size
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"The target encoder has a vocabulary of {sizes[0]:,} and the text tower one of {sizes[1]:,}, so they "
                "cannot read the same input_ids. Give rows target_embeddings of your own, without a target encoder."
            )


def caption_loss_of(decoder: nn.Module, embeddings: torch.Tensor, inputs: dict) -> torch.Tensor:
    """Mean cross-entropy `()` of what `decoder` should write of `(batch, 32, hidden)` embeddings."""
    if missing := [name for name in ("input_ids", "attention_mask") if name not in inputs]:
        raise ValueError(f"The caption loss needs captions in each row; the batch has no {' and no '.join(missing)}.")
    ids, seen = inputs["input_ids"], inputs["attention_mask"].bool()
    logits = decoder(embeddings, ids[:, :-1]).float()
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].where(seen[:, 1:], -100).flatten())


def code_space(model, causal_embeddings: torch.Tensor) -> torch.Tensor:
    """The vectors that are compared with the codebook.

    Args:
        model (`SeedTokenizer`): With the encoder.
        causal_embeddings (`torch.Tensor` of shape `(B, 32, hidden)`): Of images.

    Returns:
        `torch.Tensor` of shape `(B * 32, code_dim)`.
    """
    return model.code_encoder(causal_embeddings).flatten(0, -2)
