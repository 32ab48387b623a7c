"""`make demo`: see eight images, draw eight prompts."""

from .see_and_draw import run_demo


__all__ = ["run_demo"]
