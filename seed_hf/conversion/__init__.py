"""Converts the authors' checkpoints: by name, with a report of every key and a comparison of results."""

from .artifact import Conversion
from .checkpoint_files import Checkpoint, read_checkpoint
from .original import convert_checkpoint, convert_original_tokenizer
from .parity import Parity, compare_tokenizer
from .report import ConversionError, ConversionReport


__all__ = [
    "Checkpoint",
    "Conversion",
    "ConversionError",
    "ConversionReport",
    "Parity",
    "compare_tokenizer",
    "convert_checkpoint",
    "convert_original_tokenizer",
    "read_checkpoint",
]
