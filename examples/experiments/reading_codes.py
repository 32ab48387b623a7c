"""The language model: a small OPT learns the words of the small world, then to read and write codes."""

import math
import shutil

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import OPTConfig, OPTForCausalLM, TrainerCallback

from measuring import code_losses, valid_spans
from scene_features import scenes, word_tokenizer
from seed_hf.devices import usable_device
from seed_hf.modeling.modeling_seed_text import SeedForCausalLM
from seed_hf.pictograms.scene_texts import caption, full_description
from seed_hf.training import LanguageModelCollator, LanguageModelConfig, LanguageModelTrainer
from seeing_codes import finish, fit, load_coded, trainer_arguments
from setting import Place, Setting


class Words(Dataset):
    """Texts without images."""

    def __init__(self, number: int):
        self.texts = [text for scene in scenes("train", number) for text in (caption(scene), full_description(scene))]

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> dict:
        return {"text": self.texts[index]}


class CodedScenes(Dataset):
    """Codes with texts, in both directions: the plainest caption of an image, and an image of its
    full description."""

    def __init__(self, codes: np.ndarray, name: str = "train"):
        self.codes, self.scenes = codes, scenes(name, len(codes))

    def __len__(self) -> int:
        return 2 * len(self.codes)

    def __getitem__(self, index: int) -> dict:
        row, drawn = divmod(index, 2)
        scene = self.scenes[row]
        direction, text = ("text_to_image", full_description(scene)) if drawn else ("image_to_text", caption(scene))
        return {"codes": self.codes[row], "caption": text, "direction": direction}


def opt_config() -> OPTConfig:
    tokenizer = word_tokenizer()
    return OPTConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        word_embed_proj_dim=192,
        ffn_dim=768,
        num_hidden_layers=3,
        num_attention_heads=6,
        max_position_embeddings=128,
        dropout=0.0,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def learn_words(place: Place, setting: Setting) -> None:
    """A plain OPT that has read all texts and no code."""
    out = place.work / setting.name("words")
    if (out / "model").exists():
        return
    size, tokenizer = place.size, word_tokenizer()
    torch.manual_seed(setting.seed)
    model = OPTForCausalLM(opt_config())
    arguments = trainer_arguments(out, setting.seed, size.words, size.batch)
    trainer = LanguageModelTrainer(
        model,
        LanguageModelConfig(**arguments, lora_r=0),
        train_dataset=Words(size.scenes),
        data_collator=LanguageModelCollator(tokenizer, model.config, seed=setting.seed),
    )
    fit(trainer, 5e-3)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(out / "partial")
    finish(out, model)


class Looks(TrainerCallback):
    """Looks at the model while it learns: losses of codes, and images that are written without the constraint."""

    def __init__(self, place: Place, setting: Setting, codes: np.ndarray):
        size = place.size
        # More of them at the beginning, where most happens.
        shares = [2.0 ** (look - size.looks) for look in range(1, size.looks + 1)]
        self.steps = {max(1, math.ceil(share * size.language)) for share in shares}
        self.asked = [full_description(scene) for scene in scenes("test", min(256, size.tested))]
        self.codes, self.seed, self.seen = codes[: len(self.asked)], setting.seed, []

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step not in self.steps:
            return
        model.eval()
        losses = code_losses(model, self.asked, self.codes)
        valid = {
            f"valid, {how}": valid_spans(model, self.asked, sampled=how == "sampled", seed=self.seed)[0]
            for how in ("greedy", "sampled")
        }
        self.seen.append({"step": state.global_step, "code loss": losses.mean().item(), **valid})
        model.train()


def read(place: Place, setting: Setting) -> tuple[SeedForCausalLM, list[dict]]:
    """The language model of a setting, and what was seen of it while it learned."""
    size, tokenizer = place.size, word_tokenizer()
    visual_tokenizer, codes, _ = load_coded(place, setting)
    codebook = visual_tokenizer.quantizer.embedding.weight.detach().cpu()
    torch.manual_seed(setting.seed)
    model = SeedForCausalLM.from_language_model(
        place.work / setting.name("words") / "model",
        codebook_size=setting.codebook,
        num_query_tokens=setting.places,
        code_dim=codebook.shape[1],
        visual_embedding=setting.visual_embedding,
        codebook=codebook if setting.visual_embedding == "projected" else None,
    )
    out = place.work / setting.name("language")
    arguments = trainer_arguments(out, setting.seed, size.language, size.batch)
    looks = Looks(place, setting, codes["test"])
    trainer = LanguageModelTrainer(
        model,
        LanguageModelConfig(**arguments, lora_r=setting.lora, lora_alpha=2 * setting.lora),
        train_dataset=CodedScenes(codes["train"]),
        data_collator=LanguageModelCollator(tokenizer, model.config, seed=setting.seed),
        callbacks=[looks],
    )
    fit(trainer, 1e-2)
    shutil.rmtree(out, ignore_errors=True)
    return trainer.finished_model().to(usable_device()).eval(), looks.seen
