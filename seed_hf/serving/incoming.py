"""Images that come with a request, and how images leave."""

import base64
import binascii
import io
import re
from typing import TYPE_CHECKING, Any

from seed_hf.images import SeedImageError, load_image
from seed_hf.shortages import ShortageError

from .errors import RequestError
from .limits import Limits


if TYPE_CHECKING:
    from PIL import Image


def bytes_of_data_url(url: str) -> bytes:
    """The file in a data URL.

    Args:
        url: `data:image/png;base64,...`

    Raises:
        RequestError: It is no such URL.
    """
    head, comma, content = url.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise RequestError("A data URL of an image is data:image/png;base64,... with the file in base64.")
    try:
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError("The data URL of an image is not valid base64.") from error


def image_of_bytes(data: bytes, limits: Limits) -> "Image.Image":
    """The image of a file, RGB. Decoding takes seconds at most: to be called in a helper thread.

    Args:
        data: The file.
        limits: Of a request.

    Raises:
        RequestError: It is no image, or too large.
    """
    try:
        return load_image(data, name="the image", max_pixels=limits.pixels)
    except SeedImageError as error:
        raise RequestError(str(error)) from error
    except ShortageError as error:
        raise RequestError("The server is short of memory. Try again later.", 503) from error


def as_png(image: "Image.Image") -> str:
    """An image as the base64 of a PNG.

    Args:
        image: RGB.
    """
    file = io.BytesIO()
    image.save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


def parsed_size(size: str | None, pipe: Any) -> tuple[int, int] | None:
    """Width and height; `None` is what the model was trained at.

    Args:
        size: Such as "512x512", or "auto".
        pipe: The pipeline.

    Raises:
        RequestError: Another form, or a size that the model does not draw.
    """
    if size in (None, "auto"):
        return None
    usual, step = pipe.unet.config.sample_size, pipe.vae_scale_factor
    trained = (usual if isinstance(usual, int) else max(usual)) * step
    found = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", str(size))
    sides = [int(side) for side in found.groups()] if found else []
    if not sides or any(side % step or not 0 < side <= 2 * trained for side in sides):
        raise RequestError(
            f"size is WIDTHxHEIGHT in multiples of {step}, at most {2 * trained} each; this model was trained at "
            f"{trained}x{trained}. Leave it out for that.",
            param="size",
        )
    return sides[0], sides[1]


__all__ = ["as_png", "bytes_of_data_url", "image_of_bytes", "parsed_size"]
