"""A sheet of cards, each with images, codes and lines of text, and the use of a codebook as an image."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from PIL import Image

from .pen import FAINT, INK, PAPER, Pen


SIDE, GAP, MARGIN, COLUMNS = 128, 18, 24, 4
CARD = 2 * SIDE + 4
_LINES = 3  # of each text of a card


@dataclass
class Card:
    """What is shown of one row of data, or of one prompt.

    Args:
        images: Images with what they are, at most two beside each other.
        codes: The codes of the last image.
        texts: Lines with what they are: "says", "is" ... Those that are given, not computed, are written faint.
        given: The names of lines that are given.
    """

    images: list[tuple[str, Image.Image]] = field(default_factory=list)
    codes: Sequence[int] | None = None
    texts: list[tuple[str, str]] = field(default_factory=list)
    given: Sequence[str] = ("is", "prompt", "asked")


def sheet_of(
    title: str, subtitle: str, cards: Sequence[Card], used: torch.Tensor | None = None, used_by: str = ""
) -> Image.Image:
    """All cards on one sheet.

    Args:
        title, subtitle: Written above.
        cards: What is shown.
        used: How often each code of the codebook was used, `(codebook_size,)`; shown below.
        used_by: By what: "the validation set".
    """
    drawn = [_card(card) for card in cards]
    columns = max(1, min(COLUMNS, len(drawn)))
    width = 2 * MARGIN + columns * CARD + (columns - 1) * GAP
    rows = [drawn[top : top + columns] for top in range(0, len(drawn), columns)]
    heights = [max(card.height for card in row) for row in rows]
    book = None if used is None else codebook_image(used)
    height = 2 * MARGIN + 70 + sum(heights) + GAP * len(rows) + (0 if book is None else book.height + 40)
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = Pen(sheet)
    y = pen.text(MARGIN, MARGIN, title, 22)
    y = pen.wrapped(MARGIN, y, subtitle, 14, width - 2 * MARGIN, FAINT) + 14
    for row, tall in zip(rows, heights):
        for column, card in enumerate(row):
            sheet.paste(card, (MARGIN + column * (CARD + GAP), y))
        y += tall + GAP
    if used is not None and book is not None:
        y = pen.text(MARGIN, y, f"{int((used > 0).sum())} of {len(used)} codes are used by {used_by}", 14) + 6
        sheet.paste(book, (MARGIN, y))
        y += book.height
    return sheet.crop((0, 0, width, y + MARGIN))


def codebook_image(used: torch.Tensor, width: int = 2 * CARD + GAP) -> Image.Image:
    """A cell for each code, in order from the left to the right: white if it is not used, darker the more it is.

    Args:
        used: How often each code was used, `(codebook_size,)`.
        width: Of the image, in pixels, at most.
    """
    used = used.detach().cpu().double()
    columns = min(len(used), 64 if len(used) <= 4096 else 128)
    rows = -(-len(used) // columns)
    share = torch.log1p(used) / torch.log1p(used.max()).clamp_min(1e-9)
    cells = torch.full((rows * columns, 3), 252, dtype=torch.uint8)
    ink = torch.tensor([20.0, 120.0, 130.0])
    shade = (235 - (235 - ink) * share[:, None]).round().to(torch.uint8)
    cells[: len(used)] = torch.where((used > 0)[:, None], shade, torch.tensor(255, dtype=torch.uint8))
    image = Image.fromarray(cells.view(rows, columns, 3).numpy())
    scale = max(1, width // columns)
    framed = Image.new("RGB", (columns * scale + 2, rows * scale + 2), (200, 200, 200))
    framed.paste(image.resize((columns * scale, rows * scale), Image.Resampling.NEAREST), (1, 1))
    return framed


def _card(card: Card) -> Image.Image:
    paper = Image.new("RGB", (CARD, 1200), PAPER)
    pen, y = Pen(paper), 0
    for place, (name, image) in enumerate(card.images[:2]):
        x = place * (SIDE + 4)
        pen.text(x, 0, name, 12, FAINT)
        pen.image(image, x, 18, SIDE)
        y = 18 + SIDE + 4
    if card.codes is not None:
        pen.codes(card.codes, 0, y, CARD)
        y += 15
    for name, text in card.texts:
        ink = FAINT if name in card.given else INK
        y = pen.wrapped(0, y, f"{name}: {text}", 14, CARD, ink, _LINES) + 1
    return paper.crop((0, 0, CARD, max(y, 1)))
