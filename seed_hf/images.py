"""Reads users' images: any common file in, an upright RGB image on white out."""

import io
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from seed_hf.shortages import check_shortage


FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 64_000_000
_SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I")
_URL = re.compile(r"^([a-z][a-z0-9+.-]+://|data:)", re.IGNORECASE)


class SeedImageError(ValueError):
    """An image that cannot be used. The message names it, says what is wrong and what to do."""


def load_image(
    source: str | os.PathLike | bytes | Image.Image, *, name: str | None = None, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Read an image in the form the models were trained on: RGB, upright, transparency on white.

    Args:
        source: A JPEG, PNG, WebP, GIF, BMP or TIFF file, recognised by its content; the bytes of one; or a PIL image.
        name: What messages call the image; the path by default.
        max_pixels: Larger images are refused before they are decoded.

    Returns:
        An RGB `PIL.Image.Image`. EXIF rotation is applied; gray, palette, CMYK and 16-bit images are converted.

    Raises:
        SeedImageError: For URLs, missing, empty, truncated, corrupt, too large, animated or multi-page files, other
            formats, and floating-point pixels.
        ShortageError: If memory or open files ran out, or the disk failed: the image may be sound.
        TypeError: If `source` is neither a path nor bytes nor a PIL image.
    """
    if isinstance(source, Image.Image):
        return _normalise(source, name or "the given image", max_pixels)
    with open_image(source, name=name, max_pixels=max_pixels) as image:
        return _normalise(image, name or _name_of(source), max_pixels)


@contextmanager
def open_image(
    source: str | os.PathLike | bytes, *, name: str | None = None, max_pixels: int = MAX_PIXELS
) -> Iterator[Image.Image]:
    """Open an image and read only its header, which tells its size.

    Args:
        source: A file or the bytes of one, as in [`load_image`].
        name, max_pixels: As in [`load_image`].

    Raises:
        SeedImageError, ShortageError: As in [`load_image`], as far as the header shows it.
        TypeError: If `source` is neither a path nor bytes.
    """
    name = name or _name_of(source)
    if isinstance(source, bytes):
        if not source:
            raise SeedImageError(f"{name}: the file is empty. Fetch or export the image again.")
        file: io.BytesIO | Path = io.BytesIO(source)
    else:
        file = _existing_file(source, name)
    try:
        with warnings.catch_warnings():
            # Our own limit is lower; Pillow would warn about the same images.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise SeedImageError(_too_large(name, None, max_pixels)) from error
    except PermissionError as error:
        raise SeedImageError(f"{name}: no permission to read this file.") from error
    except Exception as error:  # Pillow's parsers may raise anything on a hostile header
        check_shortage(error, name)
        raise SeedImageError(
            f"{name}: not an image that can be read. Use an intact {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file."
        ) from error
    with image:
        _check_size(image, name, max_pixels)
        yield image


def _name_of(source) -> str:
    return "the given bytes" if isinstance(source, bytes) else str(source)


def _existing_file(source: str | os.PathLike, name: str) -> Path:
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"An image is a path, bytes or a PIL.Image.Image, got {type(source).__name__}.")
    if _URL.match(os.fspath(source)):
        raise SeedImageError(f"{_short(name)}: URLs are not fetched. Download the image and give its path.")
    path = Path(source)
    if path.is_dir():
        raise SeedImageError(f"{name}: this is a folder. Give the image files in it, e.g. {name.rstrip('/')}/*.png.")
    if not path.exists():
        raise SeedImageError(f"{name}: no such file. Check the path.")
    if not path.is_file():
        raise SeedImageError(f"{name}: not a regular file. Give the path of an image.")
    if path.stat().st_size == 0:
        raise SeedImageError(f"{name}: the file is empty. Fetch or export the image again.")
    return path


def _check_size(image: Image.Image, name: str, max_pixels: int) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise SeedImageError(f"{name}: the image is {width} x {height} pixels. It needs at least one.")
    if width * height > max_pixels:
        raise SeedImageError(_too_large(name, image.size, max_pixels))


def _normalise(image: Image.Image, name: str, max_pixels: int) -> Image.Image:
    _check_size(image, name, max_pixels)
    try:
        # A phone's JPEG may hold a preview as a second image (MPO); only the first one counts.
        frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        if frames > 1:
            raise SeedImageError(f"{name}: {frames} frames or pages. Save the one you want as a separate image.")
        image.load()
        return _to_rgb(ImageOps.exif_transpose(image), name)
    except SeedImageError:
        raise
    except Exception as error:  # Pillow's decoders may raise anything, too
        check_shortage(error, name)
        raise SeedImageError(f"{name}: damaged or cut off ({error}). Fetch or export the image again.") from error


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
    given = f"{size[0]} x {size[1]} pixels" if size else "a huge image"
    return f"{name}: {given}; at most {max_pixels / 1e6:.0f} million are read. Scale it down first."


def _short(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."


__all__ = ["FORMATS", "MAX_PIXELS", "SeedImageError", "load_image", "open_image"]
