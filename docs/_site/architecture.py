"""Draws `docs/architecture.svg`: the parts of SEED, what trains when, and a real picture on its way through seed-tiny.

python docs/_site/architecture.py
"""

import base64
import io
from pathlib import Path

import torch
from PIL import Image

from seed_hf import SeedImagePipeline, bundled


OUT = Path(__file__).parents[1] / "architecture.svg"
WIDTH, HEIGHT = 1180, 692
# Each stage of training has its colour: (fill, line). The panel is opaque, so that it reads on light and dark pages.
COLOURS = {
    "frozen": ("#e7e9ee", "#7b8496"),
    "I": ("#d5e6fb", "#2f6fb5"),
    "II": ("#d6f0dd", "#2f8a55"),
    "lm": ("#fde6cb", "#c2731a"),
    "diffusion": ("#e9dcf7", "#7d4fb3"),
    "plain": ("#ffffff", "#a5abb8"),
}
INK, QUIET = "#1d2433", "#5a6375"


def main() -> None:
    picture = Image.open(bundled("seed-tiny", "demo") / "scene-4.png").convert("RGB")
    pipe = SeedImagePipeline.from_pretrained(bundled("seed-tiny", "pipeline"))
    again = pipe(image=picture, generator=torch.Generator().manual_seed(0))
    OUT.write_text(drawing(picture, again.images[0], again.codes[0].tolist()), encoding="utf-8")


def drawing(picture: Image.Image, again: Image.Image, codes: list[int]) -> str:
    parts = [
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="14" fill="#fbfaf7"/>',
        heading(40, 44, "Look: a picture becomes 32 codes"),
        photo(40, 66, picture, "a picture"),
        arrow((168, 130), (204, 130)),
        box(204, 84, 160, 92, "ViT", "patches to features", "frozen"),
        arrow((364, 130), (400, 130)),
        box(400, 84, 196, 92, "Causal Q-Former", "32 queries, in order", "I"),
        arrow((596, 130), (632, 130)),
        box(632, 84, 160, 92, "Codebook", "nearest vector", "II"),
        arrow((792, 130), (828, 130)),
        code_grid(828, 66, codes),
        heading(40, 254, "Talk: one language model reads and writes words and codes"),
        box(204, 274, 588, 78, "OPT with the codes in its vocabulary", "next-token prediction over both", "lm"),
        words(40, 288, ["words in:", "a question,", "a wish"]),
        arrow((140, 313), (204, 313)),
        arrow((884, 220), (884, 313), (792, 313), both=True),
        words(904, 258, ["integers all the way:", "text of a user never", "turns into codes"]),
        arrow((498, 352), (498, 384)),
        words(430, 404, ["words out: a caption, an answer"]),
        heading(40, 456, "Draw: codes become a picture"),
        photo(40, 478, again, "drawn from the codes"),
        arrow((204, 542), (168, 542)),
        box(204, 496, 160, 92, "UNet and VAE", "latent diffusion", "diffusion"),
        arrow((400, 542), (364, 542)),
        box(400, 496, 196, 92, "Reverse Q-Former", "generation embeddings", "II"),
        arrow((632, 542), (596, 542)),
        box(632, 496, 160, 92, "Decoders", "codes to features", "II"),
        arrow((1100, 220), (1100, 542), (792, 542)),
        arrow((712, 496), (712, 452), (828, 452)),
        words(838, 448, ["reconstructed embeddings,", "for retrieval"]),
        legend(40, 668),
    ]  # fmt: skip
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif">\n'
        "<title>The parts of SEED: ViT, Causal Q-Former and codebook turn a picture into 32 codes; OPT reads and "
        "writes them; decoder, Reverse Q-Former and a diffusion model draw them.</title>\n"
        '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
        f'orient="auto-start-reverse"><path d="M0 0 L10 5 L0 10 z" fill="{QUIET}"/></marker></defs>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def text(x: float, y: float, content: str, size: int = 14, colour: str = INK, anchor: str = "middle", more: str = ""):
    return f'<text x="{x}" y="{y}" font-size="{size}" fill="{colour}" text-anchor="{anchor}"{more}>{content}</text>'


def heading(x: int, y: int, content: str) -> str:
    return text(x, y, content, 18, anchor="start", more=' font-weight="600"')


def words(x: int, y: int, lines: list[str]) -> str:
    return "".join(text(x, y + 20 * i, line, 14, QUIET, "start") for i, line in enumerate(lines))


def box(x: int, y: int, width: int, height: int, title: str, subtitle: str, stage: str) -> str:
    fill, line = COLOURS[stage]
    shape = f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="10" fill="{fill}" stroke="{line}"/>'
    middle = x + width / 2
    return (
        shape
        + text(middle, y + height / 2 - 3, title, 17, more=' font-weight="600"')
        + text(middle, y + height / 2 + 20, subtitle, 14, QUIET)
    )


def arrow(*points: tuple[int, int], both: bool = False) -> str:
    path = "M" + " L".join(f"{x} {y}" for x, y in points)
    start = ' marker-start="url(#tip)"' if both else ""
    return f'<path d="{path}" fill="none" stroke="{QUIET}" stroke-width="1.8" marker-end="url(#tip)"{start}/>'


def photo(x: int, y: int, image: Image.Image, label: str) -> str:
    file = io.BytesIO()
    image.convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(file, "PNG", optimize=True)
    data = base64.b64encode(file.getvalue()).decode()
    return (
        f'<rect x="{x - 1}" y="{y - 1}" width="130" height="130" fill="#fff" stroke="{COLOURS["plain"][1]}"/>'
        f'<image x="{x}" y="{y}" width="128" height="128" href="data:image/png;base64,{data}"/>'
        + text(x, y + 148, label, 13, QUIET, "start")
    )


def code_grid(x: int, y: int, codes: list[int]) -> str:
    """The 32 codes, eight a row, each on a shade of its own."""
    cells = []
    for i, code in enumerate(codes):
        left, top = x + 38 * (i % 8), y + 32 * (i // 8)
        shade = f"hsl({code * 360 // 1024}, 55%, 86%)"
        cells.append(f'<rect x="{left}" y="{top}" width="36" height="30" rx="4" fill="{shade}"/>')
        cells.append(text(left + 18, top + 20, str(code), 13))
    return "".join(cells) + text(x, y + 146, "its 32 codes, as seed-tiny says them", 13, QUIET, "start")


def legend(x: int, y: int) -> str:
    entries = [
        ("frozen", "frozen"),
        ("I", "trained in stage I"),
        ("II", "trained in stage II"),
        ("lm", "language-model stage"),
        ("diffusion", "as it was (Stable Diffusion; in seed-tiny its own)"),
    ]
    drawn = []
    for stage, label in entries:
        fill, line = COLOURS[stage]
        drawn.append(f'<rect x="{x}" y="{y - 12}" width="16" height="16" rx="4" fill="{fill}" stroke="{line}"/>')
        drawn.append(text(x + 24, y + 1, label, 13, QUIET, "start"))
        x += 60 + 7 * len(label)
    return "".join(drawn)


if __name__ == "__main__":
    main()
