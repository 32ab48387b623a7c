"""Stage I and stage II on cached features: from a frozen ViT to the codes of all scenes."""

import shutil
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import Blip2VisionModel

from model import TEXT_LENGTH
from optimizer import MuonAdamW
from scene_features import scenes, vision_features, word_tokenizer
from seed_hf.devices import usable_device
from seed_hf.modeling.configuration_seed import SeedTokenizerConfig
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from seed_hf.pictograms.scene_texts import full_description
from seed_hf.training import (
    ContrastiveConfig,
    ContrastiveTrainer,
    ImageTextCollator,
    QuantizationConfig,
    QuantizationTrainer,
)
from seed_hf.training.quantization import caption_loss_of
from setting import Place, Setting
from vision import APART, Captioner, alike


WIDTH = 128


def trainer_arguments(out: Path, seed: int, steps: int, batch: int) -> dict:
    """What the trainers of all stages have in common."""
    on_cpu = usable_device().type == "cpu"
    return {
        "output_dir": str(out / "trainer"),
        "max_steps": steps,
        "per_device_train_batch_size": batch,
        "warmup_steps": 0.05,
        "logging_steps": max(1, steps // 10),
        "save_strategy": "no",
        "seed": seed,
        "use_cpu": on_cpu,
        # A GPU is faster than one core can fill its batches.
        "dataloader_num_workers": 0 if on_cpu else 2,
        "dataloader_persistent_workers": not on_cpu,
        "report_to": "none",
        "disable_tqdm": True,
    }


def fit(trainer, rate: float) -> None:
    trainer.optimizer = MuonAdamW(trainer.model, rate, decay=0.05, bf16=False)
    trainer.train()


def finish(out: Path, model, **arrays: np.ndarray) -> None:
    """Keep what a stage has learned. The folder of the trainer goes."""
    for name, array in arrays.items():
        np.save(out / f"{name}.npy", array)
    shutil.rmtree(out / "trainer", ignore_errors=True)
    model.cpu().save_pretrained(out / "partial")
    (out / "partial").rename(out / "model")


class SeenScenes(Dataset):
    """What the ViT sees in scenes, with their full descriptions."""

    def __init__(self, features: np.ndarray):
        self.features = features
        self.captions = [full_description(scene) for scene in scenes("train", len(features))]

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: int) -> dict:
        return {"vision_embeddings": self.features[index].astype(np.float32), "caption": self.captions[index]}


class CausalEmbeddings(Dataset):
    def __init__(self, embeddings: np.ndarray):
        self.embeddings = embeddings

    def __len__(self) -> int:
        return len(self.embeddings)

    def __getitem__(self, index: int) -> dict:
        return {"causal_embeddings": np.array(self.embeddings[index])}


class SeeingTrainer(ContrastiveTrainer):
    """Stage I from new weights. The paper starts from BLIP-2, whose queries say different things of an image. Here two
    more losses stand for that: a writer reads the embeddings, and the embeddings of an image are kept apart."""

    def __init__(self, model, args, **kwargs):
        super().__init__(model, args, **kwargs)
        self.model.writer.requires_grad_(True)  # stage I freezes what is no part of the tokenizer

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True)
        loss = loss + caption_loss_of(model.writer, outputs.causal_embeddings, inputs)
        loss = loss + APART * alike(outputs.causal_embeddings)
        return (loss, outputs) if return_outputs else loss


def tokenizer_config(setting: Setting, vit: Blip2VisionModel) -> SeedTokenizerConfig:
    layers = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_attention_heads": 4}
    quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return SeedTokenizerConfig(
        vision_config=vit.config.to_dict(),
        vision_norm_eps=vit.config.layer_norm_eps,
        qformer_config={
            **layers,
            **quiet,
            "num_hidden_layers": 4,
            "vocab_size": len(word_tokenizer()),
            "max_position_embeddings": 64,
            "pad_token_id": word_tokenizer().pad_token_id,
        },
        reverse_qformer_config={**layers, **quiet, "num_hidden_layers": 1, "encoder_hidden_size": WIDTH},
        decoder_config={**layers, "num_hidden_layers": 1, "layer_norm_eps": 1e-6, "initializer_range": 0.02},
        num_query_tokens=setting.places,
        causal_queries=setting.causal,
        projection_dim=WIDTH,
        text_tower=True,
        num_generation_tokens=1,
        generation_dim=WIDTH,
    )


def see(place: Place, setting: Setting) -> None:
    """Stage I, and the causal embeddings of all scenes, `causal.npy` `(train and test, places, width)` float16."""
    out = place.work / setting.name("seeing")
    if (out / "model").exists():
        return
    size, features = place.size, vision_features(place.work, place.size)
    torch.manual_seed(setting.seed)
    vit = Blip2VisionModel.from_pretrained(place.vit)
    model = SeedTokenizer(tokenizer_config(setting, vit))
    model.vision_model.load_state_dict(vit.state_dict())
    model.writer = Captioner(len(word_tokenizer()), WIDTH, heads=4, normed=False)
    trainer = SeeingTrainer(
        model,
        ContrastiveConfig(**trainer_arguments(out, setting.seed, size.seeing, size.batch)),
        train_dataset=SeenScenes(features["train"]),
        data_collator=ImageTextCollator(tokenizer=word_tokenizer(), max_text_tokens=TEXT_LENGTH, seed=setting.seed),
    )
    fit(trainer, 2e-3)
    del model.writer
    model.eval()
    parts = [embedded(model, features[name]) for name in ("train", "test")]
    finish(out, model, causal=np.concatenate(parts))


@torch.no_grad()
def embedded(model: SeedTokenizer, features: np.ndarray) -> np.ndarray:
    found = []
    for start in range(0, len(features), 256):
        seen = torch.from_numpy(features[start : start + 256].astype(np.float32)).to(model.device)
        found.append(model.get_causal_embeddings(vision_embeddings=seen).half().cpu().numpy())
    return np.concatenate(found)


def code(place: Place, setting: Setting) -> None:
    """Stage II, and the codes of all scenes, `codes.npy` `(train and test, places)` int16."""
    out = place.work / setting.name("coding")
    if (out / "model").exists():
        return
    size, seen = place.size, place.work / setting.name("seeing")
    causal = np.load(seen / "causal.npy", mmap_mode="r")
    torch.manual_seed(setting.seed)
    model = SeedTokenizer.from_stage_one(
        seen / "model",
        codebook_size=setting.codebook,
        vq_legacy_beta=False,
        vq_loss_weight=30.0,  # codes are small: with 1 the codebook hardly holds them
        reconstruction_loss_weight=setting.reconstruction,
        feature_contrast_loss_weight=setting.contrast,
    )
    arguments = trainer_arguments(out, setting.seed, size.coding, size.batch)
    remedies = {"codebook_init": "kmeans" if setting.kmeans else "none", "revive_dead_codes_every": setting.revive}
    trainer = QuantizationTrainer(
        model,
        QuantizationConfig(**arguments, **remedies),
        train_dataset=CausalEmbeddings(causal[: size.scenes]),
    )
    fit(trainer, 8e-3)
    model.eval()
    parts = np.array_split(causal, max(1, len(causal) // 512))
    with torch.no_grad():
        codes = [
            model.encode(causal_embeddings=torch.from_numpy(part).float().to(model.device)).cpu() for part in parts
        ]
    finish(out, model, codes=torch.cat(codes).numpy().astype(np.int16))


def load_coded(place: Place, setting: Setting) -> tuple[SeedTokenizer, dict[str, np.ndarray], np.ndarray]:
    """The tokenizer, the codes of each set, and the causal embeddings of "test"."""
    out = place.work / setting.name("coding")
    codes = np.load(out / "codes.npy").astype(np.int64)
    causal = np.load(place.work / setting.name("seeing") / "causal.npy", mmap_mode="r")[place.size.scenes :]
    model = SeedTokenizer.from_pretrained(out / "model").to(usable_device()).eval()
    return model, {"train": codes[: place.size.scenes], "test": codes[place.size.scenes :]}, causal
