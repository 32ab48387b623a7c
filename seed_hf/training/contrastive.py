"""Stage I: the Causal Q-Former learns to match its last output with the caption (arXiv 2307.08041, section 3.1)."""

from dataclasses import dataclass, field

import torch
from transformers import TrainingArguments

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


class ContrastiveTrainer(SeedTrainer):
    """Trains query tokens, Q-Former, `ln_vision`, projections and temperature of a `SeedTokenizer` with a text tower.

    Rows give `pixel_values` (or cached `vision_embeddings`), `input_ids` and `attention_mask`: see
    [`ImageTextCollator`]. Logged beside the loss: `image_to_text_accuracy` and `text_to_image_accuracy`, the share of
    pictures (captions) whose best match within the batch has the right caption, and the `temperature`.

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
        outputs = model(**inputs, stage="contrastive")
        to_text, to_image = retrieval_hits(outputs.logits_per_image.detach(), inputs["input_ids"])
        window = self.window(model)
        window.add("image_to_text_accuracy", to_text.sum(), len(to_text))
        window.add("text_to_image_accuracy", to_image.sum(), len(to_image))
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def window_metrics(self, window, training):
        metrics = super().window_metrics(window, training)
        if training:
            metrics["temperature"] = self.accelerator.unwrap_model(self.model).temperature.item()
        return metrics


def retrieval_hits(logits_per_image: torch.Tensor, input_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Which best matches are right; pairs with the same caption count as right.

    Args:
        logits_per_image (`torch.Tensor` of shape `(B, B)`): Similarity of picture i with caption j.
        input_ids (`torch.LongTensor` of shape `(B, L)`): The captions, which tell whose captions are the same.

    Returns:
        two `torch.BoolTensor` of shape `(B,)`: image to text, text to image.
    """
    best_text, best_image = logits_per_image.argmax(1), logits_per_image.argmax(0)
    return (input_ids[best_text] == input_ids).all(1), (input_ids[best_image] == input_ids).all(1)
