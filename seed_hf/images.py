"""One way to read a picture from a person: any common file in, an upright RGB picture on white out."""

import io
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps


FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 64_000_000
_SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I")
_URL = re.compile(r"^([a-z][a-z0-9+.-]+://|data:)", re.IGNORECASE)


class SeedImageError(ValueError):
    """A picture that cannot be used. The message names it, says what is wrong and what to do about it."""


def load_image(
    source: str | os.PathLike | bytes | Image.Image, *, name: str | None = None, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Reads a picture and makes it what the models were trained on: RGB, upright, transparency on white.

    Args:
        source: A file (JPEG, PNG, WebP, GIF, BMP or TIFF, recognised by content, not by name), the bytes of one, or a
            PIL picture.
        name: What messages call the picture; by default the path.
        max_pixels: Larger pictures are refused before they are decoded.

    Returns:
        An RGB `PIL.Image.Image`. EXIF rotation is applied; gray, palette, CMYK and 16-bit pictures are converted.

    Raises:
        SeedImageError: For URLs, missing, empty, truncated, corrupt, too large, animated or multi-page files, other
            formats, and floating-point pixels.
        TypeError: If `source` is neither a path nor bytes nor a PIL picture.
    """
    if isinstance(source, Image.Image):
        return _normalise(source, name or "the given picture", max_pixels)
    with open_image(source, name=name, max_pixels=max_pixels) as image:
        return _normalise(image, name or _name_of(source), max_pixels)


@contextmanager
def open_image(
    source: str | os.PathLike | bytes, *, name: str | None = None, max_pixels: int = MAX_PIXELS
) -> Iterator[Image.Image]:
    """The picture with its header read and its pixels not: enough to know its size. `load_image` reads the rest.

    Args and errors are those of `load_image`, as far as a header shows them.
    """
    name = name or _name_of(source)
    if isinstance(source, bytes):
        if not source:
            raise SeedImageError(f"{name}: the file is empty. Fetch or export the picture again.")
        file: io.BytesIO | Path = io.BytesIO(source)
    else:
        file = _existing_file(source, name)
    try:
        with warnings.catch_warnings():
            # Our own limit is the lower one; Pillow would warn about the same pictures in its own words.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise SeedImageError(_too_large(name, None, max_pixels)) from error
    except PermissionError as error:
        raise SeedImageError(f"{name}: no permission to read this file.") from error
    except Exception as error:  # Pillow's parsers raise almost anything on a hostile header.
        raise SeedImageError(
            f"{name}: not a picture that can be read. Use an intact {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file."
        ) from error
    with image:
        _check_size(image, name, max_pixels)
        yield image


def _name_of(source) -> str:
    return "the given bytes" if isinstance(source, bytes) else str(source)


def _existing_file(source: str | os.PathLike, name: str) -> Path:
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"A picture is a path, bytes or a PIL.Image.Image, got {type(source).__name__}.")
    if _URL.match(os.fspath(source)):
        raise SeedImageError(f"{_short(name)}: URLs are not fetched. Download the picture and give its path.")
    path = Path(source)
    if path.is_dir():
        raise SeedImageError(f"{name}: this is a folder. Give the picture files in it, e.g. {name.rstrip('/')}/*.png.")
    if not path.exists():
        raise SeedImageError(f"{name}: no such file. Check the path.")
    if not path.is_file():
        raise SeedImageError(f"{name}: not a regular file. Give the path of a picture.")
    if path.stat().st_size == 0:
        raise SeedImageError(f"{name}: the file is empty. Fetch or export the picture again.")
    return path


def _check_size(image: Image.Image, name: str, max_pixels: int) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise SeedImageError(f"{name}: the picture is {width} x {height} pixels. It needs at least one.")
    if width * height > max_pixels:
        raise SeedImageError(_too_large(name, image.size, max_pixels))


def _normalise(image: Image.Image, name: str, max_pixels: int) -> Image.Image:
    _check_size(image, name, max_pixels)
    try:
        # A phone's JPEG may carry a preview as a second picture (MPO); only the first is meant to be looked at.
        frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        if frames > 1:
            raise SeedImageError(f"{name}: {frames} frames or pages. Save the one you want as a picture of its own.")
        image.load()
        return _to_rgb(ImageOps.exif_transpose(image), name)
    except SeedImageError:
        raise
    except Exception as error:  # as above, now from the decoders
        raise SeedImageError(f"{name}: damaged or cut off ({error}). Fetch or export the picture again.") from error


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "F":
        raise SeedImageError(
            f"{name}: floating-point pixels have no fixed white. Save it with 8 or 16 bits a channel."
        )
    if image.mode in _SIXTEEN_BIT_MODES:
        image = _sixteen_to_eight_bits(image, name)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _sixteen_to_eight_bits(image: Image.Image, name: str) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise SeedImageError(f"{name}: more than 16 bits a channel. Save it with 8 or 16 bits.")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8), mode="L")


def _too_large(name: str, size: tuple[int, int] | None, max_pixels: int) -> str:
    given = f"{size[0]} x {size[1]} pixels" if size else "a huge picture"
    return f"{name}: {given}; at most {max_pixels / 1e6:.0f} million are read. Scale it down first."


def _short(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."


__all__ = ["FORMATS", "MAX_PIXELS", "SeedImageError", "load_image", "open_image"]
