"""The visual tokens as entries of a text tokenizer: their names, and where they lie."""

import copy
import re

from tokenizers import processors
from transformers.tokenization_utils_base import AddedToken, PreTrainedTokenizerBase

from .visual_vocabulary_seed import VisualVocabulary


BOI_TOKEN, EOI_TOKEN, IMAGE_TOKEN = "<img>", "</img>", "<image>"


def extend_text_tokenizer(tokenizer: PreTrainedTokenizerBase, codebook_size: int) -> PreTrainedTokenizerBase:
    r"""A copy of a text tokenizer that also knows the visual tokens, with the ids that [`SeedTextConfig`] gives them.

    They are not special tokens: servers decode without those, and would lose the images.

    Args:
        tokenizer: The text tokenizer, with entries 0 .. V-1.
        codebook_size: K. `<img>`, `</img>`, `<img_00000>` .. and `<image>` are added.

    Raises:
        ValueError: The tokenizer has gaps in its ids, or already has visual tokens.
    """
    names = [BOI_TOKEN, EOI_TOKEN, *(code_token(code) for code in range(codebook_size)), IMAGE_TOKEN]
    if taken := sorted(set(names) & set(tokenizer.get_vocab())):
        raise ValueError(
            f"This tokenizer already has visual tokens ({', '.join(taken[:3])}{' ..' if len(taken) > 3 else ''}). "
            "Start from the plain text tokenizer."
        )
    check_no_gaps(tokenizer)
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.add_tokens([AddedToken(name, special=False, normalized=False) for name in names])
    tokenizer.padding_side = "left"
    return tokenizer


def check_no_gaps(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises `ValueError` unless the entries of a text tokenizer have the ids 0 and on: visual tokens follow them."""
    size, highest = len(tokenizer), max(tokenizer.get_vocab().values())
    if highest != size - 1:
        raise ValueError(
            f"The tokenizer's {size} entries must have the ids 0 .. {size - 1}, but the highest is {highest}."
        )


def code_token(code: int) -> str:
    """The name that a visual token has in the text tokenizer."""
    return f"<img_{code:05d}>"


def read_vocabulary(tokenizer: PreTrainedTokenizerBase, num_query_tokens: int = 32) -> VisualVocabulary:
    """The layout of the visual tokens in a text tokenizer, in whatever order they have there.

    A tokenizer without `<image>` gets a placeholder of the id after its last one: text cannot spell it, and no row of
    the language model is needed for it.

    Args:
        tokenizer: Has `<img>`, `</img>` and the codes `<img_00000>` and on, which have consecutive ids.
        num_query_tokens: Codes in an image span.

    Raises:
        ValueError: No visual tokens, or codes whose ids are not consecutive.
    """
    vocab = tokenizer.get_vocab()
    lacking = [name for name in (BOI_TOKEN, EOI_TOKEN, code_token(0)) if name not in vocab]
    if lacking:
        raise ValueError(
            f"The tokenizer has no visual tokens: {', '.join(lacking)} not found. Make it with "
            "extend_text_tokenizer(tokenizer, codebook_size)."
        )
    offset, codebook_size = vocab[code_token(0)], sum(_is_code_token(name) for name in vocab)
    for code in range(codebook_size):
        if vocab.get(code_token(code)) != offset + code:
            raise ValueError(
                f"The {codebook_size} codes must have the ids {offset} .. {offset + codebook_size - 1}, but "
                f"{code_token(code)} has {vocab.get(code_token(code))}. Make the tokenizer with extend_text_tokenizer."
            )
    end = max(vocab.values()) + 1
    return VisualVocabulary(
        boi_token_id=vocab[BOI_TOKEN],
        eoi_token_id=vocab[EOI_TOKEN],
        visual_token_offset=offset,
        codebook_size=codebook_size,
        num_query_tokens=num_query_tokens,
        image_token_id=vocab.get(IMAGE_TOKEN, end),
        vocab_size=end,
    )


def served_tokenizer(tokenizer: PreTrainedTokenizerBase, chat_template: str | None) -> PreTrainedTokenizerBase:
    """A copy of a text tokenizer that puts bos before a text and nothing after it, as servers expect.

    Args:
        tokenizer: May add more: the text tower of stage I reads an eos, for example.
        chat_template: Jinja template of a chat, as the processor has it, that goes along; see `with_bos`.
    """
    tokenizer = copy.deepcopy(tokenizer)
    for name in ("auto_map", "processor_class"):  # of the processor's folder, whose code is not where this one goes
        tokenizer.init_kwargs.pop(name, None)
    tokenizer._processor_class = None
    first, special = "", []
    if (bos := tokenizer.bos_token) is not None:
        first, special = f"{bos} ", [(bos, tokenizer.bos_token_id)]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first}$A", pair=f"{first}$A $B", special_tokens=special
    )
    tokenizer.chat_template = with_bos(chat_template, tokenizer)
    return tokenizer


def with_bos(chat_template: str | None, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The template of a chat for a text tokenizer alone, which writes no bos of its own before a chat.

    Args:
        chat_template: As the processor has it, which writes one.
        tokenizer: Without a bos, the template stays as it is.
    """
    if chat_template is None or tokenizer.bos_token is None or "bos_token" in chat_template:
        return chat_template
    return f"{{{{- bos_token }}}}{chat_template}"


def _is_code_token(name: str) -> bool:
    return re.fullmatch(r"<img_\d{5,}>", name) is not None


__all__ = [
    "BOI_TOKEN",
    "EOI_TOKEN",
    "IMAGE_TOKEN",
    "check_no_gaps",
    "code_token",
    "extend_text_tokenizer",
    "read_vocabulary",
    "served_tokenizer",
    "with_bos",
]
