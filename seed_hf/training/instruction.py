"""The instruction stage: conversations of text and images, as SEED-LLaMA was tuned on them (arXiv 2310.01218)."""

from dataclasses import dataclass

from seed_hf.data.batches.instruction import InstructionCollator

from .language_model import LanguageModelConfig, LanguageModelTrainer


@dataclass
class InstructionConfig(LanguageModelConfig):
    """Arguments of the instruction stage: those of the language-model stage, with the defaults of SEED-LLaMA's tuning.

    It names the same layers and settings of LoRA. The learning rate falls to a tenth.
    """

    min_lr_rate = 0.1

    learning_rate: float = 1e-4
    warmup_steps: float = 0.07


class InstructionTrainer(LanguageModelTrainer):
    """Trains a language model with visual tokens on the batches of an [`InstructionCollator`].

    Loss, metrics, LoRA, packing and checkpoints are those of [`LanguageModelTrainer`]. `answer_loss` is that of the
    answers' text with the eos at the end, `code_loss` that of the images in answers.

    Args:
        model ([`SeedForCausalLM`]): Or another language model; see [`LanguageModelTrainer`].
        args ([`InstructionConfig`], *optional*): Of the run.
        data_collator ([`InstructionCollator`]): Makes the batches.
        kwargs: As in `transformers.Trainer`.

    Raises:
        ValueError, TypeError: As [`LanguageModelTrainer`].
    """

    config_class = InstructionConfig
    stage_name = "Instruction tuning"

    def __init__(self, model, args: InstructionConfig | None = None, *, data_collator: InstructionCollator, **kwargs):
        super().__init__(model, args, data_collator=data_collator, **kwargs)
