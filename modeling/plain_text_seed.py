"""Text stays text: the encoder of plain text, and the check that no text can become visual tokens."""

import json
import re
from collections.abc import Iterable, Mapping, Set

from tokenizers import Tokenizer
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from .visual_vocabulary_seed import VisualVocabulary


HOW_TO_ADD_WORDS = (
    "Text is encoded without added tokens, and the language model has no rows for them. Add words to the plain text "
    "tokenizer, to its own vocabulary, before the visual tokens (extend_text_tokenizer, from_language_model)."
)
_HALF_A_CHARACTER = re.compile("[\ud800-\udfff]")


class PlainTextEncoder:
    """A function from text to ids that can be copied and pickled along with the processor.

    Args:
        backend: Without added tokens.
    """

    def __init__(self, backend: Tokenizer):
        self.backend = backend

    def __call__(self, text: str) -> list[int]:
        return self.backend.encode(text, add_special_tokens=False).ids

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """For each id, its first character in the text and the one behind its last."""
        return self.backend.encode(text, add_special_tokens=False).offsets

    def framed(self, text: str, max_length: int) -> list[int]:
        """At most `max_length` ids, with the special tokens of the tokenizer around the text."""
        found = self.backend.encode(text, add_special_tokens=False)
        found.truncate(max(max_length - self.backend.num_special_tokens_to_add(False), 0))
        return self.backend.post_process(found).ids  # without a setting of the tokenizer, which threads share

    def framed_length(self, text: str) -> int:
        """How many ids [`framed`] gives of a text that is not cut."""
        return len(self(text)) + self.backend.num_special_tokens_to_add(False)

    def vocabulary(self) -> dict[str, int]:
        """Words and their ids: no text can become another id."""
        return self.backend.get_vocab()


def plain_text_encoder(tokenizer: PreTrainedTokenizerBase, *, framed: bool = False) -> PlainTextEncoder:
    """A function from text to ids without added and special tokens: text that spells one of them stays text.

    Args:
        tokenizer: The text tokenizer.
        framed: Whether its own special tokens are put around a text, as for the text tower.
    """
    settings = json.loads(tokenizer.backend_tokenizer.to_str())
    settings.update(added_tokens=[], truncation=None, padding=None)
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    _hide(settings["model"], special - {tokenizer.unk_token})
    if not framed:
        settings["post_processor"] = None
    return PlainTextEncoder(Tokenizer.from_str(json.dumps(settings)))


def _hide(model: dict, names: set[str]) -> None:
    """Renames words so that no text can spell them: no piece of a text has a space in it.

    Unigram and word models look up whole words, special tokens among them. BPE builds words by merges, which lead to
    no special token.

    Args:
        model: Of a tokenizer, as JSON. A BPE that looks up whole words is changed where no merge leads to the word.
        names: Of the words.
    """
    vocab = model["vocab"]
    listed = isinstance(vocab, list)  # Unigram's, with scores
    names = names.intersection(word for word, _ in vocab) if listed else names & vocab.keys()
    if names and model["type"] == "BPE":
        merges = (merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"])
        names = names.difference(m.replace(" ", "", 1) for m in merges) if model.get("ignore_merges") else set()
    hidden = {name: f" {name} " for name in names}
    if hidden and listed:
        model["vocab"] = [[hidden.get(word, word), score] for word, score in vocab]
    elif hidden:
        model["vocab"] = {hidden.get(word, word): id for word, id in vocab.items()}


def check_text_ids(tokenizer: PreTrainedTokenizerBase, words: dict[str, int], vocabulary: VisualVocabulary) -> None:
    """Raises `ValueError` if text could become visual tokens, or has words after them.

    Args:
        tokenizer: The text tokenizer, maybe a stranger's.
        words: The ids that text can become, from `PlainTextEncoder.vocabulary`.
        vocabulary: Where the visual tokens lie.
    """
    visual = {*vocabulary.rows(), vocabulary.image_token_id}
    names = ("bos_token", "eos_token", "pad_token", "unk_token")
    marks = {name: id for name in names if (id := getattr(tokenizer, f"{name}_id")) is not None}
    clashes = [f"{word!r} has the id {id}" for word, id in [*words.items(), *marks.items()] if id in visual]
    if clashes:
        raise ValueError(
            f"Text of this tokenizer can become visual tokens, which must come from images alone: {clashes[0]} "
            f"({len(clashes)} such in all). Take the text tokenizer that the language model was extended with."
        )
    last = max(vocabulary.rows())
    added = tokenizer.added_tokens_decoder.items()
    late = [token.content for id, token in added if id > last and id not in visual and not token.special]
    if late:
        raise ValueError(f"The text tokenizer has {', '.join(late[:5])} after the visual tokens. {HOW_TO_ADD_WORDS}")


def texts_of(given: str | Iterable[str], noun: str) -> list[str]:
    """One text, or several, as a list.

    Args:
        given: What a caller calls texts.
        noun: What they are, for the message.

    Raises:
        TypeError: Something else among them, such as the missing value of a table; or something whose parts are no
            texts in an order: a batch or table by its columns, a set.
        ValueError: Half a character (a lone surrogate), as broken JSON has it, which no tokenizer takes.
    """
    if isinstance(given, str):  # numpy's, too
        given = [given]
    if isinstance(given, (Mapping, Set)) or hasattr(given, "columns") or getattr(given, "ndim", 1) != 1:
        raise TypeError(f"{noun}s are a text or a list of texts, got {type(given).__name__}: give one column of it.")
    texts = list(given) if isinstance(given, Iterable) else [given]
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"{noun} {number} must be a text, got {text!r:.80}.")
        if _HALF_A_CHARACTER.search(text):
            raise ValueError(f"{noun} {number} has half a character in it, which is no text: {text!r:.80}.")
    return texts


__all__ = ["HOW_TO_ADD_WORDS", "PlainTextEncoder", "check_text_ids", "plain_text_encoder", "texts_of"]
