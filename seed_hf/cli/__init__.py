"""The command line `seed-hf`."""

from .app import main


__all__ = ["main"]
