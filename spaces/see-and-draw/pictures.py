"""Pictures that visitors bring: the field for them, and how they are opened."""

import os

import gradio as gr
from gradio.utils import get_upload_folder
from PIL import Image

from limits import MINUTES, PIXELS, Refusal
from seed_hf.images import SeedImageError, load_image


GONE = f"The picture is gone: uploads are deleted after {MINUTES} minutes. Upload it again."


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
        # A client may leave out the mark of a file, and then Gradio has not looked at the path.
        return None if payload is None or not payload.path else uploaded(payload.path)


def uploaded(path: str) -> str:
    """The path of a file in Gradio's folder: an upload, an example, a drawing. Links and dots are resolved.

    Raises:
        gr.Error: It is elsewhere, or there is no such file. The message is the same, or it would tell visitors which
            files this machine has.
    """
    folder = os.path.abspath(get_upload_folder())
    real_folder = os.path.realpath(folder)
    try:
        real = os.path.realpath(path)
    except ValueError:  # a zero byte
        raise Refusal(GONE) from None
    if not real.startswith(real_folder + os.sep) or not os.path.isfile(real):
        raise Refusal(GONE)
    # Gradio keeps or deletes files by name, so each has one name only: the one that Gradio gave it.
    return folder + real[len(real_folder) :]


def read_picture(path: str | None) -> Image.Image:
    """An upright RGB picture.

    Raises:
        gr.Error: There is none, or it is broken, too large or of a kind that is not read.
    """
    if not path:
        raise Refusal("There is no picture yet. Upload one, or click one of the examples.")
    if not os.path.isfile(path):
        raise Refusal(GONE)
    try:
        return load_image(path, name="This file", max_pixels=PIXELS)
    except SeedImageError as error:
        raise Refusal(str(error)) from error
