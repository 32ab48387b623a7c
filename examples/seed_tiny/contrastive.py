"""Stage I: the Causal Q-Former, trained by `ContrastiveTrainer` on scenes and their captions; the ViT is frozen."""

import logging

from features import SeenRows, Shards
from loop import device, stage_arguments, trainer_arguments
from optimizer import MuonAdamW
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from seed_hf.training import ContrastiveConfig, ContrastiveTrainer, ImageTextCollator
from vocabulary import load_vocabulary


STEPS, BATCH, RATE = 200, 128, 2e-4


def main(argv: list[str] | None = None) -> None:
    arguments = stage_arguments(__doc__, argv, steps=STEPS)
    out = arguments.work / "contrastive"
    if (out / "model").exists():
        return
    model = SeedTokenizer.from_pretrained(arguments.work / "vision" / "model")
    seen = Shards(arguments.work / "features" / "train")
    model.to(device()).freeze_for("contrastive")
    trainer = ContrastiveTrainer(
        model,
        ContrastiveConfig(
            **trainer_arguments(out),
            max_steps=arguments.steps,
            per_device_train_batch_size=BATCH,
            learning_rate=RATE,
            logging_steps=10,
            save_steps=250,
        ),
        train_dataset=SeenRows(seen, "contrastive", arguments.steps * BATCH, full=0.7),
        optimizers=(MuonAdamW(model, RATE, 0.05), None),
        data_collator=ImageTextCollator(None, load_vocabulary(arguments.work), seed=0),
    )
    trainer.train(resume_from_checkpoint=True)
    trainer.save_state()
    model.cpu().save_pretrained(out / "model")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
