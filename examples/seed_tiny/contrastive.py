"""Stage I: the Causal Q-Former, trained by `ContrastiveTrainer` on features of the frozen ViT.

The ViT sees every picture eight times, each time but the first changed at random, and its features are kept; so an
epoch of stage I costs the Q-Former alone. The text path starts from the teacher stage, as it starts from BLIP-2 in the
paper.
"""

import logging
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch.utils.data import Dataset
from transformers import Blip2VisionModel, PreTrainedTokenizerFast

from features import rows_of
from loop import autocast, device, stage_arguments, trainer_arguments
from model import tokenizer_config
from optimizer import MuonAdamW
from pixels import load_pixels, normalise, random_affine, random_view
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from seed_hf.pictograms.wordings import caption_variants
from seed_hf.training import ContrastiveConfig, ContrastiveTrainer, ImageTextCollator


VIEWS = 8  # the first is the picture as it is
EPOCHS, BATCH, RATE = 2.0, 256, 1e-3  # an epoch is all views of all pictures


class Views(Dataset):
    """Rows of one cached feature per view, with the columns that all views of a picture share."""

    def __init__(self, features: np.ndarray, name: str, **columns):
        self.features, self.name, self.columns = features, name, columns

    def __len__(self) -> int:
        return self.features.shape[0] * self.features.shape[1]

    def __getitem__(self, index: int) -> dict:
        view, row = divmod(index, self.features.shape[1])
        return {
            self.name: torch.from_numpy(np.asarray(self.features[view, row], np.float32)),
            **{key: values[row] for key, values in self.columns.items()},
        }


@torch.no_grad()
def vision_views(vision: Blip2VisionModel, pixels: torch.Tensor, path: Path, views: int = VIEWS) -> np.ndarray:
    """ViT features `(views, rows, 65, 192)`, float16, kept at `path`."""
    if path.exists():
        return np.load(path, mmap_mode="r")
    config = vision.config
    shape = (views, len(pixels), (config.image_size // config.patch_size) ** 2 + 1, config.hidden_size)
    partial = path.with_suffix(".partial.npy")
    found = np.lib.format.open_memmap(partial, "w+", np.float16, shape)
    for view in range(views):
        torch.manual_seed(view)
        for start in range(0, len(pixels), 256):
            part = pixels[start : start + 256].to(device())
            if view:
                images = random_view(part, random_affine(len(part), part.device, 0.4), 0.4)
            else:
                images = normalise(part / 255)
            with autocast():
                features = vision(images).last_hidden_state
            found[view, start : start + len(part)] = features.float().cpu().numpy()
    found.flush()
    partial.rename(path)
    return np.load(path, mmap_mode="r")


def starting_point(work: Path, vocabulary: int) -> SeedTokenizer:
    """ViT and text path from the teacher stage, the rest new; query FFNs start as copies of the text FFNs."""
    torch.manual_seed(0)
    model = SeedTokenizer(tokenizer_config(vocabulary))
    model.vision_model.load_state_dict(Blip2VisionModel.from_pretrained(work / "vision" / "model").state_dict())
    tower = load_file(work / "text" / "text_tower" / "model.safetensors")
    missing, unexpected = model.load_state_dict(tower, strict=False)
    if unexpected:
        raise ValueError(f"The text tower holds weights that the model does not have: {unexpected}.")
    for layer in model.qformer.encoder.layer:
        layer.intermediate_query.load_state_dict(layer.intermediate.state_dict())
        layer.output_query.load_state_dict(layer.output.state_dict())
    return model


def main(argv: list[str] | None = None) -> None:
    arguments = stage_arguments(__doc__, argv, epochs=EPOCHS)
    out = arguments.work / "contrastive"
    if (out / "model").exists():
        return
    text_tokenizer = PreTrainedTokenizerFast.from_pretrained(arguments.work / "text" / "tokenizer")
    model = starting_point(arguments.work, len(text_tokenizer))
    pixels = load_pixels(arguments.data, "train", model.config.vision_config.image_size)
    vision = model.vision_model.to(device()).eval()
    views = vision_views(vision, pixels, arguments.work / "features" / "train.vision.npy")
    # The plain caption twice as often as all other wordings together: retrieval asks for it.
    wordings = [[row["caption"].lower()] * 8 + caption_variants(row)[1:] for row in rows_of(arguments.data)]
    model.freeze_for("contrastive")
    trainer = ContrastiveTrainer(
        model,
        ContrastiveConfig(
            **trainer_arguments(out),
            num_train_epochs=arguments.epochs,
            per_device_train_batch_size=BATCH,
            learning_rate=RATE,
            logging_steps=20,
            save_steps=500,
        ),
        train_dataset=Views(views, "vision_embeddings", captions=wordings),
        optimizers=(MuonAdamW(model, RATE, 0.05), None),
        data_collator=ImageTextCollator(tokenizer=text_tokenizer, seed=0),
    )
    trainer.train(resume_from_checkpoint=True)
    trainer.save_state()
    model.cpu().save_pretrained(out / "model")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
