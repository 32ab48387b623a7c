"""The language model: a small OPT learns the training texts, then to read and write visual codes like words.

First OPT is trained on the descriptions alone, then in both directions on captions and the codes of every view of a
picture, with questions about the pictures among them.
"""

import logging
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast

from features import rows_of
from loop import stage_arguments, trainer_arguments
from model import CODEBOOK
from optimizer import MuonAdamW
from seed_hf.modeling.modeling_seed_text import SeedForCausalLM
from seed_hf.pictograms.questions import questions
from seed_hf.pictograms.wordings import caption_variants
from seed_hf.training import LanguageModelCollator, LanguageModelConfig, LanguageModelTrainer


TEXT_EPOCHS, EPOCHS, BATCH = 1.0, 5.0, 128
TEXT_RATE, RATE = 2e-3, 1.5e-3
STRAY = 0.1  # share of the codes read that are another picture's
DIRECTIONS = {"image_to_text": 0.6, "question": 0.07, "text_to_image": 0.33}


def opt_config(tokenizer) -> OPTConfig:
    return OPTConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        word_embed_proj_dim=256,
        ffn_dim=1024,
        num_hidden_layers=4,
        num_attention_heads=8,
        max_position_embeddings=256,
        dropout=0.1,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


class Rows(Dataset):
    """Captions, questions and codes; an epoch shows each picture once per view.

    What the model reads of a picture is another mixture of its views each time: every place has the code that it has
    in some view, or, now and then, in another picture. What the model writes are the codes of the picture as it is.
    """

    def __init__(self, codes: np.ndarray, captions: list[list[str]], pairs: list[list[tuple[str, str]]]):
        self.codes, self.captions, self.pairs = codes, captions, pairs

    def __len__(self) -> int:
        return self.codes.shape[0] * self.codes.shape[1]

    def __getitem__(self, index: int) -> dict:
        row = index % self.codes.shape[1]
        views, _, places = self.codes.shape
        shares = torch.tensor(list(DIRECTIONS.values()))
        direction = list(DIRECTIONS)[torch.multinomial(shares, 1).item()]
        if direction == "question" and not self.pairs[row]:
            direction = "image_to_text"
        codes = self.codes[0, row]
        if direction != "text_to_image":
            rows = torch.where(torch.rand(places) < STRAY, torch.randint(self.codes.shape[1], (places,)), row)
            codes = self.codes[torch.randint(views, (places,)), rows, np.arange(places)]
        return {
            "codes": codes,
            "captions": self.captions[row],
            "questions": self.pairs[row],
            "direction": direction,
        }


def arguments_for(out: Path, epochs: float, rate: float) -> LanguageModelConfig:
    return LanguageModelConfig(
        **trainer_arguments(out),
        num_train_epochs=epochs,
        per_device_train_batch_size=BATCH,
        learning_rate=rate,
        logging_steps=50,
        save_steps=1000,
        lora_r=0,  # all weights train: a model of this size has no capacity to spare for an adapter
        code_loss_weight=0.3,  # a picture has six times as many tokens as a caption
    )


def fit(model, arguments: LanguageModelConfig, rows, collator) -> None:
    optimizer = MuonAdamW(model, arguments.learning_rate, 0.05)
    trainer = LanguageModelTrainer(
        model, arguments, train_dataset=rows, data_collator=collator, optimizers=(optimizer, None)
    )
    trainer.train(resume_from_checkpoint=True)
    trainer.save_state()


def pretrain(data: Path, work: Path, tokenizer, epochs: float) -> None:
    """OPT on the training texts alone: every description once, and the short wordings."""
    out = work / "opt"
    if (out / "model").exists():
        return
    texts = [{"text": text} for row in rows_of(data) for text in (row["rich_caption"], caption_variants(row)[-2])]
    torch.manual_seed(0)
    OPTForCausalLM(opt_config(tokenizer)).save_pretrained(out / "start")
    tokenizer.save_pretrained(out / "start")
    model = SeedForCausalLM.from_language_model(out / "start", codebook_size=CODEBOOK)
    fit(model, arguments_for(out, epochs, TEXT_RATE), texts, LanguageModelCollator(tokenizer, model.config, seed=0))
    model.cpu().save_pretrained(out / "model")


def main(argv: list[str] | None = None) -> None:
    arguments = stage_arguments(__doc__, argv, text_epochs=TEXT_EPOCHS, epochs=EPOCHS)
    work, out = arguments.work, arguments.work / "language"
    tokenizer = PreTrainedTokenizerFast.from_pretrained(work / "text" / "tokenizer")
    pretrain(arguments.data, work, tokenizer, arguments.text_epochs)
    if (out / "model").exists():
        return
    codes = np.load(work / "features" / "train.codes.npy")
    rows = rows_of(arguments.data)
    # Mostly the plain caption, which is what a caption should be; the other wordings are for prompts.
    captions = [[row["caption"].lower()] * 40 + caption_variants(row)[1:] for row in rows]
    model = SeedForCausalLM.from_pretrained(work / "opt" / "model")
    collator = LanguageModelCollator(tokenizer, model.config, seed=0)
    pairs = [questions(row) for row in rows]
    fit(model, arguments_for(out, arguments.epochs, RATE), Rows(codes, captions, pairs), collator)
    model.cpu().save_pretrained(out / "model")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
