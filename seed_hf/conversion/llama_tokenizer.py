"""The text tokenizer of a released SEED-LLaMA, such that today's libraries give the authors' ids."""

from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, processors
from transformers.tokenization_utils_base import AddedToken
from transformers.tokenization_utils_tokenizers import PreTrainedTokenizerFast

from seed_hf.extras import how_to_install
from seed_hf.files import read_json

from .report import ConversionError


BOS, EOS, UNK = "<s>", "</s>", "<unk>"
PREFIX = "\u2581"  # of a word
# White space in every place, bytes without a piece, characters with other forms.
_ODD_TEXTS = ("a b", " a", "a  b ", "  ", " \t\r\n a", "▁a", "☂ 日本語", "e\u0301 ﬁ ① Ａ", "USER: 12 345\u00a0km")


def read_llama_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of `tokenizer.model` and `added_tokens.json`.

    The authors' class, transformers' slow one of 2023, strips white space around visual tokens, puts the prefix of a
    word before every piece of text, and leaves the rest to sentencepiece. Today's class does neither when it loads
    their folder, and merges runs of spaces before words. So the tokenizer is put together here from the pieces and
    their scores, compared with sentencepiece, and saved as it is, in `tokenizer.json`.

    Args:
        folder: With both files, as `AILab-CVC/seed-tokenizer-2` has them.

    Raises:
        ConversionError: A file is missing or damaged, the ids have gaps, or sentencepiece gives other ids.
        ModuleNotFoundError: sentencepiece or protobuf is not installed.
    """
    model = folder / "tokenizer.model"
    for path in (model, folder / "added_tokens.json"):
        if not path.is_file():
            raise ConversionError(
                f"{path}: no such file. The released language models come without their tokenizer; give a folder with "
                "tokenizer.model and added_tokens.json, as seed-tokenizer-2 has them."
            )
    backend = _plain_tokenizer(model)
    pieces = backend.get_vocab_size()
    added = read_json(folder / "added_tokens.json")
    if not added or not all(type(number) is int for number in added.values()):
        raise ConversionError(f"{folder / 'added_tokens.json'}: must give each token its id, a whole number.")
    # Later versions of the library name the special tokens of tokenizer.model here, too.
    names = [name for name in sorted(added, key=lambda name: added[name]) if backend.token_to_id(name) != added[name]]
    for id, name in enumerate(names, start=pieces):
        if added[name] != id:
            raise ConversionError(
                f"{folder / 'added_tokens.json'}: its ids must follow the {pieces} pieces of tokenizer.model without "
                f"a gap, but {name} has {added[name]} where {id} is the next. The files do not belong together."
            )
    backend.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in (UNK, BOS, EOS)])
    backend.add_tokens([AddedToken(name, lstrip=True, rstrip=True, normalized=False) for name in names])
    backend.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS}:1 $B:1", special_tokens=[(BOS, backend.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=BOS, eos_token=EOS, unk_token=UNK, pad_token=UNK, padding_side="left"
    )


def _plain_tokenizer(model: Path) -> Tokenizer:
    """The pieces of a sentencepiece model, without its special tokens."""
    try:
        import google.protobuf  # noqa: F401 - sentencepiece's message below needs it
        import sentencepiece
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{model} is a sentencepiece model. Install what reads it: {how_to_install('convert')}."
        ) from error
    from sentencepiece import sentencepiece_model_pb2

    try:
        pieces = sentencepiece.SentencePieceProcessor(model_file=str(model))
        message = sentencepiece_model_pb2.ModelProto  # type: ignore[attr-defined] # made when it is imported
        spaces = message.FromString(model.read_bytes()).normalizer_spec
    except (OSError, RuntimeError) as error:
        raise ConversionError(f"{model}: no readable sentencepiece model ({error}).") from error
    vocab = {pieces.id_to_piece(id): id for id in range(len(pieces))}
    if lacking := [name for name in (BOS, EOS, UNK) if name not in vocab]:
        raise ConversionError(f"{model}: has no {', '.join(lacking)}, which the prompts of a SEED-LLaMA need.")
    reserved = (pieces.is_control, pieces.is_unknown, pieces.is_byte)
    words = {name: id for name, id in vocab.items() if not any(kind(id) for kind in reserved)}
    scores = {name: pieces.get_score(id) for name, id in words.items()}
    backend = Tokenizer(models.BPE(vocab, _merges(scores), fuse_unk=True, byte_fallback=True))
    before: list[normalizers.Normalizer] = []
    if spaces.remove_extra_whitespaces:
        before += [normalizers.Replace(Regex(r"\A +| +\z"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    if spaces.add_dummy_prefix:
        before.append(normalizers.Prepend(PREFIX))
    backend.normalizer = normalizers.Sequence([*before, normalizers.Replace(" ", PREFIX)])
    after = [decoders.Replace(PREFIX, " "), decoders.ByteFallback(), decoders.Fuse()]
    after += [decoders.Strip(content=" ", left=1)] if spaces.add_dummy_prefix else []
    backend.decoder = decoders.Sequence(after)
    _check_ids(model, backend, pieces, [name.replace(PREFIX, " ") for name in words])
    return backend


def _merges(scores: dict[str, float]) -> list[tuple[str, str]]:
    """What sentencepiece merges, best first: by the score of the piece, and among equals from the left."""
    found = []
    for piece, score in scores.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in scores and right in scores:
                found.append((score, cut, left, right))
    return [(left, right) for *_, left, right in sorted(found, key=lambda each: each[:2], reverse=True)]


def _check_ids(model: Path, backend: Tokenizer, pieces, words: list[str]) -> None:
    """Raises `ConversionError` unless sentencepiece gives the same ids, for all words and for odd texts."""
    lines = [" ".join(words[start : start + 50]) for start in range(0, len(words), 50)]
    for text in (*_ODD_TEXTS, *lines):
        ours, theirs = backend.encode(text).ids, pieces.encode(text)
        if ours != theirs:
            raise ConversionError(
                f"{model}: sentencepiece gives {text[:40]!r} the ids {theirs[:8]}, the tokenizers library can only "
                f"give it {ours[:8]}. A SEED-LLaMA has LLaMA's model: BPE with byte fallback, which changes no "
                "character. This is one of another kind."
            )
