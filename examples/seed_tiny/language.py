"""The language model: a small OPT learns the world's texts, then to read and write visual codes like words.

To go on from a run that has ended, give another `--work` whose `opt/model` is what that run wrote, a lower `--rate`,
and as `--skip` the steps that have been made, so that the rows are new.
"""

import logging
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import OPTConfig, OPTForCausalLM, TrainerCallback

from loop import device, give_back_freed_memory, stage_arguments, trainer_arguments
from model import CODEBOOK
from optimizer import MuonAdamW
from seed_hf.modeling.modeling_seed_text import SeedForCausalLM
from seed_hf.pictograms.scene_texts import caption as plainest
from seed_hf.pictograms.scene_texts import in_reading_order, instruction, questions
from seed_hf.pictograms.scenes import generator
from seed_hf.training import InstructionCollator, LanguageModelCollator, LanguageModelConfig, LanguageModelTrainer
from vocabulary import load_vocabulary
from world import SEEDS, captions, scenes, two_twice, world


TEXT_STEPS, STEPS, BATCH = 300, 8000, 128
TEXT_RATE, RATE = 2e-3, 5e-3
LENGTH = 128  # tokens; no row is longer, so rows are packed into sequences of this length: two fifths were padding
CODE_WEIGHT = 0.3  # an image is 32 tokens and a caption five: at 1 seven eighths of the loss would be the codes'
# A request is a drawing that is asked for in a chat.
DIRECTIONS = {"image_to_text": 0.18, "question": 0.34, "text_to_image": 0.33, "request": 0.05, "edit": 0.1}


def opt_config(tokenizer) -> OPTConfig:
    return OPTConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        word_embed_proj_dim=256,  # narrower rows would save weights, but learn far more slowly (history.md)
        ffn_dim=704,
        num_hidden_layers=4,
        num_attention_heads=8,
        max_position_embeddings=256,
        dropout=0.0,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


class Texts(Dataset):
    """Captions, in every wording, and questions with their answers."""

    def __init__(self, number: int):
        self.number = number

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> dict:
        index += 10**8
        (scene,) = scenes("language", index, 1)
        random = generator("train", SEEDS["language"], index, 3)
        if random.random() < 0.5:
            return {"text": captions([scene], "language", index)[0]}
        asked = questions(scene, random, list(world().things))
        return {"text": " ".join(asked[random.integers(len(asked))])}


class CodeRows(Dataset):
    """Codes of scenes with a direction, and edits; those of two things twice as often.

    Captions, questions and wordings differ from row to row, also those of one scene.
    What is written of an image is always its plainest caption, so that the probability of a caption is about what is
    seen, not about how it is said. What is drawn may be said in any wording.
    """

    def __init__(self, codes: np.ndarray, edits: np.ndarray, number: int, skipped: int = 0):
        self.codes, self.edits, self.number, self.skipped = (
            codes.astype(np.int64),
            edits.astype(np.int64),
            number,
            skipped,
        )
        self.order = two_twice(len(codes))

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> dict:
        index += self.skipped
        row = int(self.order[index % len(self.order)])
        random = generator("train", SEEDS["language"], index, 4)
        direction = random.choice(list(DIRECTIONS), p=list(DIRECTIONS.values()))
        if direction == "edit":
            return self._edit(random)
        (scene,) = scenes("language", row, 1)
        said = plainest(in_reading_order(scene))
        if direction in ("text_to_image", "request"):
            (said,) = captions([scene], "language", index, full=0.2)
        asked = questions(scene, random, list(world().things)) if direction == "question" else None
        if asked and scene.layout == "two":
            asked += asked[4:]  # where each is, and its colour, takes longest to learn
        found = {"codes": self.codes[row], "caption": said, "questions": asked}
        if direction == "request":
            return {**found, "direction": "text_to_image", "chat": True}
        return {**found, "direction": str(direction)}

    def _edit(self, random: np.random.Generator) -> dict:
        number = int(random.integers(len(self.edits)))
        before, after = ({"type": "image", "codes": codes.tolist()} for codes in self.edits[number])
        said = instruction(world().draw_edit("train", SEEDS["language"], number), random)
        question = {"role": "user", "content": [before, {"type": "text", "text": said}]}
        return {"messages": [question, {"role": "assistant", "content": [after]}]}


class Collator(InstructionCollator):
    """Edits and requests as the chats of the instruction stage, all else as the rows of the language-model stage."""

    def sample(self, row: dict):
        if row.pop("chat", False) or "messages" in row:
            return super().sample(row)
        return LanguageModelCollator.sample(self, row)


def arguments_for(out: Path, steps: int, rate: float) -> LanguageModelConfig:
    return LanguageModelConfig(
        **trainer_arguments(out),
        max_steps=steps,
        per_device_train_batch_size=BATCH,
        learning_rate=rate,
        logging_steps=20,
        save_steps=500,
        code_loss_weight=CODE_WEIGHT,
        lora_r=0,  # all weights train: a model of this size has no capacity to spare for an adapter
    )


class SteadyMemory(TrainerCallback):
    def on_log(self, args, state, control, **kwargs):
        give_back_freed_memory()


def fit(model, arguments: LanguageModelConfig, rows, collator) -> None:
    model.to(device())  # before the optimizer takes its weights
    trainer = LanguageModelTrainer(
        model,
        arguments,
        train_dataset=rows,
        data_collator=collator,
        callbacks=[SteadyMemory()],
        optimizers=(MuonAdamW(model, arguments.learning_rate, 0.05), None),
    )
    trainer.train(resume_from_checkpoint=True)
    trainer.save_state()


def pretrain(work: Path, tokenizer, steps: int) -> None:
    """Texts alone, before there are codes."""
    out = work / "opt"
    if (out / "model").exists():
        return
    torch.manual_seed(0)
    OPTForCausalLM(opt_config(tokenizer)).save_pretrained(out / "start")
    tokenizer.save_pretrained(out / "start")
    model = SeedForCausalLM.from_language_model(out / "start", codebook_size=CODEBOOK)
    rows = Texts(steps * BATCH)
    fit(model, arguments_for(out, steps, TEXT_RATE), rows, LanguageModelCollator(tokenizer, model.config, seed=0))
    model.cpu().save_pretrained(out / "model")


def main(argv: list[str] | None = None) -> None:
    arguments = stage_arguments(__doc__, argv, text_steps=TEXT_STEPS, steps=STEPS, rate=RATE, skip=0)
    work, out = arguments.work, arguments.work / "language"
    tokenizer = load_vocabulary(work)
    pretrain(work, tokenizer, arguments.text_steps)
    if (out / "model").exists():
        return
    model = SeedForCausalLM.from_pretrained(work / "opt" / "model")
    codes, edits = (np.load(work / "codes" / f"{name}.npy") for name in ("train", "edits"))
    collator = Collator(tokenizer, model.config, max_length=LENGTH, pack_length=LENGTH, seed=0)
    rows = CodeRows(codes, edits, arguments.steps * BATCH, arguments.skip * BATCH)
    fit(model, arguments_for(out, arguments.steps, arguments.rate), rows, collator)
    model.cpu().save_pretrained(out / "model")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
