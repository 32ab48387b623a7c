"""Images of visitors: the field to upload them, and opening them."""

import os

import gradio as gr
from gradio.utils import get_upload_folder
from PIL import Image

from limits import MINUTES, PIXELS, Refusal
from seed_hf.images import SeedImageError, load_image


GONE = f"The image is gone: uploads are deleted after {MINUTES} minutes. Upload it again."


class ImageField(gr.Image):
    """A `gr.Image` that passes the uploaded file on without opening it.

    Gradio would decode any file before our limits are checked, and its errors would not say what to do.
    """

    is_template = True  # the page shows it as a gr.Image

    def __init__(self, **settings):
        super().__init__(type="filepath", sources=["upload", "clipboard"], buttons=[], **settings)

    def get_config(self, cls=None) -> dict:
        return super().get_config(cls or gr.Image)  # only the settings that the page knows

    def preprocess(self, payload) -> str | None:
        # A client may leave out the mark of a file; Gradio has not checked the path then.
        return None if payload is None or not payload.path else uploaded(payload.path)


def uploaded(path: str) -> str:
    """The path of a file in Gradio's folder: an upload, an example or a drawing. Links and dots are resolved.

    Raises:
        gr.Error: It is elsewhere, or there is no such file. The message is the same in both cases, so that visitors
            cannot find out which files this machine has.
    """
    folder = os.path.abspath(get_upload_folder())
    real_folder = os.path.realpath(folder)
    try:
        real = os.path.realpath(path)
    except ValueError:  # a zero byte
        raise Refusal(GONE) from None
    if not real.startswith(real_folder + os.sep) or not os.path.isfile(real):
        raise Refusal(GONE)
    # Gradio keeps and deletes files by name, so each is known by one name only: the one that Gradio gave it.
    return folder + real[len(real_folder) :]


def read_image(path: str | None) -> Image.Image:
    """An uploaded file as an upright RGB image.

    Raises:
        gr.Error: There is none, or it is damaged, too large, or of an unknown format.
    """
    if not path:
        raise Refusal("There is no image yet. Upload one, or click one of the examples.")
    if not os.path.isfile(path):
        raise Refusal(GONE)
    try:
        return load_image(path, name="This file", max_pixels=PIXELS)
    except SeedImageError as error:
        raise Refusal(str(error)) from error
