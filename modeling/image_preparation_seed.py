"""Any image to upright RGB of 8 bits a channel with transparency on white: the one preparation of images.

[`SeedImageProcessor`], the command line, jobs and the Space all use it: an image gives the same codes on any way in.
It needs only Pillow and numpy: the processes that decode images for jobs import neither torch nor transformers.
"""

from collections.abc import Iterator

import numpy as np
from PIL import Image


_SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I")
_ORIENTATION, _BITS, _PHOTOMETRIC = 0x0112, 0x0102, 0x0106  # tags of EXIF and TIFF
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_METADATA = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")  # where Pillow finds an orientation
_PIXELS_AT_ONCE = 1 << 20  # conversions with copies go strip by strip, so that large images need little memory


class UnusableImageError(ValueError):
    """A sound image that the models cannot read."""


def upright_rgb(image: Image.Image) -> Image.Image:
    """An image as people see it: RGB, turned as its EXIF says, transparency on white.

    All modes of Pillow but floating point are read. 16 bits a channel become 8. Of an animation this is the current
    frame, which is the first of a file just opened. Metadata that cannot be read is ignored.

    Args:
        image: Opened or in memory; it is not changed, except that its pixels are loaded.

    Returns:
        The given image if there is nothing to convert, else a new one.

    Raises:
        UnusableImageError: No pixels, floating-point pixels, more than 16 bits a channel, or a TIFF of several pages
            of which none was chosen by `seek`.
    """
    if not image.width or not image.height:
        raise UnusableImageError(f"no pixels: {image.width} x {image.height}.")
    if image.mode == "F":
        raise UnusableImageError("floating-point pixels have no fixed white. Save it with 8 or 16 bits a channel.")
    if image.format == "TIFF" and getattr(image, "is_animated", False) and image.tell() == 0:
        raise UnusableImageError("several pages. Save the one you want as a separate image.")
    _load(image)
    turn = _TURNS.get(_orientation(image))
    rgb = _rgb(image)
    if turn is not None:
        rgb = rgb.transpose(turn)
        for key in _METADATA:  # a second preparation must not turn it again
            rgb.info.pop(key, None)
    return rgb


def _load(image: Image.Image) -> None:
    """As `load`, but an uncompressed TIFF is not mapped into memory, because Pillow then turns it wrongly."""
    name = getattr(image, "filename", None)
    if image.format != "TIFF" or not name:
        image.load()
        return
    image.filename = ""  # type: ignore[attr-defined]
    try:
        image.load()
    finally:
        image.filename = name  # type: ignore[attr-defined]


def eight_bit_levels(values: np.ndarray) -> np.ndarray:
    """Pixel values of any number type as uint8, by one rule.

    - uint8 stays as it is; bool becomes 0 and 255; uint16 is scaled from 0..65535; other integers count as 0..255.
    - Floating point is taken as 0..1 if no value exceeds 1, else as 0..255, and rounded.

    Args:
        values: Of one image, in any shape.

    Raises:
        ValueError: Values outside these ranges, NaN or infinity, or no pixels at all.
        TypeError: Not numbers.
    """
    if values.size == 0:
        raise ValueError(f"an image needs at least one pixel, got shape {values.shape}.")
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype.kind not in "uif":
        raise TypeError(f"pixels must be numbers, got {values.dtype}.")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("the pixels hold NaN or infinite values.")
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:  # of either byte order
        return _scaled_to_eight_bits(values)
    low, high = values.min(), values.max()
    if low < 0 or high > 255:
        raise ValueError(
            f"pixels of type {values.dtype} must lie in 0..255"
            f"{', or in 0..1' if values.dtype.kind == 'f' else '; 16 bits a channel are uint16'}, got {low}..{high}."
        )
    if values.dtype.kind != "f":
        return values.astype(np.uint8)
    return np.rint(values.astype(np.float64) * (255 if high <= 1 else 1)).astype(np.uint8)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in _SIXTEEN_BIT_MODES:
        return _sixteen_bits(image).convert("RGB")
    if image.mode == "La":  # Pillow does not convert it to RGBA at once
        image = image.convert("LA")
    if image.has_transparency_data:
        return _on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _sixteen_bits(image: Image.Image) -> Image.Image:
    """Gray values 0..65535 as 8 bits; a transparent value is white. Pillow reads TIFFs as they are stored: perhaps
    with 12 bits, or with 0 for white."""
    clear = image.info.get("transparency")
    tags = getattr(image, "tag_v2", {})
    white, zero_is_white = 2 ** min(16, *tags.get(_BITS, (16,))) - 1, tags.get(_PHOTOMETRIC) == 0
    gray = Image.new("L", image.size)
    for top, strip in _strips(image):
        values = np.asarray(strip)
        if values.min() < 0 or values.max() > white:
            raise UnusableImageError("more than 16 bits a channel. Save it with 8 or 16 bits.")
        levels = _scaled_to_eight_bits(values, white)
        if zero_is_white:
            levels = 255 - levels
        if isinstance(clear, int):
            levels = np.where(values == clear, np.uint8(255), levels)
        gray.paste(Image.fromarray(levels), (0, top))
    return gray


def _scaled_to_eight_bits(values: np.ndarray, white: int = 65535) -> np.ndarray:
    return ((values.astype(np.uint32) * 255 + white // 2) // white).astype(np.uint8)


def _on_white(image: Image.Image) -> Image.Image:
    rgb = Image.new("RGB", image.size)
    for top, strip in _strips(image):
        strip = strip.convert("RGBA")
        white = Image.new("RGBA", strip.size, "white")
        rgb.paste(Image.alpha_composite(white, strip).convert("RGB"), (0, top))
    return rgb


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """The image in strips of whole rows, each with the row at which it begins."""
    width, height = image.size
    rows = max(1, _PIXELS_AT_ONCE // width)
    if rows >= height:
        yield 0, image
        return
    for top in range(0, height, rows):
        yield top, image.crop((0, top, width, min(top + rows, height)))


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except MemoryError:
        raise
    except Exception:  # damaged metadata: Pillow may raise anything
        return 1


__all__ = ["UnusableImageError", "eight_bit_levels", "upright_rgb"]
