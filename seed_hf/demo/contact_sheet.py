"""The contact sheet of the demo: what the model saw above, what it drew below."""

from collections.abc import Sequence

from PIL import Image

from seed_hf.images.pen import FAINT, PAPER, Pen


CELL, GAP, MARGIN = 150, 14, 28


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
    pen = Pen(sheet)
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
        pen.codes(row["codes"], x, y + side + 4, side)
        bottom = pen.wrapped(x, y + side + 20, row["prompt"], 14, side)
        bottoms.append(pen.wrapped(x, bottom, "(a new combination)", 13, side, FAINT) if row["new"] else bottom)
    y = max(bottoms) + 10
    return sheet.crop((0, 0, width, y + MARGIN))


def _seen(pen: Pen, x: int, y: int, row: dict, image: Image.Image, again: Image.Image) -> int:
    width = 2 * CELL + 4
    pen.image(image, x, y, CELL)
    pen.image(again, x + CELL + 4, y, CELL)
    y += CELL + 4
    pen.codes(row["codes"], x, y, width)
    y = pen.wrapped(x, y + 16, f"says: {row['model_caption']}", 15, width)
    y = pen.wrapped(x, y, f"is: {row['caption']}", 13, width, FAINT)
    y = pen.wrapped(x, y + 3, f"{row['question']} {row['model_answer']}", 14, width)
    return pen.wrapped(x, y, row["novelty"], 13, width, FAINT)
