"""Public-domain clip art of the Debian package openclipart-svg: which files are used, their captions, their images."""

from __future__ import annotations

import hashlib
import html
import logging
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from .captions import with_article
from .drawings import Drawing, fingerprint, kept_drawings
from .emoji import IMAGE_SIZE, Style, fit_square
from .rows import make_row
from .svg_worker import draw_files
from .wordnet import WordNet


logger = logging.getLogger(__name__)

CLIP_ART_FOLDER = "usr/share/openclipart/svg"
CLIP_ART_PACKAGE = "openclipart-svg"
CLIP_ART_STYLE = Style("openclipart", CLIP_ART_PACKAGE, "1:0.18+dfsg-19", "CC0/public domain", "a piece of clip art")
CATEGORIES = {
    "animals": "animals-nature",
    "buildings": "travel-places",
    "computer": "objects",
    "containers": "objects",
    "decorations": "objects",
    "education": "objects",
    "electronics": "objects",
    "food": "food-drink",
    "geography": "travel-places",
    "office": "objects",
    "people": "people-body",
    "plants": "animals-nature",
    "recreation": "activities",
    "science": "objects",
    "signs_and_symbols": "symbols",
    "signs_and_symbols/flags": "flags",
    "tools": "objects",
    "transportation": "travel-places",
    "unsorted": "objects",
}
# Abstract, repeated or unnamed drawings.
LEFT_OUT = (
    *("shapes", "special", "logos", "buttons", "unsorted/duplicates"),
    *("computer/icons", "computer/buttons", "computer/folders", "signs_and_symbols/led", "signs_and_symbols/clocks"),
)
MAX_FILE_SIZE = 400_000
MAX_SAME_TITLE = 8
NO_TITLES = re.compile(r"theme|collection|gradient|pattern|converted|clip ?art|untitled|icon", re.IGNORECASE)
PLAIN_TITLE = re.compile(r"[A-Za-z0-9 ,.&'-]{3,}")
NO_KEYWORDS = frozenset(("", "hash", "sign", "unsorted"))
FUNCTION_WORDS = frozenset("and for from of the to with".split())  # WordNet has none of these

_TITLE = re.compile(r"<dc:title[^>]*>(.*?)</dc:title>", re.DOTALL)
_KEYWORD = re.compile(r"<rdf:li[^>]*>(.*?)</rdf:li>", re.DOTALL)
_PUBLIC_DOMAIN = re.compile(r"<[^>]*licen[sc]e[^>]*public-?domain[^>]*>", re.IGNORECASE)


@dataclass(frozen=True)
class ClipArt:
    """One clip-art file of the set.

    Args:
        key: Its file name without the ending.
        path: The SVG file.
        title: Its cleaned title.
        folder: Its folder in the package, which is its subcategory.
        keywords: Its keywords, in lower case.
    """

    key: str
    path: Path
    title: str
    folder: str
    keywords: list[str]

    @property
    def category(self) -> str:
        """The category of the innermost folder that has one."""
        parts = PurePosixPath(self.folder).parts
        return next(c for n in range(len(parts), 0, -1) if (c := CATEGORIES.get("/".join(parts[:n]))))

    @property
    def caption(self) -> str:
        """The noun phrase: "a fire engine", "the flag of Fiji"."""
        # A first word in capitals is an abbreviation; then other words may be abbreviations too.
        lower = self.title if re.match(r"[A-Z]+\b", self.title) else self.title.lower()
        if self.category != "flags":
            return with_article(lower)
        return f"the {lower}" if "flag" in self.title.lower() else f"the flag of {self.title.title()}"


def clean_title(title: str) -> str:
    """A title on one line without numbers and brackets at the end: "Switch_HP_2524" gives "Switch HP"."""
    title = re.sub(r"\s+", " ", html.unescape(title).replace("_", " ")).strip()
    title = re.sub(r"[\s\-.#]*\d*$", "", title)
    return re.sub(r"\s*\(.*$", "", title).strip()


def find_clip_art(package: Path, wordnet: WordNet) -> list[ClipArt]:
    """The clip art of an unpacked openclipart-svg package that the set uses, in the order of the paths.

    Left out are links, large files, files that do not declare themselves public domain, some folders, and titles that
    say nothing or that many files share. Except for flags, titles with a word that WordNet lacks are left out too:
    they are in other languages or name projects.

    Args:
        package: The unpacked package.
        wordnet: Says which words are English.
    """
    base = package / CLIP_ART_FOLDER
    found = []
    for path in sorted(base.rglob("*.svg")):
        folder = path.parent.relative_to(base).as_posix()
        if path.is_symlink() or _within(folder, LEFT_OUT) or not _within(folder, CATEGORIES):
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        match = _TITLE.search(text)
        title = clean_title(match.group(1)) if match else ""
        if not title or not _PUBLIC_DOMAIN.search(text):
            continue
        words = {html.unescape(word).replace("_", " ").strip().lower() for word in _KEYWORD.findall(text)}
        found.append(ClipArt(path.stem, path, title, folder, sorted(words - NO_KEYWORDS)))
    often = Counter(art.title.lower() for art in found)
    kept: dict[str, ClipArt] = {}
    for art in found:
        if often[art.title.lower()] > MAX_SAME_TITLE or art.path.stat().st_size > MAX_FILE_SIZE:
            continue
        if NO_TITLES.search(art.title) or not PLAIN_TITLE.fullmatch(art.title):
            continue
        if art.category == "flags" or _is_english(art.title, wordnet):
            kept.setdefault(art.key, art)
    return list(kept.values())


def clip_art_rows(package: Path, wordnet: WordNet, rendered: Path) -> Iterator[tuple[str, dict, Drawing]]:
    """(title, row, drawing) of every clip-art file that is used and can be drawn.

    Args:
        package: The unpacked package.
        wordnet: Gives the definitions.
        rendered: Folder for finished drawings.
    """
    arts = {art.key: art for art in find_clip_art(package, wordnet)}
    mark = fingerprint([(art.folder, key, art.path.stat().st_size) for key, art in arts.items()])
    kept, folder = rendered / f"openclipart-{mark}.parquet", rendered / f"openclipart-{mark}"
    # Named by a digest: a file name may be too long for another ending.
    files = {key: folder / f"{hashlib.sha256(key.encode()).hexdigest()[:20]}.png" for key in arts}
    if not kept.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        draw_files([(arts[key].path, png) for key, png in files.items()], "openclipart, drawing")
    drawings = kept_drawings(kept, arts, lambda key: _crop(files[key]), "openclipart")
    shutil.rmtree(folder, ignore_errors=True)
    version = _version(package)
    for key, drawing in drawings.items():
        art = arts[key]
        row = make_row(
            CLIP_ART_STYLE,
            f"oca:{key}",
            drawing,
            caption=art.caption,
            category=art.category,
            subcategory=art.folder,
            keywords=art.keywords,
            definition=wordnet.define(art.title, art.category),
            source=f"deb {CLIP_ART_PACKAGE} {version}",
        )
        yield art.title, row, drawing


def _crop(png: Path) -> Image.Image | None:
    """A drawing without its empty margin, scaled to fill the square; `None` where nothing was drawn."""
    if not png.exists():
        return None
    with Image.open(png) as opened:
        drawing = opened.convert("RGBA")
    box = drawing.getchannel("A").getbbox()
    if box is None:
        return None
    drawing = drawing.crop(box)
    scale = IMAGE_SIZE / max(drawing.size)
    size = (max(1, round(drawing.width * scale)), max(1, round(drawing.height * scale)))
    return fit_square(drawing.resize(size, Image.Resampling.LANCZOS))


def _within(folder: str, folders: Iterable[str]) -> bool:
    return any(folder == other or folder.startswith(f"{other}/") for other in folders)


def _is_english(title: str, wordnet: WordNet) -> bool:
    words = (word for word in re.findall("[a-z0-9]+", title.lower()) if not word.isdigit())
    return all(word in FUNCTION_WORDS or wordnet.knows(word) for word in words)


def _version(package: Path) -> str:
    file = package / "VERSION"
    return file.read_text(encoding="utf-8").strip() if file.is_file() else CLIP_ART_STYLE.version
