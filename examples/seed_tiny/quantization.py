"""Stage II: codebook, decoder and Reverse Q-Former, trained by `QuantizationTrainer` on cached features.

The causal embeddings of all views come from stage I, the targets are what the diffusion model's text encoder makes of
the full description of each picture ("a flat twemoji drawing of a fire engine, mainly red and grey"). Code encoder and
codebook stay as `places.py` has set them; what reads the codes is trained.
"""

import logging
from pathlib import Path

import numpy as np
import torch
from transformers import CLIPTextModel, PreTrainedTokenizerFast

from contrastive import Views, vision_views
from diffusion import encode_captions
from features import rows_of
from loop import autocast, device, stage_arguments, trainer_arguments
from optimizer import MuonAdamW
from places import give_places_directions
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from seed_hf.pictograms.wordings import full_description
from seed_hf.training import QuantizationConfig, QuantizationTrainer


EPOCHS, BATCH, RATE = 3.0, 256, 1e-3
READERS = ("code_decoder", "embedding_decoder", "generation_decoder")


@torch.no_grad()
def causal_views(model: SeedTokenizer, vision: np.ndarray, path: Path) -> np.ndarray:
    """Causal embeddings `(views, rows, 32, 192)`, float16, kept at `path`."""
    if path.exists():
        return np.load(path, mmap_mode="r")
    shape = (*vision.shape[:2], model.config.num_query_tokens, model.config.qformer_config.hidden_size)
    partial = path.with_suffix(".partial.npy")
    found = np.lib.format.open_memmap(partial, "w+", np.float16, shape)
    for view in range(vision.shape[0]):
        for start in range(0, vision.shape[1], 256):
            features = torch.from_numpy(np.asarray(vision[view, start : start + 256], np.float32)).to(device())
            with autocast():
                embeddings = model.get_causal_embeddings(vision_embeddings=features)
            found[view, start : start + 256] = embeddings.float().cpu().numpy()
    found.flush()
    partial.rename(path)
    return np.load(path, mmap_mode="r")


@torch.no_grad()
def codes_of_views(model: SeedTokenizer, causal: np.ndarray, path: Path) -> np.ndarray:
    """Visual codes `(views, rows, 32)`, kept at `path`: what the language model and the UNet learn from."""
    if not path.exists():
        found = np.zeros(causal.shape[:3], np.int64)
        for view in range(causal.shape[0]):
            for start in range(0, causal.shape[1], 512):
                part = torch.from_numpy(np.asarray(causal[view, start : start + 512], np.float32)).to(model.device)
                found[view, start : start + 512] = model.quantizer.encode(model.code_encoder(part)).cpu().numpy()
        np.save(path.with_suffix(".partial.npy"), found)
        path.with_suffix(".partial.npy").rename(path)
    return np.load(path)


def main(argv: list[str] | None = None) -> None:
    arguments = stage_arguments(__doc__, argv, epochs=EPOCHS)
    work, out = arguments.work, arguments.work / "quantization"
    if (out / "model").exists():
        return
    model = SeedTokenizer.from_pretrained(work / "contrastive" / "model").to(device()).eval()
    vision = vision_views(model.vision_model, None, work / "features" / "train.vision.npy")
    causal = causal_views(model, vision, work / "features" / "train.causal.npy")
    rows = rows_of(arguments.data)
    give_places_directions(model.cpu(), causal, [row["caption"].lower() for row in rows])
    model.to(device())
    codes_of_views(model, causal, work / "features" / "train.codes.npy")

    text_tokenizer = PreTrainedTokenizerFast.from_pretrained(work / "text" / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(work / "text" / "text_encoder").to(device()).eval()
    targets = encode_captions(encoder, text_tokenizer, [full_description(row) for row in rows])
    train_readers_alone(model)
    trainer = QuantizationTrainer(
        model,
        QuantizationConfig(
            **trainer_arguments(out),
            num_train_epochs=arguments.epochs,
            per_device_train_batch_size=BATCH,
            learning_rate=RATE,
            logging_steps=20,
            save_steps=500,
        ),
        train_dataset=Views(causal, "causal_embeddings", target_embeddings=targets),
        optimizers=(MuonAdamW(model, RATE, 0.05), None),
    )
    train_readers_alone(model)  # once more: the trainer has opened all that stage II trains
    trainer.train(resume_from_checkpoint=True)
    trainer.save_state()
    model.cpu().save_pretrained(out / "model")


def train_readers_alone(model: SeedTokenizer) -> None:
    model.requires_grad_(False)
    for name in READERS:
        getattr(model, name).requires_grad_(True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
