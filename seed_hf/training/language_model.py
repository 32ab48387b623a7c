"""The language-model stage: next tokens of captions and codes, in both directions (arXiv 2307.08041, section 3.3)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn import functional as F
from transformers import TrainingArguments

from seed_hf.data.batches.language_model import LOSS_KINDS, LanguageModelCollator
from seed_hf.data.batches.packing import PADDING, check_attention, packed_inputs
from seed_hf.devices import use_fp32_where_half_is_slow
from seed_hf.modeling.visual_vocabulary_seed import VisualVocabulary

from .trainer import SeedTrainer


@dataclass
class LanguageModelConfig(TrainingArguments):
    """Arguments of the language-model stage.

    None were published for SEED-OPT; these are those of SEED-LLaMA's pretraining, LoRA targets are the
    same layers under OPT's names.

    Args:
        lora_r (`int`, *optional*, defaults to 16): Rank of LoRA. Beside it only some rows of the vocabulary train
            (and the FC layer, with `visual_embedding="projected"`). 0 trains all weights of the language model.
        lora_token_ids (`list[int]`, *optional*): Which rows of the vocabulary train beside LoRA, on the way in and on
            the way out. By default the new ones: `<img>`, `</img>` and the codes. To fine-tune a model that knows its
            codes, give the tokens of your captions: a word that it never had to say it cannot learn to say otherwise.
        lora_alpha, lora_dropout (*optional*, defaults to 32 and 0.05): As in [`peft.LoraConfig`].
        lora_target_modules (`list[str]`, *optional*): Defaults to all linear layers of an OPT block.
        code_loss_weight (`float`, *optional*, defaults to 1.0): Weight of a code's loss, where a text token has 1. A
            picture has many more tokens than a caption; the paper does not weigh them.
    """

    learning_rate: float = 1.5e-4
    lr_scheduler_type: str = "cosine_with_min_lr"
    lr_scheduler_kwargs: dict | str | None = field(default_factory=lambda: {"min_lr_rate": 0.05})
    warmup_steps: float = 0.03
    weight_decay: float = 0.05
    adam_beta2: float = 0.95
    adam_epsilon: float = 1e-5
    logging_steps: float = 50
    remove_unused_columns: bool = False
    logging_nan_inf_filter: bool = False  # reading the loss at every step makes a GPU wait
    lora_r: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.05
    lora_target_modules: list[str] = field(
        default_factory=lambda: ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
    )
    lora_token_ids: list[int] | None = None
    code_loss_weight: float = 1.0

    def __post_init__(self):
        if self.lora_r < 0:
            raise ValueError(f"lora_r must be 0 (train all weights) or more, got {self.lora_r}.")
        if not self.code_loss_weight > 0:
            raise ValueError(f"code_loss_weight must be positive, got {self.code_loss_weight}.")
        use_fp32_where_half_is_slow(self)
        super().__post_init__()


class LanguageModelTrainer(SeedTrainer):
    """Trains a `SeedForCausalLM` on the batches of a [`LanguageModelCollator`].

    A whole `SeedForConditionalGeneration` may stand in its place, to fine-tune a finished model: its language model
    trains and its visual tokenizer stays as it is. The adapter is then one for the whole model, which
    `SeedForConditionalGeneration.from_pretrained(adapter)` loads.

    The loss is the mean over all learned tokens of an optimizer step: of all processes, and of all batches where
    gradients are accumulated, so that it does not depend on how a step's rows are spread. Logged beside it, each a
    mean over the tokens of its kind in the logging window: `caption_loss`, `answer_loss`, `code_loss` (codes, their
    two marks and the end of the sequence), `text_loss`; kinds that did not occur are left out. `useful_tokens` is
    the share of the tokens that are not padding, and `tokens_per_second` how many of these were trained on, by the
    clock, between two log lines. With LoRA checkpoints hold the adapter and the new rows alone;
    [`LanguageModelTrainer.merge`] gives the finished model.

    Batches of a collator with `pack_length` give the same loss and gradients as padded ones. How samples are kept
    apart depends on the attention of the model: see [`packed_inputs`].

    Args:
        model ([`SeedForCausalLM`]): Or a plain OPT, for text alone. With LoRA the trainer wraps it.
        args ([`LanguageModelConfig`], *optional*): Of the run.
        data_collator ([`LanguageModelCollator`]): Makes the batches.
        kwargs: As in `transformers.Trainer`: `train_dataset`, `eval_dataset`, `callbacks` ...

    Raises:
        ValueError: a collator that packs, and an attention that cannot keep samples apart; token ids for LoRA that the
            vocabulary does not have.
    """

    trains_under_zero3 = True
    # the losses first: they are added all at once
    metric_names = (*(f"{kind}_loss" for kind in LOSS_KINDS), "useful_tokens")
    rate_name = "tokens_per_second"

    def __init__(
        self, model, args: LanguageModelConfig | None = None, *, data_collator: LanguageModelCollator, **kwargs
    ):
        if args is None:
            args = LanguageModelConfig(output_dir="language_model_output")
        if getattr(data_collator, "pack_length", None):
            check_attention(model.config.get_text_config()._attn_implementation)
        if args.lora_r:
            model = add_lora(model, args)
        elif hasattr(model, "visual_tokenizer"):
            model.visual_tokenizer.requires_grad_(False)
        super().__init__(model=model, args=args, data_collator=data_collator, **kwargs)
        self.model_accepts_loss_kwargs = True  # that is: `compute_loss` divides by `num_items_in_batch`
        kind_weights = [args.code_loss_weight if kind == "code" else 1.0 for kind in LOSS_KINDS]
        self._kind_weights = torch.tensor(kind_weights, device=self.args.device)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        positions, kinds = inputs["loss_positions"], inputs["loss_kinds"]
        plain = self.accelerator.unwrap_model(model)
        if "sample_ids" in inputs:
            real = inputs["sample_ids"] != PADDING
            model_inputs = packed_inputs(inputs, plain.config.get_text_config()._attn_implementation)
        else:
            # No attention mask: padding is on the right, where causal attention does not look, and without a mask the
            # faster kernels run.
            real = inputs["attention_mask"]
            model_inputs = {"input_ids": inputs["input_ids"]}
        useful = real.sum()
        self.window(model).add("useful_tokens", useful, real.numel())
        self.count(model, useful)
        with _logits_only_at(plain.get_output_embeddings(), positions):
            outputs = model(**model_inputs, use_cache=False)
        labels = inputs["labels"].flatten()[positions + 1]
        losses = F.cross_entropy(outputs.logits.float(), labels, reduction="none")
        weights = self._kind_weights[kinds]
        loss = (losses * weights).sum() / (weights.sum() if num_items_in_batch is None else num_items_in_batch)
        totals = torch.zeros(len(LOSS_KINDS), device=losses.device)
        self.window(model).add_all(
            totals.index_add(0, kinds, losses.detach()), totals.index_add(0, kinds, torch.ones_like(losses))
        )
        return (loss, outputs) if return_outputs else loss

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> torch.Tensor:
        """Learned tokens of one optimizer step, each counted with its weight, as a mean over the processes: their
        gradients are averaged, not added."""
        items = sum(self._kind_weights[batch["loss_kinds"].to(device)].sum() for batch in batch_samples)
        return self.accelerator.reduce(items, "mean")

    def merge(self):
        """The trained model with LoRA merged into its weights. It ends the training of a LoRA model."""
        model = self.accelerator.unwrap_model(self.model)
        return model.merge_and_unload() if self.args.lora_r else model

    def finished_model(self):
        return self.merge()

    def _save(self, output_dir: str | None = None, state_dict=None) -> None:
        if not self.args.lora_r:
            super()._save(output_dir, state_dict)
        elif self.args.should_save:
            # Left to itself, peft adds the whole embedding matrix when the vocabulary is not that of the base on disk.
            model = self.accelerator.unwrap_model(self.model)
            output_dir = output_dir or self.args.output_dir
            model.save_pretrained(output_dir, state_dict=state_dict, save_embedding_layers=False)


def add_lora(model, args: LanguageModelConfig):
    """A `peft.PeftModel` of `model` in which LoRA and some rows of the vocabulary train.

    Args:
        model: A `SeedForCausalLM`, or a `SeedForConditionalGeneration`, whose language model alone gets LoRA.
    """
    from peft import LoraConfig, get_peft_model  # takes seconds to import

    config = model.config.get_text_config()
    rows = args.lora_token_ids
    if rows is None:
        rows = VisualVocabulary.of(config).rows()
    if wrong := [row for row in rows if not 0 <= row < config.vocab_size]:
        raise ValueError(f"lora_token_ids must lie in 0..{config.vocab_size - 1}, got {wrong[:5]}.")
    targets: list[str] | str = list(args.lora_target_modules)
    if hasattr(model, "visual_tokenizer"):  # which has layers of the same names
        targets = rf"language_model\..*\.({'|'.join(targets)})"
    # an output layer of its own needs its own new rows
    layers = ["embed_tokens"] if config.tie_word_embeddings else ["embed_tokens", "lm_head"]
    lora = LoraConfig(
        task_type=None if hasattr(model, "visual_tokenizer") else "CAUSAL_LM",
        r=args.lora_r,
        lora_alpha=args.lora_alpha,
        lora_dropout=args.lora_dropout,
        target_modules=targets,
        trainable_token_indices={layer: rows for layer in layers} if rows else None,
        modules_to_save=["visual_projection"] if config.visual_embedding == "projected" else None,
    )
    return get_peft_model(model, lora)


@contextmanager
def _logits_only_at(head: nn.Module, positions: torch.Tensor) -> Iterator[None]:
    """Let the output layer see only these positions of the flattened batch: logits become `(N, vocab_size)`.

    Most positions have no loss, and the vocabulary is the widest layer of all.
    """
    handle = head.register_forward_pre_hook(lambda _, args: (args[0].flatten(0, 1)[positions],))
    try:
        yield
    finally:
        handle.remove()
