"""Writes text, images and codes on a sheet."""

import colorsys
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont


INK, FAINT, PAPER, LINE = (28, 28, 32), (120, 120, 128), (252, 252, 250), (222, 222, 218)


class Pen:
    """Draws on a sheet. What it writes returns the y of what comes next.

    Args:
        sheet: The image to draw on.
    """

    def __init__(self, sheet: Image.Image):
        self.sheet, self.draw = sheet, ImageDraw.Draw(sheet)

    def text(self, x: int, y: int, text: str, size: int, ink=INK) -> int:
        """Write one line.

        Args:
            x, y: Its left upper corner.
            text: The line.
            size: Of the font, in pixels.
            ink: RGB.
        """
        self.draw.text((x, y), text, fill=ink, font=ImageFont.load_default(size))
        return y + round(size * 1.3)

    def wrapped(self, x: int, y: int, text: str, size: int, width: int, ink=INK, lines: int | None = None) -> int:
        """Write text that is broken between words.

        Args:
            x, y, text, size, ink: As for [`Pen.text`].
            width: Of the lines, in pixels.
            lines: The most lines; the rest is left out, with dots. `None`: all.
        """
        font = ImageFont.load_default(size)
        broken: list[str] = []
        for word in text.split():
            longer = f"{broken[-1]} {word}" if broken else word
            if broken and font.getlength(longer) <= width:
                broken[-1] = longer
            else:
                broken.append(word)
        if lines is not None and len(broken) > lines:
            broken = [*broken[: lines - 1], f"{broken[lines - 1]} .."]
        for line in broken:
            y = self.text(x, y, line, size, ink)
        return y

    def image(self, image: Image.Image, x: int, y: int, side: int) -> None:
        """Paste an image as a square.

        Args:
            image: Of any size.
            x, y: Its left upper corner.
            side: Of the square, in pixels.
        """
        self.sheet.paste(image.convert("RGB").resize((side, side), Image.Resampling.LANCZOS), (x, y))
        self.draw.rectangle((x, y, x + side - 1, y + side - 1), outline=LINE)

    def frame(self, x: int, y: int, side: int, colour: tuple[int, int, int]) -> None:
        """Put a coloured frame on a square.

        Args:
            x, y: Its left upper corner.
            side: Of the square, in pixels.
            colour: RGB.
        """
        self.draw.rectangle((x - 2, y - 2, x + side + 1, y + side + 1), outline=colour, width=5)

    def label(self, x: int, y: int, text: str, size: int, ground: tuple[int, int, int]) -> int:
        """Write a few words on a coloured ground, half as high again as the font, and return where it ends.

        Args:
            x, y: Left upper corner of the ground.
            text: The words.
            size: Of the font, in pixels.
            ground: RGB.
        """
        font = ImageFont.load_default(size)
        end = x + round(font.getlength(text)) + size
        self.draw.rounded_rectangle((x, y, end, y + round(size * 1.5)), size // 3, fill=ground)
        self.draw.text((x + size // 2, y + size // 5), text, fill=INK, font=font)
        return end

    def codes(self, codes: Sequence[int], x: int, y: int, width: int) -> None:
        """Draw codes as a strip of coloured cells, 11 pixels high; equal codes have equal colours.

        Args:
            codes: Of an image.
            x, y: Left upper corner of the strip.
            width: Of the strip, in pixels.
        """
        for i, code in enumerate(codes):
            hue = (code * 0.61803398875) % 1
            rgb = tuple(round(255 * v) for v in colorsys.hls_to_rgb(hue, 0.55, 0.6))
            left, right = x + i * width // len(codes), x + (i + 1) * width // len(codes)
            self.draw.rectangle((left, y, right - 1, y + 10), fill=rgb)

    def line(self, left: int, y: int, right: int) -> None:
        """Draw a horizontal line.

        Args:
            left, right: Its ends.
            y: Its height.
        """
        self.draw.line((left, y, right, y), fill=LINE)
