"""The language-model stage: next tokens of captions and codes, in both directions (arXiv 2307.08041, section 3.3)."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import set_seed
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from seed_hf.data.batches.language_model import LOSS_KINDS, LanguageModelCollator
from seed_hf.data.batches.packing import PADDING, check_attention, packed_inputs

from .arguments import StageArguments
from .lora import add_lora
from .options import ARGUMENTS, checked, has_adapters
from .precision import half_of_frozen
from .trainer import SeedTrainer
from .watched_texts import WatchedTexts


logger = logging.getLogger(__name__)


@dataclass
class LanguageModelConfig(StageArguments):
    """Arguments of the language-model stage.

    None were published for SEED-OPT. The defaults are those of SEED-LLaMA's pretraining; LoRA adapts the same layers,
    under OPT's names.

    Args:
        lora_r (`int`, *optional*, defaults to 16): Rank of LoRA. Besides LoRA, only some rows of the vocabulary are
            trained, and the FC layer of `visual_embedding="projected"`. 0 trains all weights of the language model.
        lora_token_ids (`list[int]`, *optional*): The rows of the vocabulary that are trained besides LoRA, in the
            embedding and in the output layer. Default: the new ones, which are `<img>`, `</img>` and the codes. To
            fine-tune a model that knows its codes, give the tokens of your captions: the rows of other tokens are
            frozen, so the model cannot learn to write words that are new to it.
        lora_alpha, lora_dropout (*optional*, default to 32 and 0.05): As in [`peft.LoraConfig`].
        lora_target_modules (`list[str]`, *optional*): Names of the layers that get LoRA. Default: all linear layers of
            a block of the model's family.
        lora_norms (`bool`, *optional*, defaults to `False`): Whether the normalisation layers are trained besides
            LoRA, as SEED-LLaMA's were.
        lora_embeddings (`bool`, *optional*, defaults to `False`): Whether all rows of the vocabulary are trained
            besides LoRA, as SEED-LLaMA's were, instead of `lora_token_ids`.
        code_loss_weight (`float`, *optional*, defaults to 1.0): Weight of a code's loss; a text token has the weight
            1. An image has many more tokens than a caption. The paper has no such weight.
        watch_prompts (`list[str]`, *optional*): With `watch_images`: prompts to draw besides, in each evaluation.
    """

    refused = ARGUMENTS
    min_lr_rate = 0.05

    learning_rate: float = 1.5e-4
    warmup_steps: float = 0.03
    adam_beta2: float = 0.95
    adam_epsilon: float = 1e-5
    lora_r: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.05
    lora_target_modules: list[str] | None = None
    lora_token_ids: list[int] | None = None
    lora_norms: bool = False
    lora_embeddings: bool = False
    code_loss_weight: float = 1.0
    watch_prompts: list[str] | None = None

    def __post_init__(self):
        if self.lora_r < 0:
            raise ValueError(f"lora_r must be 0 (train all weights) or more, got {self.lora_r}.")
        given = [each for each in fields(self) if each.name.startswith("lora_") and each.name != "lora_r"]
        unused = [each.name for each in given if getattr(self, each.name) != each.default]
        if unused and not self.lora_r:
            raise ValueError(f"{', '.join(unused)}: not used, because lora_r=0 trains all weights. Leave them out.")
        if self.lora_r and (not self.lora_alpha > 0 or not 0 <= self.lora_dropout < 1):
            raise ValueError(
                "lora_alpha must be positive and lora_dropout at least 0 and less than 1, "
                f"got {self.lora_alpha} and {self.lora_dropout}."
            )
        if not self.code_loss_weight > 0:
            raise ValueError(f"code_loss_weight must be positive, got {self.code_loss_weight}.")
        super().__post_init__()

    @property
    def lora_options(self) -> dict[str, Any]:
        """Those of [`add_lora`]."""
        return {name.removeprefix("lora_"): value for name, value in vars(self).items() if name.startswith("lora_")}


class LanguageModelTrainer(SeedTrainer):
    """Trains a `SeedForCausalLM` on the batches of a [`LanguageModelCollator`].

    It also fine-tunes a whole `SeedForConditionalGeneration`: the language model inside is trained, the visual
    tokenizer is frozen. The adapter is then one of the whole model; load it with
    `SeedForConditionalGeneration.from_pretrained(adapter)`.

    The loss is the mean over all learned tokens of an optimizer step, over all processes and accumulated batches. So
    it does not depend on how the rows of a step are distributed. These metrics are logged with it:

    - `caption_loss`, `answer_loss`, `code_loss`, `text_loss`: means over the tokens of one type in the logging window.
      `code_loss` covers the codes, `<img>`, `</img>` and the end of the sequence. Types that did not occur are left
      out.
    - `useful_tokens`: the share of tokens that are not padding.
    - `tokens_per_second`: how many of those were trained on.

    With LoRA, checkpoints hold only the adapter and the new rows; [`LanguageModelTrainer.merge`] gives the finished
    model.

    Packed batches (`pack_length` of the collator) give the same loss and gradients as padded ones. The attention
    implementation decides how samples are kept apart: see [`packed_inputs`].

    Args:
        model ([`SeedForCausalLM`]): Or a plain language model, for text alone. With LoRA the trainer wraps it.
        args ([`LanguageModelConfig`], *optional*): Of the run.
        data_collator ([`LanguageModelCollator`]): Makes the batches.
        kwargs: As in `transformers.Trainer`: `train_dataset`, `eval_dataset`, `callbacks` ...

    Raises:
        ValueError: The collator packs, and the attention implementation cannot keep samples apart. Or the vocabulary
            lacks some of `lora_token_ids`. Or something is given that would be ignored.
        TypeError: `args` is of another class.
    """

    config_class = LanguageModelConfig
    stage_name, watched = "Language model", WatchedTexts
    trains_under_zero3 = True
    # The losses come first: `add_all` adds them at once.
    metric_names = (*(f"{kind}_loss" for kind in LOSS_KINDS), "useful_tokens")
    rate_name = "tokens_per_second"

    def __init__(
        self, model, args: LanguageModelConfig | None = None, *, data_collator: LanguageModelCollator, **kwargs
    ):
        args = checked(type(self), args, kwargs)
        if getattr(data_collator, "pack_length", None):
            check_attention(model.config.get_text_config()._attn_implementation)
        if args.lora_r:
            if has_adapters(model):
                raise ValueError(
                    f"This model has adapters of peft, and lora_r={args.lora_r} would add LoRA to them. "
                    "Set lora_r=0 to train it as it is."
                )
            set_seed(args.seed)  # as `Trainer` does, but before there are new weights
            model = add_lora(model, **args.lora_options)
        elif hasattr(model, "visual_tokenizer"):
            model.visual_tokenizer.requires_grad_(False)
        super().__init__(model=model, args=args, data_collator=data_collator, **kwargs)
        self.model_accepts_loss_kwargs = True  # `compute_loss` divides by `num_items_in_batch`
        kind_weights = [args.code_loss_weight if kind == "code" else 1.0 for kind in LOSS_KINDS]
        self._kind_weights = torch.tensor(kind_weights, device=self.args.device)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        positions, kinds = inputs["loss_positions"], _kinds_of(inputs)
        plain = self.accelerator.unwrap_model(model)
        if "sample_ids" in inputs:
            real = inputs["sample_ids"] != PADDING
            config = plain.config.get_text_config()
            model_inputs = packed_inputs(inputs, config._attn_implementation, config)
        else:
            # No attention mask, so that faster kernels run. Padding is on the right, where causal attention does not
            # look.
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
        self.count_loss(model, loss, weights.sum())
        totals = torch.zeros(len(LOSS_KINDS), device=losses.device)
        self.window(model).add_all(
            totals.index_add(0, kinds, losses.detach()), totals.index_add(0, kinds, torch.ones_like(losses))
        )
        return (loss, outputs) if return_outputs else loss

    def _track_num_input_tokens(self, inputs):
        if "sample_ids" in inputs:  # a packed batch has no mask, by which Trainer knows padding
            inputs = {**inputs, "attention_mask": inputs["sample_ids"] != PADDING}
        super()._track_num_input_tokens(inputs)

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> torch.Tensor:
        """Weighted number of learned tokens in an optimizer step: a mean over the processes, as gradients are."""
        items = sum(self._kind_weights[_kinds_of(batch).to(device)].sum() for batch in batch_samples)
        return self.accelerator.reduce(items, "mean")

    def _check_sharding(self) -> None:
        super()._check_sharding()
        in_parts = self.is_fsdp_enabled or self.is_deepspeed_enabled and is_deepspeed_zero3_enabled()
        if in_parts and self.args.lora_r:
            raise ValueError(
                "LoRA cannot be merged into weights that FSDP or DeepSpeed's ZeRO-3 keeps in parts: the trained rows "
                "of the vocabulary would be lost. Use ZeRO-2 or plain data parallelism "
                "(examples/accelerate/several_gpus.yaml), or train all weights (lora_r=0)."
            )

    def merge(self):
        """The trained model, with LoRA merged into its weights. A LoRA model cannot be trained further after this.

        What was trained takes the number type of the frozen weights, into which LoRA is merged: with a start in half
        precision it is rounded here, and only here.
        """
        model = self.accelerator.unwrap_model(self.model)
        if not self.args.lora_r:
            return model
        half, merged = half_of_frozen(model), model.merge_and_unload()
        if half is not None:
            logger.info("LoRA is merged into weights of %s, which rounds what was trained.", half)
            for weight in self._widened:
                weight.data = weight.data.to(half)
        return merged

    def finished_model(self):
        return self.merge()

    def _save(self, output_dir: str | None = None, state_dict=None) -> None:
        if not self.args.lora_r:
            super()._save(output_dir, state_dict)
        elif self.args.should_save:
            # By default peft adds the whole embedding matrix if the vocabulary differs from that of the base on disk.
            model = self.accelerator.unwrap_model(self.model)
            output_dir = output_dir or self.args.output_dir
            model.save_pretrained(output_dir, state_dict=state_dict, save_embedding_layers=False)


@contextmanager
def _logits_only_at(head: nn.Module, positions: torch.Tensor) -> Iterator[None]:
    """Compute logits only at `positions` of the flattened batch: they become `(N, vocab_size)`.

    Most positions have no loss, and the output layer is the widest of all.
    """
    handle = head.register_forward_pre_hook(lambda _, args: (args[0].flatten(0, 1)[positions],))
    try:
        yield
    finally:
        handle.remove()


def _kinds_of(batch: dict[str, Any]) -> torch.Tensor:
    if "loss_kinds" not in batch:
        raise ValueError("These batches do not say which tokens are learned: take a LanguageModelCollator.")
    return batch["loss_kinds"]
