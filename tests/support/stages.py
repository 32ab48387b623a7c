"""What small training runs of all stages share. Each stage has a module of its own: `stage_one`, `stage_two`,
`language_stage`."""

import torch


def settings(folder, **overrides) -> dict:
    """Arguments of a run of twelve steps on the CPU."""
    return {
        "output_dir": str(folder),
        "max_steps": 12,
        "per_device_train_batch_size": 8,
        "logging_steps": 4,
        "save_strategy": "no",
        "use_cpu": True,
        "disable_tqdm": True,
        **overrides,
    }


def stack(rows: list[dict]) -> dict[str, torch.Tensor]:
    """A collator of rows of tensors."""
    return {key: torch.stack([row[key] for row in rows]) for key in rows[0]}
