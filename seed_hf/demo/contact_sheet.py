"""The contact sheet of the demo: what the model drew, and below it what it saw."""

from collections.abc import Sequence

from PIL import Image

from seed_hf.images.pen import FAINT, PAPER, Pen


WIDTH, MARGIN, GAP = 1400, 36, 18
COLUMNS, SEEN_COLUMNS = 6, 4
NEW, RIGHT, WRONG = (255, 201, 92), (190, 230, 196), (244, 205, 198)  # grounds of labels


def contact_sheet(
    result: dict,
    drawn: Sequence[Image.Image],
    sampled: Sequence[Image.Image],
    images: Sequence[Image.Image],
    again: Sequence[Image.Image],
) -> Image.Image:
    """One image of the demo's result.

    Args:
        result: What `run_demo` returns.
        drawn: The drawings, one per row of `result["prompts"]`.
        sampled: The drawings of `result["samples"]`.
        images, again: The images and what was drawn of their codes, one of each per row of `result["pictures"]`.
    """
    sheet = Image.new("RGB", (WIDTH, 4000), PAPER)
    pen = Pen(sheet)
    y = _title(pen, result)
    y = _drawings(pen, y, result, drawn, sampled)
    y = _sight(pen, y, result, images, again)
    if result["things"]:
        y = _rule(pen, y)
        things = f"The {len(result['things'])} things that it knows: {', '.join(result['things'])}."
        y = pen.wrapped(MARGIN, y, things, 14, WIDTH - 2 * MARGIN, FAINT)
        rest = "Other words are read as well as it can; `seed-hf draw` and the Space name them beside the drawing."
        y = pen.wrapped(MARGIN, y + 6, rest, 14, WIDTH - 2 * MARGIN, FAINT)
    return sheet.crop((0, 0, WIDTH, y + MARGIN))


def _title(pen: Pen, result: dict) -> int:
    y = pen.text(MARGIN, MARGIN - 6, f"{result['model']} draws and sees", 34) + 4
    note = (
        "Prompts and images were chosen by a random seed and not by eye, so failures are here, too. A small strip "
        "shows the 32 codes of an image: equal codes, equal colours."
    )
    y = pen.wrapped(MARGIN, y, note, 17, WIDTH - 2 * MARGIN, FAINT) + 6
    end = pen.label(MARGIN, y, "never trained on", 16, NEW)
    return pen.text(end + 8, y + 2, "marks what the bundled seed-tiny met in no training example.", 17, FAINT) + 22


def _drawings(pen: Pen, y: int, result: dict, drawn: Sequence[Image.Image], sampled: Sequence[Image.Image]) -> int:
    y = _heading(pen, y, "DRAW", "words to 32 codes to an image")
    rows = list(zip(result["prompts"], drawn))
    for start in range(0, len(rows), COLUMNS):
        cells = [_drawing(pen, column, y, *row) for column, row in enumerate(rows[start : start + COLUMNS])]
        y = max(cells) + GAP
    again = result["samples"]
    said = f'"{again["prompt"]}" again: now the codes are sampled, for each drawing anew'
    y = pen.text(MARGIN, y, said, 18) + 6
    return max(
        _picture(pen, column, y, codes, image) for column, (codes, image) in enumerate(zip(again["codes"], sampled))
    )


def _picture(pen: Pen, column: int, y: int, codes: Sequence[int], image: Image.Image, new: bool = False) -> int:
    side = _side(COLUMNS)
    x = MARGIN + column * (side + GAP)
    pen.image(image, x, y, side)
    if new:
        pen.frame(x, y, side, NEW)
    pen.codes(codes, x, y + side + 5, side)
    return y + side + 22


def _drawing(pen: Pen, column: int, y: int, row: dict, image: Image.Image) -> int:
    side = _side(COLUMNS)
    x = MARGIN + column * (side + GAP)
    y = _picture(pen, column, y, row["codes"], image, bool(row["new"]))
    y = pen.wrapped(x, y, row["prompt"], 18, side) + 2
    if row["note"]:
        y = pen.wrapped(x, y, row["note"], 14, side, FAINT)
    return _never(pen, x, y, row, side)


def _sight(pen: Pen, y: int, result: dict, images: Sequence[Image.Image], again: Sequence[Image.Image]) -> int:
    y = _rule(pen, y)
    y = _heading(pen, y, "SEE", "left an image; right what is drawn of its 32 codes alone")
    rows = list(zip(result["pictures"], images, again))
    for start in range(0, len(rows), SEEN_COLUMNS):
        cells = [_seen(pen, column, y, *row) for column, row in enumerate(rows[start : start + SEEN_COLUMNS])]
        y = max(cells) + GAP
    return y - GAP


def _seen(pen: Pen, column: int, y: int, row: dict, image: Image.Image, again: Image.Image) -> int:
    width = _side(SEEN_COLUMNS)
    x, side = MARGIN + column * (width + GAP), (width - 6) // 2
    pen.image(image, x, y, side)
    pen.image(again, x + width - side, y, side)
    if row["new"]:
        pen.frame(x, y, side, NEW)
    pen.codes(row["codes"], x, y + side + 5, width)
    y = pen.wrapped(x, y + side + 22, f"says: {row['guess'] or row['model_caption']}", 18, width) + 2
    praise = "its likeliest is right" if row["guess"] else "exactly right"
    y = _verdict(pen, x, y, praise if row["likeliest"] == row["caption"] else None, row["caption"], width)
    y = pen.wrapped(x, y + 4, f"{row['question']} {row['model_answer']}", 17, width) + 2
    y = _verdict(pen, x, y, "exactly right" if row["model_answer"] == row["answer"] else None, row["answer"], width)
    return _never(pen, x, y, row, width)


def _verdict(pen: Pen, x: int, y: int, praise: str | None, truth: str, width: int) -> int:
    if praise:
        pen.label(x, y, praise, 14, RIGHT)
        return y + 25
    end = pen.label(x, y, "it is", 14, WRONG)
    return max(y + 25, pen.wrapped(end + 6, y + 2, truth, 15, x + width - end - 6, FAINT) + 4)


def _never(pen: Pen, x: int, y: int, row: dict, width: int) -> int:
    """The label of what was never trained on."""
    if not row["new"]:
        return y
    pen.label(x, y, "never trained on", 14, NEW)
    return pen.wrapped(x, y + 25, row["new"], 15, width, FAINT)


def _heading(pen: Pen, y: int, word: str, rest: str) -> int:
    pen.text(MARGIN, y, word, 24)
    return pen.text(MARGIN + 90, y + 5, rest, 18, FAINT) + 8


def _rule(pen: Pen, y: int) -> int:
    pen.line(MARGIN, y + GAP, WIDTH - MARGIN)
    return y + 2 * GAP


def _side(columns: int) -> int:
    return (WIDTH - 2 * MARGIN - (columns - 1) * GAP) // columns
