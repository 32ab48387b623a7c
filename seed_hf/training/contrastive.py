"""Stage I: the Causal Q-Former learns to match its last output with the caption (arXiv 2307.08041, section 3.1)."""

from dataclasses import dataclass, field

import torch
from transformers import TrainingArguments

from seed_hf.devices import use_fp32_where_half_is_slow

from .gathering import gather_features
from .trainer import SeedTrainer


@dataclass
class ContrastiveConfig(TrainingArguments):
    """Arguments of stage I. Defaults are the authors' (`SEED_Tokenizer/`, `pretrain_qformer.yaml`), made for 64 GPUs.

    Label smoothing and the start of the temperature belong to the model: see `SeedTokenizerConfig`. On small data set
    `warmup_steps` to a share of the run, for example 0.05.
    """

    learning_rate: float = 3e-5
    lr_scheduler_type: str = "cosine_with_min_lr"
    lr_scheduler_kwargs: dict | str | None = field(default_factory=lambda: {"min_lr_rate": 0.1})
    warmup_steps: float = 2000
    weight_decay: float = 0.05
    num_train_epochs: float = 10
    per_device_train_batch_size: int = 64
    logging_steps: float = 50
    remove_unused_columns: bool = False
    dataloader_drop_last: bool = True  # a short last batch has fewer negatives and so another loss
    logging_nan_inf_filter: bool = False  # reading the loss at every step makes a GPU wait

    def __post_init__(self):
        use_fp32_where_half_is_slow(self)
        super().__post_init__()


class ContrastiveTrainer(SeedTrainer):
    """Trains query tokens, Q-Former, `ln_vision`, projections and temperature of a `SeedTokenizer` with a text tower.

    Rows give `pixel_values` (or cached `vision_embeddings`), `input_ids` and `attention_mask`: see
    [`ImageTextCollator`]. On several processes each picture is compared with the captions of all of them, and each
    caption with all pictures, with a gradient to both: the loss and the step are those of one process with the whole
    batch. (The authors' code gathers without a gradient.) Logged beside the loss: `image_to_text_accuracy` and
    `text_to_image_accuracy`, the share of pictures (captions) whose best match within the batch has the right caption,
    and the `temperature`.

    Args:
        model (`SeedTokenizer`): With a text tower.
        args ([`ContrastiveConfig`], *optional*): Of the run.
        kwargs: As in `transformers.Trainer`: `data_collator`, `train_dataset`, `eval_dataset`, `callbacks` ...

    Raises:
        ValueError: the model has no text tower.
    """

    metric_names = ("image_to_text_accuracy", "text_to_image_accuracy")

    def __init__(self, model, args: ContrastiveConfig | None = None, **kwargs):
        if not model.config.text_tower:
            raise ValueError("Stage I needs the Q-Former's text path: build the SeedTokenizer with text_tower=True.")
        model.freeze_for("contrastive")
        super().__init__(model=model, args=args, **kwargs)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        captions = inputs["input_ids"]
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
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def window_metrics(self, window, training):
        metrics = super().window_metrics(window, training)
        if training:
            metrics["temperature"] = self.accelerator.unwrap_model(self.model).temperature.item()
        return metrics


def retrieval_hits(logits: torch.Tensor, captions: torch.Tensor, all_captions: torch.Tensor) -> torch.Tensor:
    """Which best matches are right; pairs with the same caption count as right.

    Args:
        logits (`torch.Tensor` of shape `(B, N)`): Similarity of picture (or caption) i with caption (or picture) j.
        captions, all_captions (`torch.LongTensor` of shape `(B, L)` and `(N, L)`): Token ids, by which captions are
            told apart.

    Returns:
        `torch.BoolTensor` of shape `(B,)`.
    """
    return (all_captions[logits.argmax(1)] == captions).all(1)
