"""`make demo`: draw twelve prompts, see eight images."""

from .see_and_draw import run_demo


__all__ = ["run_demo"]
