"""Original checkpoints into our artifacts: conversion by name, a report of every key, and proof of equal numbers."""

from .checkpoint_files import Checkpoint, read_checkpoint
from .original import convert_checkpoint, convert_original_tokenizer

from .report import ConversionError, ConversionReport


__all__ = [
    "Checkpoint",
    "ConversionError",
    "ConversionReport",


    "convert_checkpoint",
    "convert_original_tokenizer",
    "read_checkpoint",
]
