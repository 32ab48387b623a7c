"""Stage I: the Causal Q-Former learns to match its last output with the caption (arXiv 2307.08041, section 3.1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from .arguments import StageArguments
from .gathering import gather_features
from .options import check_tokenizer, checked
from .trainer import SeedTrainer
from .watched_images import WatchedMatches


@dataclass
class ContrastiveConfig(StageArguments):
    """Arguments of stage I. Defaults are the authors' (`SEED_Tokenizer/`, `pretrain_qformer.yaml`), meant for 64 GPUs.

    Label smoothing and the initial temperature are part of the model: see `SeedTokenizerConfig`. With little data, set
    `warmup_steps` to a fraction of the run, for example 0.05.
    """

    learning_rate: float = 3e-5
    warmup_steps: float = 2000
    num_train_epochs: float = 10
    per_device_train_batch_size: int = 64
    dataloader_drop_last: bool = True  # a short last batch has fewer negatives and so another loss

    def __post_init__(self):
        if self.watch_pipeline is not None:
            raise ValueError("watch_pipeline is not used: stage I has no codes yet that could be drawn.")
        super().__post_init__()


class ContrastiveTrainer(SeedTrainer):
    """Trains query tokens, Q-Former, `ln_vision`, projections and temperature of a `SeedTokenizer` with a text tower.

    Rows have `pixel_values` (or cached `vision_embeddings`), `input_ids` and `attention_mask`: see
    [`ImageTextCollator`]. With several processes, each image is compared with the captions of all processes and each
    caption with all images, and both get gradients. So the loss and the step are those of one process with the whole
    batch. (The authors' code gathers without gradients.)

    These metrics are logged with the loss: `image_to_text_accuracy` and `text_to_image_accuracy`, the share of images
    (captions) whose best match in the batch has the right caption, and the `temperature`.

    Args:
        model (`SeedTokenizer`): With a text tower.
        args ([`ContrastiveConfig`], *optional*): Of the run.
        kwargs: As in `transformers.Trainer`: `data_collator`, `train_dataset`, `eval_dataset`, `callbacks` ...

    Raises:
        TypeError, ValueError: The model has no text tower; something is given that would be ignored.
    """

    config_class = ContrastiveConfig
    stage_name, watched = "Stage I", WatchedMatches
    metric_names = ("image_to_text_accuracy", "text_to_image_accuracy")

    def __init__(self, model, args: ContrastiveConfig | None = None, **kwargs):
        args = checked(type(self), args, kwargs)
        check_tokenizer(model, self.stage_name)
        check_batch(args, kwargs.get("eval_dataset") is not None)
        _check_collator(kwargs.get("data_collator"), kwargs.get("train_dataset"))
        if not model.config.text_tower:
            raise ValueError("Stage I needs the Q-Former's text path: build the SeedTokenizer with text_tower=True.")
        model.freeze_for("contrastive")
        super().__init__(model=model, args=args, **kwargs)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if "input_ids" not in inputs:
            raise ValueError(f"Stage I compares images with captions, and these rows have none. {_COLLATOR}")
        # Equal captions are equal, however far their batches are padded.
        captions = inputs["input_ids"]
        if (mask := inputs.get("attention_mask")) is not None:
            captions = captions.masked_fill(mask == 0, -1)
        gather = None
        if self.accelerator.num_processes > 1:
            gather = gather_features
            captions = self.accelerator.pad_across_processes(captions, dim=1, pad_index=-1)
        outputs = model(**inputs, stage="contrastive", gather_features=gather)
        all_captions = captions if gather is None else self.accelerator.gather(captions)
        to_text = retrieval_hits(outputs.logits_per_image, captions, all_captions)
        to_image = retrieval_hits(outputs.logits_per_text, captions, all_captions)
        window = self.window(model)
        window.add("image_to_text_accuracy", to_text.sum(), len(to_text))
        window.add("text_to_image_accuracy", to_image.sum(), len(to_image))
        self.count(model, len(captions))
        self.count_loss(model, outputs.loss, len(captions))
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def window_metrics(self, window, training):
        metrics = super().window_metrics(window, training)
        if training:
            temperature = self.accelerator.unwrap_model(self.model).temperature
            if isinstance(temperature, DTensor):  # of FSDP2, which gives its one element to one process
                temperature = temperature.full_tensor()
            metrics["temperature"] = temperature.item()
        return metrics


def check_batch(args: ContrastiveConfig, evaluates: bool) -> None:
    """Refuse batches of one, of which the loss is always 0: there is nothing to tell an image from.

    Args:
        args: Of the run.
        evaluates: Whether rows are evaluated, too.

    Raises:
        ValueError: Of all processes together, a batch has one row.
    """
    kinds = ("train", "eval") if evaluates else ("train",)
    for name in (f"per_device_{kind}_batch_size" for kind in kinds):
        if getattr(args, name) * args.world_size < 2:
            raise ValueError(
                f"{name}=1 leaves nothing to compare an image with: the loss would be 0. Take 2 or more; "
                "gradient_accumulation_steps does not make a batch larger here."
            )


_COLLATOR = (
    "Give rows with a caption, and data_collator=ImageTextCollator(image_processor, text_tokenizer), which reads the "
    "columns image and caption."
)


def _check_collator(collator: Any, rows: Any) -> None:
    names = getattr(rows, "column_names", None) or (rows[0] if isinstance(rows, Sequence) and rows else ())
    if collator is None and "image" in names:
        raise ValueError(f"Images and captions have to be prepared. {_COLLATOR}")


def retrieval_hits(logits: torch.Tensor, captions: torch.Tensor, all_captions: torch.Tensor) -> torch.Tensor:
    """Which best matches are right. A pair with the same caption is right too.

    Args:
        logits (`torch.Tensor` of shape `(B, N)`): Similarity of image (or caption) i to caption (or image) j.
        captions, all_captions (`torch.LongTensor` of shape `(B, L)` and `(N, L)`): Token ids of the captions.

    Returns:
        `torch.BoolTensor` of shape `(B,)`.
    """
    return (all_captions[logits.argmax(1)] == captions).all(1)
