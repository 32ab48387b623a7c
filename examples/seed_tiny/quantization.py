"""Stage II: codebook, decoder and Reverse Q-Former, learned by gradient by `QuantizationTrainer`.

The generation embeddings aim at the teacher's text features of the full description. Five things keep the codes of
an image from saying the same 32 times, or nothing of it: queries that differ (`vision.py`), a k-means start with
revival, a loss that measures what tells images apart (`feature_contrast_loss_weight`), one that measures what the
decoder of the vision stage can write of what the codes hold (`caption_loss_weight`), and a Q-Former that learns along
(`train_qformer`): with that of stage I alone, what tells two things apart is lost among all else that it sees.

It goes on from the tokenizer in `quantization/begin`, if there is one: codes then keep much of their meaning, and a
language model that has learned them can follow.
"""

import logging

import torch
from transformers import CLIPTextModel

from features import SeenRows, Shards
from loop import device, stage_arguments, trainer_arguments
from model import CODEBOOK, TEXT_LENGTH
from optimizer import MuonAdamW
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from seed_hf.training import ImageTextCollator, QuantizationConfig, QuantizationTrainer
from vision import Captioner
from vocabulary import load_vocabulary


STEPS, BATCH, RATE = 3000, 128, 6e-3
APART = 0.01


def near(vectors: torch.Tensor, distance: torch.Tensor) -> torch.Tensor:
    """How many other places of an image a place's vector is near to, smoothly, the mean over `(batch, places, width)`.

    Args:
        vectors: that are compared with the codebook.
        distance: mean squared distance to the codes that they take; as near, two places may take the same.
    """
    squares = torch.cdist(vectors.float(), vectors.float()).square()
    return (squares / -distance).exp().sum(-1).mean() - 1


class ApartTrainer(QuantizationTrainer):
    """Also keeps the codes of an image apart: a Q-Former that learns along has several places say the same."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True)
        tokenizer = self.accelerator.unwrap_model(model)
        vectors = tokenizer.code_encoder(outputs.causal_embeddings)
        taken = tokenizer.quantizer.lookup(outputs.codes)
        distance = (vectors - taken).square().sum(-1).mean().detach()
        loss = loss + APART * near(vectors, distance)
        return (loss, outputs) if return_outputs else loss


def main(argv: list[str] | None = None) -> None:
    arguments = stage_arguments(__doc__, argv, steps=STEPS, rate=RATE)
    work, out = arguments.work, arguments.work / "quantization"
    if (out / "model").exists():
        return
    tokenizer = load_vocabulary(work)
    settings = {
        "codebook_size": CODEBOOK,
        "vq_legacy_beta": False,
        "vq_loss_weight": 30.0,  # codes are small: with 1 the codebook hardly holds them
        "reconstruction_loss_weight": 1.0,
        "feature_contrast_loss_weight": 0.5,
        "contrastive_loss_weight": 0.5,
        "generation_loss_weight": 2.0,
    }
    begun = (out / "begin").exists()
    if begun:
        model = SeedTokenizer.from_pretrained(out / "begin", **settings)
    else:
        model = SeedTokenizer.from_stage_one(work / "contrastive" / "model", **settings)
    model.to(device()).freeze_for("quantization", train_qformer=True)  # the optimizer takes what learns
    captioner = Captioner(len(tokenizer))
    captioner.load_state_dict(torch.load(work / "vision" / "captioner.pt", map_location="cpu", weights_only=True))
    trainer = ApartTrainer(
        model,
        QuantizationConfig(
            **trainer_arguments(out),
            max_steps=arguments.steps,
            per_device_train_batch_size=BATCH,
            learning_rate=arguments.rate,
            logging_steps=20,
            save_steps=250,
            codebook_init="none" if begun else "kmeans",
            revive_dead_codes_every=25,
            caption_loss_weight=3.0,
            train_qformer=True,
        ),
        target_encoder=CLIPTextModel.from_pretrained(work / "teacher" / "text_encoder"),
        caption_decoder=captioner,
        train_dataset=SeenRows(Shards(work / "features" / "train"), "language", arguments.steps * BATCH, full=1.0),
        optimizers=(MuonAdamW(model, arguments.rate, 0.01), None),
        data_collator=ImageTextCollator(None, tokenizer, max_text_tokens=TEXT_LENGTH, padding="max_length", seed=0),
    )
    trainer.train(resume_from_checkpoint=True)
    trainer.save_state()
    model.cpu().save_pretrained(out / "model")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
