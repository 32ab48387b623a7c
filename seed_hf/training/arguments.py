"""Training arguments that all stages share."""

import logging
from dataclasses import dataclass

from transformers import SchedulerType, TrainingArguments

from seed_hf.devices import use_fp32_where_half_is_slow

from .options import ARGUMENTS, ARGUMENTS_OF_TOKENIZERS, check_arguments, check_numbers, check_schedule, watch_options


logger = logging.getLogger(__name__)


@dataclass
class StageArguments(TrainingArguments):
    """[`transformers.TrainingArguments`] with the defaults of the authors' training code, as far as all stages agree.

    Without `lr_scheduler_kwargs`, a schedule with a least learning rate ends at a tenth of the highest. On a CPU
    without hardware for `bf16` or `fp16` the run is in fp32, after a warning. A process trains on one GPU, however
    many there are: torchrun starts one for each. What the trainers could only ignore is refused
    (`seed_hf.training.options`).

    Args:
        watch_images (`int`, *optional*, defaults to 0): How many rows of the validation set to look at in each
            evaluation: what the model makes of them becomes an image, `watch/step-N.png` in `output_dir`, which the
            trackers of `report_to` get, too. 0 for none. It leaves the weights as they are.
        watch_pipeline (`str`, *optional*): Folder or Hub id of a `SeedImagePipeline` that draws the codes. Without
            it, codes are not drawn.

    Raises:
        ValueError: An argument is not supported, or `lr_scheduler_kwargs` do not fit `lr_scheduler_type`.
    """

    refused = ARGUMENTS | ARGUMENTS_OF_TOKENIZERS
    min_lr_rate = 0.1

    lr_scheduler_type: str = "cosine_with_min_lr"
    lr_scheduler_kwargs: dict | str | None = None
    weight_decay: float = 0.05
    logging_steps: float = 50
    remove_unused_columns: bool = False
    watch_images: int = 0
    watch_pipeline: str | None = None
    logging_nan_inf_filter: bool = False  # it reads the loss at every step, which makes a GPU wait

    def __post_init__(self):
        check_arguments(self, self.refused)
        if wrong := watch_options(self):
            raise ValueError(wrong[0])
        schedule = SchedulerType(self.lr_scheduler_type)
        if self.lr_scheduler_kwargs is None and schedule.value.endswith("min_lr"):
            self.lr_scheduler_kwargs = {"min_lr_rate": self.min_lr_rate}
        use_fp32_where_half_is_slow(self)
        super().__post_init__()
        if self.n_gpu > 1:  # Trainer would cut each batch in parts (DataParallel), which packing and stage I cannot be
            logger.warning(
                "There are %d GPUs, of which this process trains on one. torchrun --nproc_per_node %d starts a "
                "process for each (docs/distributed.md).",
                self.n_gpu, self.n_gpu,
            )  # fmt: skip
            self._n_gpu = 1
        check_schedule(self)
        check_numbers(self)
