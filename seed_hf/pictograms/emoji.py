"""Emoji in ten drawing styles: the concepts, the icon of each concept in each set, and the images."""

from __future__ import annotations

import hashlib
import io
import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from .captions import emoji_caption


IMAGE_SIZE = 128


@dataclass(frozen=True)
class Style:
    """One drawing style and the package that holds its images."""

    name: str
    package: str
    version: str
    licence: str
    phrase: str


@dataclass(frozen=True)
class Concept:
    """What one emoji shows in every style. `code` is its code points: "1F468-200D-1F373"."""

    code: str
    name: str
    caption: str
    category: str
    subcategory: str
    keywords: tuple[str, ...]


# In the order of the rows. Of images with equal pixels the first one is kept.
STYLES = (
    Style("noto", "@iconify-json/noto", "1.2.9", "Apache-2.0", "a Noto emoji"),
    Style("noto-blob", "@iconify-json/noto-v1", "1.2.5", "Apache-2.0", "a Noto blob emoji"),
    Style("twemoji", "@iconify-json/twemoji", "1.2.5", "CC-BY-4.0", "a flat Twemoji drawing"),
    Style("openmoji", "@iconify-json/openmoji", "1.2.29", "CC-BY-SA-4.0", "an outlined OpenMoji drawing"),
    Style("fluent-color", "@iconify-json/fluent-emoji", "1.2.7", "MIT", "a shaded Fluent emoji"),
    Style("fluent-flat", "@iconify-json/fluent-emoji-flat", "1.2.6", "MIT", "a flat Fluent emoji"),
    Style("emojione2", "@iconify-json/emojione", "1.2.3", "CC-BY-4.0", "an EmojiOne 2 emoji"),
    Style("fxemoji", "@iconify-json/fxemoji", "1.2.2", "Apache-2.0", "a Firefox OS emoji"),
    Style("streamline", "@iconify-json/streamline-emojis", "1.2.4", "CC-BY-4.0", "a Streamline emoji"),
    Style("fluent-3d", "@lobehub/fluent-emoji-3d", "1.1.0", "MIT", "a glossy 3D Fluent emoji"),
)
TEXT_PACKAGES = {
    "emojibase-data": "17.0.0",
    "emojilib": "4.0.3",
    "cldr-annotations-full": "48.2.0",
    "cldr-annotations-derived-full": "48.2.0",
}
COMPONENT_GROUP = 2  # skin tones and hair: parts of emoji, not emoji
SHORTCODES = ("cldr", "github", "iamcal", "joypixels", "emojibase", "emojibase-legacy")


def code_of(text: str) -> str:
    """The code points of an emoji or a hexadecimal code, without the variation selector: "2764-FE0F" gives "2764"."""
    code = text if re.fullmatch("[0-9A-Fa-f-]+", text) else "-".join(f"{ord(character):04X}" for character in text)
    return "-".join(part for part in code.upper().split("-") if part != "FE0F")


class EmojiConcepts:
    """All emoji without skin tones, with captions and keywords, and the names that icon sets give them.

    Args:
        packages: The unpacked folders of `TEXT_PACKAGES` and of the styles, by package name.
    """

    def __init__(self, packages: Mapping[str, Path]) -> None:
        base = packages["emojibase-data"]
        groups = _load(base / "meta/groups.json")
        keywords = _keywords(packages)
        self.concepts: dict[str, Concept] = {}
        for record in _load(base / "en/data.json"):
            if record.get("group", COMPONENT_GROUP) == COMPONENT_GROUP:
                continue
            code, name = code_of(record["hexcode"]), record["label"]
            subcategory = groups["subgroups"][str(record["subgroup"])]
            words = {tag.lower() for tag in record.get("tags", ())} | keywords.get(code, set())
            caption = emoji_caption(name, subcategory)
            category = groups["groups"][str(record["group"])]
            self.concepts[code] = Concept(code, name, caption, category, subcategory, tuple(sorted(words)))
        labels = [(concept.name, code) for code, concept in self.concepts.items()]
        unicode_names = [(unicodedata.name(chr(int(code, 16)), ""), code) for code in self.concepts if "-" not in code]
        shortcodes = list(_shortcodes(base / "en/shortcodes"))
        listed = [pair for style in STYLES for pair in _listed_names(packages[style.package])]
        # Sorted by concept, label before Unicode name: where emoji share a name, older sets mean the older emoji.
        position = {code: index for index, code in enumerate(self.concepts)}
        own = sorted(labels + unicode_names, key=lambda pair: position[pair[1]])
        bare = [(re.sub(r"\s*\(.*?\)", "", name), code) for name, code in labels]
        self.by_name = _first_code([*own, *bare, *shortcodes, *listed], _slug)
        # Sets that join words ("tongueout") follow the shortcodes of chat programs rather than Unicode.
        self.by_squashed_name = _first_code([*labels, *shortcodes, *unicode_names, *listed], _squash)


class IconSet:
    """The icons of one style's package, by the code of the concept that they draw.

    Args:
        style: The style.
        package: Its unpacked npm package.
        concepts: The emoji.
        flat: The icons of "fluent-flat", which say what belongs to Microsoft's Fluent set; needed for the other two
            Fluent styles.
    """

    def __init__(self, style: Style, package: Path, concepts: EmojiConcepts, flat: IconSet | None = None) -> None:
        self.style = style
        self._folder = package / "assets"
        self._icons: dict[str, Any] = {}
        if style.name != "fluent-3d":
            content = (package / "icons.json").read_bytes()
            self._icons, self._digest = json.loads(content), hashlib.sha256(content).hexdigest()
        codes: Mapping[str, str | Path]
        if style.name in ("fluent-3d", "fluent-color"):
            if flat is None:
                raise ValueError(
                    f"the icons of {style.name} are found through those of fluent-flat; pass them as `flat`"
                )
            fluent = flat.codes
        if style.name == "fluent-3d":
            # This package has flags of unknown origin: icons that Microsoft's own set lacks are left out.
            files: dict[str, Path] = {}
            for file in sorted(self._folder.glob("*.webp")):
                files.setdefault(code_of(file.stem), file)
            codes = {code: files[code] for code in concepts.concepts if code in files and code in fluent}
        elif style.name == "fluent-color":
            codes = {code: name for code, name in fluent.items() if name in self._icons["icons"]}
        elif (package / "chars.json").exists() and (characters := _load(package / "chars.json")):
            codes = {code_of(code): name for code, name in characters.items()}
        else:
            codes = self._codes_by_name(concepts)
        self.codes: dict[str, str | Path] = {code: icon for code, icon in codes.items() if code in concepts.concepts}

    def _codes_by_name(self, concepts: EmojiConcepts) -> dict[str, str]:
        aliases: dict[str, list[str]] = defaultdict(list)
        for alias, target in self._icons.get("aliases", {}).items():
            aliases[target["parent"]].append(alias)
        squashed = self.style.name == "fxemoji"
        known, form = (concepts.by_squashed_name, _squash) if squashed else (concepts.by_name, str)
        codes: dict[str, str] = {}
        for name in self._icons["icons"]:
            keys = [name, *aliases[name], name.replace("flag-for-", "flag-"), re.sub(r"-\d$", "", name)]
            if self.style.name == "streamline":
                keys.insert(-1, f"flag-{name}")
            if code := next((known[form(key)] for key in keys if form(key) in known), None):
                codes.setdefault(code, name)
        return codes

    def fingerprint_parts(self) -> list[object]:
        """What the images of this set depend on."""
        if self.style.name == "fluent-3d":
            files = {code: icon for code, icon in self.codes.items() if isinstance(icon, Path)}
            return [[(code, file.name, file.stat().st_size) for code, file in files.items()]]
        return [self._digest, list(self.codes.items())]

    def draw(self, code: str) -> Image.Image:
        """The RGBA image of a concept, 128 x 128, on a transparent background."""
        icon = self.codes[code]
        if isinstance(icon, Path):
            with Image.open(icon) as opened:
                return fit_square(opened.convert("RGBA"))
        record = self._icons["icons"][icon]
        left, top, width, height = (
            record.get(key, self._icons.get(key, default))
            for key, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
        )
        svg = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'width="{width}" height="{height}" viewBox="{left} {top} {width} {height}">{record["body"]}</svg>'
        )
        return fit_square(render_svg(svg, wide=width >= height))


def render_svg(svg: str, *, wide: bool = True, size: int = IMAGE_SIZE) -> Image.Image:
    """Draw an SVG as an RGBA image. Text in it is drawn without the system's fonts.

    Args:
        svg: The SVG text.
        wide: Whether the width is the longer side.
        size: The longer side in pixels.
    """
    import resvg_py

    width, height = (size, None) if wide else (None, size)
    # Without dpi, sizes in points or millimetres are refused.
    png = resvg_py.svg_to_bytes(svg_string=svg, skip_system_fonts=True, dpi=96.0, width=width, height=height)
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA")


def fit_square(image: Image.Image) -> Image.Image:
    """Shrink an RGBA image in place and centre it in a transparent white square of `IMAGE_SIZE` pixels."""
    image.thumbnail((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.LANCZOS)
    square = Image.new("RGBA", (IMAGE_SIZE, IMAGE_SIZE), (255, 255, 255, 0))
    square.paste(image, ((IMAGE_SIZE - image.width) // 2, (IMAGE_SIZE - image.height) // 2))
    return square


def on_white(image: Image.Image) -> Image.Image:
    """An RGBA image on a white background, as RGB."""
    background = Image.new("RGB", image.size, "white")
    background.paste(image, (0, 0), image)
    return background


def _load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _keywords(packages: Mapping[str, Path]) -> dict[str, set[str]]:
    """Keywords in lower case by code, of Unicode's annotations and of emojilib, whose first word is the name."""
    words: dict[str, set[str]] = defaultdict(set)
    for package, folder in (
        ("cldr-annotations-full", "annotations"),
        ("cldr-annotations-derived-full", "annotationsDerived"),
    ):
        (content,) = _load(packages[package] / folder / "en/annotations.json").values()
        for character, annotation in content["annotations"].items():
            words[code_of(character)].update(word.lower() for word in annotation.get("default", ()))
    for character, names in _load(packages["emojilib"] / "dist/emoji-en-US.json").items():
        words[code_of(character)].update(name.replace("_", " ").lower() for name in names[1:])
    return words


def _shortcodes(folder: Path) -> Iterator[tuple[str, str]]:
    for source in SHORTCODES:
        for code, names in _load(folder / f"{source}.json").items():
            for name in [names] if isinstance(names, str) else names:
                yield name.replace("_", "-"), code_of(code)


def _listed_names(folder: Path) -> Iterator[tuple[str, str]]:
    """Icon names and aliases with the code points that a set lists, if it lists any."""
    if not (folder / "chars.json").exists() or not (characters := _load(folder / "chars.json")):
        return
    codes = {name: code_of(code) for code, name in characters.items()}
    yield from codes.items()
    for alias, target in _load(folder / "icons.json").get("aliases", {}).items():
        if target["parent"] in codes:
            yield alias, codes[target["parent"]]


def _first_code(names: Iterable[tuple[str, str]], key: Callable[[str], str]) -> dict[str, str]:
    codes: dict[str, str] = {}
    for name, code in names:
        codes.setdefault(key(name), code)
    return codes


def _slug(name: str) -> str:
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    ascii_name = re.sub("['.()]", "", ascii_name.replace("&", " and "))
    return re.sub("[^a-z0-9#*]+", "-", ascii_name).strip("-")


def _squash(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())
