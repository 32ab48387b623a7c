"""The vocabulary of the small world: a lower-casing byte-level BPE, one token for nearly every word."""

import logging
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from loop import stage_arguments
from model import TEXT_LENGTH, VOCABULARY
from seed_hf.pictograms.scene_texts import instruction, questions
from seed_hf.pictograms.scenes import generator
from world import captions, scenes, world


PROMPTS = ["Generate an image", "a photo of", "Question: Short answer.", "<image>"]


def some_texts(number: int = 40_000) -> list[str]:
    """Captions, questions, answers and instructions of training scenes."""
    names = list(world().things)
    found = scenes("teacher", 10**9, number)
    texts = captions(found, "teacher", 10**9)
    for index, scene in enumerate(found[: number // 4]):
        random = generator("train", 1, 10**9 + index)
        texts += [part for pair in questions(scene, random, names) for part in pair]
        texts.append(instruction(world().draw_edit("train", 1, 10**9 + index), random))
    return texts


def learn_vocabulary() -> PreTrainedTokenizerFast:
    texts = some_texts() + PROMPTS * 5000
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "<pad>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # Words stand at the start of a text, too: there they have no space before them.
    first = [word for text in texts[:2000] for word in text.split()]
    tokenizer.train_from_iterator(texts + first, trainer)
    begin, end = (("<s>", tokenizer.token_to_id("<s>")), ("</s>", tokenizer.token_to_id("</s>")))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[begin, end])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", model_max_length=256
    )


def encode_texts(tokenizer, texts: list[str], length: int = TEXT_LENGTH) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids, mask), both `(texts, length)`: `<s>`, the text, `</s>`, padding."""
    ids = torch.full((len(texts), length), tokenizer.pad_token_id)
    mask = torch.zeros(len(texts), length, dtype=torch.long)
    for row, found in enumerate(tokenizer(texts, add_special_tokens=False).input_ids):
        found = [tokenizer.bos_token_id, *found[: length - 2], tokenizer.eos_token_id]
        ids[row, : len(found)] = torch.tensor(found)
        mask[row, : len(found)] = 1
    return ids, mask


def load_vocabulary(work: Path) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(work / "vocabulary")


def main(argv: list[str] | None = None) -> None:
    arguments = stage_arguments(__doc__, argv)
    if not (arguments.work / "vocabulary").exists():
        learn_vocabulary().save_pretrained(arguments.work / "vocabulary")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
