"""The text tokenizer of a released SEED-LLaMA, such that today's libraries give the authors' ids."""

import json
import shutil
import tempfile
from pathlib import Path

from tokenizers import normalizers, processors
from transformers.tokenization_utils_base import AddedToken
from transformers.tokenization_utils_tokenizers import PreTrainedTokenizerFast

from seed_hf.files import read_json

from .report import ConversionError


BOS, EOS, UNK = "<s>", "</s>", "<unk>"
PREFIX = "\u2581"  # of a word
_INSTALL = 'pip install "seed_hf[convert]"'


def read_llama_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of `tokenizer.model` and `added_tokens.json`.

    The authors' class, transformers' slow one of 2023, strips white space around visual tokens and puts the prefix of
    a word before every piece of text. Today's class does neither when it loads their folder, and forgets the switch
    for it when it saves. So the pieces are put together here and saved as they are, in `tokenizer.json`.

    Args:
        folder: With both files, as `AILab-CVC/seed-tokenizer-2` has them.

    Raises:
        ConversionError: A file is missing or damaged, or the ids have gaps.
        ModuleNotFoundError: sentencepiece or protobuf is not installed.
    """
    model = folder / "tokenizer.model"
    for path in (model, folder / "added_tokens.json"):
        if not path.is_file():
            raise ConversionError(
                f"{path}: no such file. The released language models come without their tokenizer; give a folder with "
                "tokenizer.model and added_tokens.json, as seed-tokenizer-2 has them."
            )
    tokenizer = _plain_tokenizer(model)
    added = read_json(folder / "added_tokens.json")
    if not added or not all(type(number) is int for number in added.values()):
        raise ConversionError(f"{folder / 'added_tokens.json'}: must give each token its id, a whole number.")
    names = sorted(added, key=lambda name: added[name])
    ids = list(range(len(tokenizer), len(tokenizer) + len(names)))
    if [added[name] for name in names] != ids:
        raise ConversionError(
            f"{folder / 'added_tokens.json'}: its ids must follow the {len(tokenizer)} pieces of tokenizer.model, "
            f"{ids[0]} to {ids[-1]} without a gap. They are {added[names[0]]} to {added[names[-1]]}. The files do not "
            "belong together."
        )
    tokenizer.add_tokens(
        [AddedToken(name, lstrip=True, rstrip=True, normalized=False, special=False) for name in names]
    )
    backend = tokenizer.backend_tokenizer
    # sentencepiece puts its prefix before a text that begins with a space, too; the pre-tokenizer Metaspace does not.
    backend.normalizer = normalizers.Sequence([normalizers.Prepend(PREFIX), normalizers.Replace(" ", PREFIX)])
    backend.pre_tokenizer = None
    backend.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS}:1 $B:1", special_tokens=[(BOS, tokenizer.convert_tokens_to_ids(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=BOS, eos_token=EOS, unk_token=UNK, pad_token=UNK, padding_side="left"
    )


def _plain_tokenizer(model: Path) -> PreTrainedTokenizerFast:
    try:
        import google.protobuf  # noqa: F401 - transformers reads the file with both
        import sentencepiece
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{model} is a sentencepiece model. Install what reads it: {_INSTALL}") from error
    from transformers import LlamaTokenizer

    try:
        sentencepiece.SentencePieceProcessor(model_file=str(model))
    except (OSError, RuntimeError) as error:
        raise ConversionError(f"{model}: no readable sentencepiece model ({error}).") from error
    with tempfile.TemporaryDirectory() as alone:  # beside other files it would be read another way
        shutil.copyfile(model, Path(alone) / "tokenizer.model")
        (Path(alone) / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer"}))
        return LlamaTokenizer.from_pretrained(alone, legacy=True)
