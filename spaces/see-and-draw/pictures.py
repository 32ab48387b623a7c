"""Pictures that visitors bring: the field for them, and how they are opened."""

import os

import gradio as gr
from PIL import Image

from limits import MINUTES, PIXELS, Refusal
from seed_hf.images import SeedImageError, load_image


class PictureField(gr.Image):
    """A `gr.Image` that hands on the uploaded file unopened.

    Gradio would decode whatever was sent before any limit of ours is asked, and would fail on it in words of its own.
    """

    is_template = True  # the page shows it as what it is derived from

    def __init__(self, **settings):
        super().__init__(type="filepath", sources=["upload", "clipboard"], buttons=[], **settings)

    def get_config(self, cls=None) -> dict:
        return super().get_config(cls or gr.Image)  # the settings of the constructor that the page knows

    def preprocess(self, payload) -> str | None:
        return None if payload is None else payload.path


def read_picture(path: str | None) -> Image.Image:
    """An upright RGB picture.

    Raises:
        gr.Error: There is none, or it is broken, too large or of a kind that is not read.
    """
    if not path:
        raise Refusal("There is no picture yet. Upload one, or click one of the examples.")
    if not os.path.isfile(path):
        raise Refusal(f"The picture is gone: uploads are deleted after {MINUTES} minutes. Upload it again.")
    try:
        return load_image(path, name="This file", max_pixels=PIXELS)
    except SeedImageError as error:
        raise Refusal(str(error)) from error
