"""From a recipe to a trained, saved model: what `seed-hf train` runs."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from seed_hf.devices import weights_to_fp32_where_half_is_slow

from .reading import read_recipe
from .schema import Recipe


def run_stage(stage: str, config_path: str | os.PathLike, changes: Sequence[str] = ()) -> Path:
    """Train one stage as a YAML file describes it, from its last complete checkpoint on, and save the model.

    The file has three sections: `model` and `data` (see `seed_hf.recipes.schema`), and `trainer`, the fields of
    `ContrastiveConfig`, `QuantizationConfig` or `LanguageModelConfig`, among which `output_dir` is required. Paths are
    relative to the working directory. The trained model is saved in `output_dir`, beside its checkpoints.

    Args:
        stage: "contrastive" (stage I), "quantization" (stage II) or "lm".
        config_path: The YAML file.
        changes: Values that replace those of the file, in YAML: "trainer.max_steps=10",
            "model.settings.codebook_size=64".

    Returns:
        `output_dir`.

    Raises:
        ValueError: The stage or a key is unknown, a value has a wrong type, or values exclude each other.
        FileNotFoundError: A file or folder that the recipe names does not exist.
    """
    recipe = read_recipe(stage, config_path, changes)
    if stage == "lm":
        from .language_model_stage import language_model_trainer

        return _train_and_save(recipe, *language_model_trainer(recipe))
    from .tokenizer_stages import tokenizer_trainer

    return _train_and_save(recipe, *tokenizer_trainer(recipe))


def _train_and_save(recipe: Recipe, trainer, processor) -> Path:
    """Train; then save the model, its processor and its card. Files are written aside first, so none is half there."""
    from seed_hf.hub.callback import ModelCardCallback

    output = Path(trainer.args.output_dir)
    card = ModelCardCallback(recipe)
    trainer.add_callback(card)
    for part in (trainer.model, getattr(trainer, "target_encoder", None)):
        if part is not None:
            weights_to_fp32_where_half_is_slow(part)
    trainer.train(resume_from_checkpoint=True)
    trainer.save_state()
    model = trainer.finished_model()
    if trainer.args.should_save:
        aside = output / "saving"
        shutil.rmtree(aside, ignore_errors=True)
        model.save_pretrained(aside)
        processor.save_pretrained(aside)
        for file in aside.iterdir():
            os.replace(file, output / file.name)
        aside.rmdir()
        card.write(output)
    return output
