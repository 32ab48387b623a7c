"""Stage II: codebook, decoder and Reverse Q-Former, learned by gradient by `QuantizationTrainer`.

The generation embeddings aim at the teacher's text features of the full description. Three things keep the codes of
an image from saying the same 32 times, or nothing of it: queries that differ (`vision.py`), a k-means start with
revival, and a loss that measures what tells images apart (`feature_contrast_loss_weight`).
"""

import logging

from transformers import CLIPTextModel

from loop import device, stage_arguments, trainer_arguments
from model import TEXT_LENGTH
from optimizer import MuonAdamW
from pixels import changed_images
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from seed_hf.training import ImageTextCollator, QuantizationConfig, QuantizationTrainer
from vocabulary import load_vocabulary
from world import SceneRows


STEPS, BATCH, RATE = 1500, 128, 6e-3


def main(argv: list[str] | None = None) -> None:
    arguments = stage_arguments(__doc__, argv, steps=STEPS, rate=RATE)
    work, out = arguments.work, arguments.work / "quantization"
    if (out / "model").exists():
        return
    model = SeedTokenizer.from_stage_one(
        work / "contrastive" / "model",
        vq_legacy_beta=False,
        vq_loss_weight=30.0,  # codes are small: with 1 the codebook hardly holds them
        reconstruction_loss_weight=1.0,
        feature_contrast_loss_weight=0.5,
        generation_loss_weight=2.0,
    )
    size = model.config.vision_config.image_size
    model.to(device()).freeze_for("quantization")
    trainer = QuantizationTrainer(
        model,
        QuantizationConfig(
            **trainer_arguments(out),
            max_steps=arguments.steps,
            per_device_train_batch_size=BATCH,
            learning_rate=arguments.rate,
            logging_steps=20,
            save_steps=250,
            codebook_init="kmeans",
            revive_dead_codes_every=25,
        ),
        target_encoder=CLIPTextModel.from_pretrained(work / "teacher" / "text_encoder"),
        train_dataset=SceneRows("quantization", arguments.data, arguments.steps * BATCH, size, full=1.0),
        optimizers=(MuonAdamW(model, arguments.rate, 0.01), None),
        data_collator=ImageTextCollator(
            SeedImageProcessor(size={"height": size, "width": size}),
            load_vocabulary(work),
            max_text_tokens=TEXT_LENGTH,
            padding="max_length",
            augment=changed_images,
            seed=0,
        ),
    )
    trainer.train(resume_from_checkpoint=True)
    trainer.save_state()
    model.cpu().save_pretrained(out / "model")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
