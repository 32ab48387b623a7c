"""The contact sheet of the demo: what the model saw above, what it drew below."""

import colorsys
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont


CELL, GAP, MARGIN = 150, 14, 28
INK, FAINT, PAPER, LINE = (28, 28, 32), (120, 120, 128), (252, 252, 250), (222, 222, 218)


def contact_sheet(
    result: dict, images: Sequence[Image.Image], again: Sequence[Image.Image], drawn: Sequence[Image.Image]
) -> Image.Image:
    """One image of the demo's result.

    Args:
        result: What `run_demo` returns.
        images, again: The images and their reconstructions from codes, one of each per row of `result["pictures"]`.
        drawn: The drawings, one per row of `result["prompts"]`.
    """
    columns = 4
    width = 2 * MARGIN + columns * (2 * CELL + 4) + (columns - 1) * GAP
    sheet = Image.new("RGB", (width, 2400), PAPER)
    pen = _Pen(sheet)
    y = pen.text(MARGIN, MARGIN, "seed-tiny sees and draws", 30)
    note = (
        "A small model of icon-like pictures. SEE: each picture, beside it what the model paints from its 32 codes "
        "alone; the strip shows the codes."
    )
    y = pen.wrapped(MARGIN, y + 4, note, 15, width - 2 * MARGIN, FAINT) + 16
    step = 2 * CELL + 4 + GAP
    for top in range(0, len(images), columns):
        bottoms = []
        for column in range(min(columns, len(images) - top)):
            index, x = top + column, MARGIN + column * step
            bottoms.append(_seen(pen, x, y, result["pictures"][index], images[index], again[index]))
        y = max(bottoms) + 22
    pen.line(MARGIN, y, width - MARGIN)
    y = pen.text(MARGIN, y + 16, "DRAW: prompt to 32 codes to picture", 20) + 10
    side = (width - 2 * MARGIN - 7 * GAP) // 8
    bottoms = []
    for column, (row, image) in enumerate(zip(result["prompts"], drawn)):
        x = MARGIN + (column % 8) * (side + GAP)
        pen.image(image, x, y, side)
        _strip(pen, row["codes"], x, y + side + 4, side)
        bottom = pen.wrapped(x, y + side + 20, row["prompt"], 14, side)
        bottoms.append(pen.wrapped(x, bottom, "(a new combination)", 13, side, FAINT) if row["new"] else bottom)
    y = max(bottoms) + 10
    return sheet.crop((0, 0, width, y + MARGIN))


def _seen(pen: "_Pen", x: int, y: int, row: dict, image: Image.Image, again: Image.Image) -> int:
    width = 2 * CELL + 4
    pen.image(image, x, y, CELL)
    pen.image(again, x + CELL + 4, y, CELL)
    y += CELL + 4
    _strip(pen, row["codes"], x, y, width)
    y = pen.wrapped(x, y + 16, f"says: {row['model_caption']}", 15, width)
    y = pen.wrapped(x, y, f"is: {row['caption']}", 13, width, FAINT)
    y = pen.wrapped(x, y + 3, f"{row['question']} {row['model_answer']}", 14, width)
    return pen.wrapped(x, y, row["novelty"], 13, width, FAINT)


def _strip(pen: "_Pen", codes: Sequence[int], x: int, y: int, width: int) -> None:
    """The codes as coloured cells; equal codes have equal colours."""
    for i, code in enumerate(codes):
        hue = (code * 0.61803398875) % 1
        rgb = tuple(round(255 * v) for v in colorsys.hls_to_rgb(hue, 0.55, 0.6))
        left, right = x + i * width // len(codes), x + (i + 1) * width // len(codes)
        pen.draw.rectangle((left, y, right - 1, y + 10), fill=rgb)


class _Pen:
    def __init__(self, sheet: Image.Image):
        self.sheet, self.draw = sheet, ImageDraw.Draw(sheet)

    def text(self, x: int, y: int, text: str, size: int, ink=INK) -> int:
        """Write one line; returns the y of the next one."""
        self.draw.text((x, y), text, fill=ink, font=ImageFont.load_default(size))
        return y + round(size * 1.3)

    def wrapped(self, x: int, y: int, text: str, size: int, width: int, ink=INK) -> int:
        font, line = ImageFont.load_default(size), ""
        for word in text.split():
            longer = f"{line} {word}".strip()
            if line and font.getlength(longer) > width:
                y = self.text(x, y, line, size, ink)
                longer = word
            line = longer
        return self.text(x, y, line, size, ink) if line else y

    def image(self, image: Image.Image, x: int, y: int, side: int) -> None:
        self.sheet.paste(image.convert("RGB").resize((side, side), Image.Resampling.LANCZOS), (x, y))
        self.draw.rectangle((x, y, x + side - 1, y + side - 1), outline=LINE)

    def line(self, left: int, y: int, right: int) -> None:
        self.draw.line((left, y, right, y), fill=LINE)
