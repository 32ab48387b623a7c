"""Training arguments that all three stages share."""

from dataclasses import dataclass, field

from transformers import TrainingArguments

from seed_hf.devices import use_fp32_where_half_is_slow


@dataclass
class StageArguments(TrainingArguments):
    """[`transformers.TrainingArguments`] with the defaults of the authors' training code, as far as all stages agree.

    On a CPU without hardware for `bf16` or `fp16` the run is in fp32, after a warning.
    """

    lr_scheduler_type: str = "cosine_with_min_lr"
    lr_scheduler_kwargs: dict | str | None = field(default_factory=lambda: {"min_lr_rate": 0.1})
    weight_decay: float = 0.05
    logging_steps: float = 50
    remove_unused_columns: bool = False
    logging_nan_inf_filter: bool = False  # it reads the loss at every step, which makes a GPU wait

    def __post_init__(self):
        use_fp32_where_half_is_slow(self)
        super().__post_init__()
