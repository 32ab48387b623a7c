"""`make demo`: draw twelve prompts, see eight images."""

from .see_and_draw import demo_pictures, demo_prompts, run_demo


__all__ = ["demo_pictures", "demo_prompts", "run_demo"]
