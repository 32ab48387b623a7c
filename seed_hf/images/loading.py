"""Opens and loads users' images; every failure is one line that names the image."""

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageFile

from seed_hf.shortages import check_shortage

from .limits import MAX_MEMORY, LimitedFile, check_bytes, check_cost
from .metadata import TooCostlyError, minimal_exif, split_metadata
from .preparation import UnusableImageError, upright_rgb


FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 64_000_000
_URL = re.compile(r"^([a-z][a-z0-9+.-]+://|data:)", re.IGNORECASE)


class SeedImageError(ValueError):
    """An image that cannot be used. The message names it, says what is wrong and what to do."""


def load_image(
    source: str | os.PathLike | bytes | Image.Image, *, name: str | None = None, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Read an image in the form the models were trained on: RGB, upright, transparency on white.

    It is prepared as [`SeedImageProcessor`] prepares images. Decoding takes at most seconds and half a gigabyte:
    files that would need more are refused. Damaged metadata, such as EXIF or a colour profile, are ignored. Of an
    animation the first frame is read.

    Args:
        source: A JPEG, PNG, WebP, GIF, BMP or TIFF file, recognised by its content; the bytes of one; or a PIL image.
        name: What messages call the image; the path by default.
        max_pixels: Larger images are refused before they are decoded.

    Returns:
        An RGB `PIL.Image.Image`; the given one if it needs no change. EXIF rotation is applied; gray, palette, CMYK
        and 16-bit images are converted.

    Raises:
        SeedImageError: For URLs, missing, empty, truncated, corrupt and too large files, TIFFs of several pages, other
            formats, floating-point pixels, and files that would take too much time or memory to decode.
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
    data = source if isinstance(source, bytes) else _read(source, name)
    if not data:
        raise SeedImageError(f"{name}: the file is empty. Fetch or export the image again.")
    with _opened(data, name, max_pixels) as image:
        yield image


def _opened(data: bytes, name: str, max_pixels: int) -> ImageFile.ImageFile:
    """The image of a file, of which only the header was read and what decoding takes was counted."""
    try:
        pixels, orientation = split_metadata(data)
        check_bytes(pixels)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, about odd but readable files and its own, higher limits
            image = Image.open(LimitedFile(pixels), formats=FORMATS)
        _check_size(image, name, max_pixels)
        if orientation != 1:
            image.info["exif"] = minimal_exif(orientation)
        check_cost(image, pixels, len(pixels) if pixels is data else len(pixels) + len(data))
    except SeedImageError:
        raise
    except TooCostlyError as error:
        raise SeedImageError(f"{name}: {error}") from error
    except Image.DecompressionBombError as error:
        raise SeedImageError(_too_large(name, None, max_pixels)) from error
    except Exception as error:  # Pillow's parsers may raise anything on a hostile header, and tags may be of any type
        check_shortage(error, name)
        raise SeedImageError(
            f"{name}: not an image that can be read. Use an intact {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file."
        ) from error
    return image


def _name_of(source) -> str:
    return "the given bytes" if isinstance(source, bytes) else str(source)


def _read(source: str | os.PathLike, name: str) -> bytes:
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"An image is a path, bytes or a PIL.Image.Image, got {type(source).__name__}.")
    if _URL.match(os.fspath(source)):
        raise SeedImageError(f"{_short(name)}: URLs are not fetched. Download the image and give its path.")
    try:
        return _content(Path(source), name)
    except PermissionError as error:
        raise SeedImageError(f"{name}: no permission to read this file.") from error
    except (OSError, MemoryError) as error:  # also of a name that is too long to be looked at
        check_shortage(error, name)
        raise SeedImageError(f"{name}: cannot be read ({getattr(error, 'strerror', None) or error}).") from error


def _content(path: Path, name: str) -> bytes:
    if path.is_dir():
        raise SeedImageError(f"{name}: this is a folder. Give the image files in it, e.g. {name.rstrip('/')}/*.png.")
    if not path.exists():
        raise SeedImageError(f"{name}: no such file. Check the path.")
    if not path.is_file():
        raise SeedImageError(f"{name}: not a regular file. Give the path of an image.")
    size = path.stat().st_size
    if size > MAX_MEMORY:
        limit = f"at most {MAX_MEMORY / 1e6:.0f} are read"
        raise SeedImageError(f"{name}: a file of {size / 1e6:.0f} MB; {limit}. Scale it down first.")
    return path.read_bytes()


def _check_size(image: Image.Image, name: str, max_pixels: int) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise SeedImageError(f"{name}: the image is {width} x {height} pixels. It needs at least one.")
    if width * height > max_pixels:
        raise SeedImageError(_too_large(name, image.size, max_pixels))


def _normalise(image: Image.Image, name: str, max_pixels: int) -> Image.Image:
    _check_size(image, name, max_pixels)
    try:
        rgb = upright_rgb(image)
    except (UnusableImageError, TooCostlyError) as error:
        raise SeedImageError(f"{name}: {error}") from error
    except Exception as error:  # Pillow's decoders may raise anything, too
        check_shortage(error, name)
        raise SeedImageError(f"{name}: damaged or cut off ({error}). Fetch or export the image again.") from error
    # An opened WebP keeps its decoder, which is larger than the pixels.
    return rgb.copy() if rgb is image and image.format == "WEBP" else rgb


def _too_large(name: str, size: tuple[int, int] | None, max_pixels: int) -> str:
    given = f"{size[0]} x {size[1]} pixels" if size else "a huge image"
    return f"{name}: {given}; at most {max_pixels / 1e6:.0f} million are read. Scale it down first."


def _short(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."


__all__ = ["FORMATS", "MAX_PIXELS", "SeedImageError", "load_image", "open_image"]
