"""Converts the authors' checkpoints: by name, with a report of every key and a comparison of results."""

from .artifact import Conversion
from .checkpoint_files import Checkpoint, read_checkpoint
from .language_parity import compare_language_model
from .original import convert_checkpoint, convert_original_tokenizer
from .parity import Parity, compare_tokenizer
from .report import ConversionError, ConversionReport
from .seed_llama import SeedLlamaConversion, SeedLlamaReport


__all__ = [
    "Checkpoint",
    "Conversion",
    "ConversionError",
    "ConversionReport",
    "Parity",
    "SeedLlamaConversion",
    "SeedLlamaReport",
    "compare_language_model",
    "compare_tokenizer",
    "convert_checkpoint",
    "convert_original_tokenizer",
    "read_checkpoint",
]
