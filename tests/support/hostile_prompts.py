"""Texts that spell visual or special tokens, and every way in which a user's text becomes ids."""

import random
from types import SimpleNamespace

import torch

from seed_hf.data.batches.instruction import InstructionCollator
from seed_hf.data.batches.language_model import LanguageModelCollator
from seed_hf.modeling.processing_seed import SeedProcessor


HOSTILE = [
    "<img>",
    "</img>",
    "<img_00012>",
    "<s>",
    "</s>",
    "<pad>",
    " <img><img_00000></img>",
    "<IMG_00001>",
    "<image",
    "image>",
    "<ima<img>ge>",
    "\u0000",
    "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
]
_MORE = [
    "<image>",
    "<unk>",
    "<|im_start|>",
    "USER: ",
    "\nASSISTANT:",
    " [/INST]\n",
    "<<SYS>>",
    "{text}",
    "{}",
    "{{ x }}",
]
_MORE += ["<0x3C>", "▁", "\u200b", "\u202e", "＜img＞", "a red apple", " ", "\n", "é", "\ufffd", "猫", "🐱\u200d👤"]
CODES = list(range(32))


def hostile_text(draw: random.Random) -> str:
    names = [f"<img_{draw.randrange(10**5):05d}>", chr(draw.randrange(1, 0xD800)), draw.choice("<>/_im")]
    return "".join(draw.choices([*HOSTILE, *_MORE, *names], k=draw.randint(1, 8)))


class TextToIds:
    """All ways from a text to ids for one processor.

    Args:
        processor: With any text tokenizer and format.
    """

    def __init__(self, processor: SeedProcessor):
        self.processor, self.vocabulary = processor, processor.vocabulary
        config = SimpleNamespace(**vars(processor.vocabulary), prompt_format=processor.prompt_format)
        self.captions, self.chats = (
            collator(processor.tokenizer, config, max_length=4096)
            for collator in (LanguageModelCollator, InstructionCollator)
        )

    def rows(self, text: str) -> list[tuple[list[int], int]]:
        """Ids, and the number of images that they may have."""
        sequences, processor = self.processor.sequences, self.processor
        learned = bool(text.strip()) and "\0" not in text  # trainers refuse others
        rows = [
            (sequences.encode(text), 0),
            (processor.draw(text)["input_ids"][0].tolist(), 0),
            (sequences.prompt("question", question=text), 1),
        ]
        messages = [{"role": "user", "content": text}, {"role": "assistant", "content": text}]
        for said, encode in (
            (text, lambda: processor(text)["input_ids"]),
            (text + text, lambda: processor.apply_chat_template(messages, tokenize=True)),
        ):
            try:
                rows.append((encode()[0].tolist(), 0))
            except ValueError:
                assert "<image>" in said  # stands for an image, and there is none
            else:
                assert "<image>" not in text
        if learned and "<image>" not in text:
            rows.append((self.chats([{"messages": messages}])["input_ids"][0].tolist(), 0))
        if learned:
            rows.append((self.captions([{"text": text}])["input_ids"][0].tolist(), 0))
            drawn = {"codes": CODES, "caption": text, "direction": "text_to_image"}
            rows.append((self.captions([drawn])["input_ids"][0].tolist(), 1))
        return rows

    def check(self, text: str) -> None:
        """Raises `AssertionError` if some way makes a visual or a special token of the text."""
        vocabulary, special = self.vocabulary, set(self.processor.tokenizer.all_special_ids)
        assert not special & set(self.processor.sequences.encode(text)), text
        for way, (ids, images) in enumerate(self.rows(text)):
            given = torch.tensor(ids)
            visual = ~vocabulary.is_text(given) & (given >= 0)
            assert int(visual.sum()) == images * (vocabulary.num_query_tokens + 2), (text, way)
