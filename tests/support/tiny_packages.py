"""A few hand-made packages in the formats of the real ones: the pictogram set is built without a network."""

import io
import json
from pathlib import Path

from PIL import Image

from seed_hf.pictograms.emoji import STYLES, TEXT_PACKAGES


Emoji = tuple[tuple[str, str, int, int], ...]  # code point, label, group, subgroup
EMOJI = (
    ("1F692", "fire engine", 5, 52),
    ("1F34E", "red apple", 4, 34),
    ("1F468-200D-1F373", "man cook", 1, 25),
    ("1F469-200D-1F373", "woman cook", 1, 25),
    ("1F1EB-1F1EF", "flag: Fiji", 9, 101),
    ("1F566", "nine-thirty", 5, 58),
)
GROUPS = {"1": "people-body", "3": "animals-nature", "4": "food-drink", "5": "travel-places", "9": "flags"}
SUBGROUPS = {
    **{"25": "person-role", "28": "animal-mammal", "29": "animal-bird", "33": "plant-flower", "34": "food-fruit"},
    **{"52": "transport-ground", "58": "time", "101": "country-flag"},
}
FILLS = {"1F692": "#d01020", "1F34E": "#e02030", "1F1EB-1F1EF": "#7cc4f0", "1F566": "#202020"}
DEBIAN = ("wordnet-base", "openclipart-svg")
LISTS_CODES = ("noto", "twemoji", "openmoji", "fluent-flat")
SVG_HEAD = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:rdf="r" xmlns:dc="d" xmlns:cc="c" width="20" height="10">'


def write_packages(folder: Path) -> dict[str, Path]:
    """Write all packages into `folder`; returns their folders by name, the `sources` of `build_pictograms`."""
    folders = {style.package: folder / style.name for style in STYLES}
    folders |= {name: folder / name for name in (*TEXT_PACKAGES, *DEBIAN)}
    _write_all(folders, EMOJI)
    return folders


def write_fetched_packages(folder: Path) -> None:
    """Write them as `fetch_npm` and `fetch_debian` leave theirs in `folder`."""
    versions = {style.package: style.version for style in STYLES} | TEXT_PACKAGES
    folders = {
        name: folder / f"{name.removeprefix('@').replace('/', '-')}-{version}" for name, version in versions.items()
    }
    _write_all(folders | {name: folder / f"debian-{name}" for name in DEBIAN}, EMOJI)


def _write_all(folders: dict[str, Path], emoji: Emoji) -> None:
    for number, style in enumerate(STYLES):
        if style.name == "fluent-3d":
            _write_3d(folders[style.package] / "assets")
        else:
            _write_icons(style.name, number, folders[style.package], emoji)
    _write_texts(folders, emoji)
    _write_wordnet(folders["wordnet-base"] / "usr/share/wordnet")
    _write_clip_art(folders["openclipart-svg"])


def _write_icons(style: str, number: int, folder: Path, emoji: Emoji) -> None:
    icons, codes = {}, {}
    for index, (code, label, _, _) in enumerate(emoji):
        if style == "streamline" and code == "1F566":
            continue
        name = label.replace(": ", "-").replace(" ", "-").lower()
        if style == "fxemoji":
            name = name.replace("-", "")
        fill = FILLS.get(code, "#f0c040")
        body = f'<rect x="1" y="{1 + index % 6}" width="{8 + index}" height="{4 + number}" fill="{fill}"/>'
        if style == "twemoji" and code == "1F469-200D-1F373":
            body = icons["man-cook"]["body"]  # drawn alike: one of the two is dropped
        if style == "noto" and code == "1F566":
            body = ""  # nothing to see: dropped
        icons[name], codes[code.lower()] = {"body": body}, name
    _write_json(folder / "icons.json", {"width": 24, "height": 24, "icons": icons})
    if style in LISTS_CODES:
        _write_json(folder / "chars.json", codes)


def _write_3d(assets: Path) -> None:
    assets.mkdir(parents=True)
    for code in ("1F692", "1F34E", "1F1F8-1F1EF"):  # the last one is not in the flat set
        image = Image.new("RGBA", (256, 256), (0, 0, 0, 0))
        image.paste((40, 90, 210, 255), (20, 60, 200, 60 + len(code) + int(code[-1], 16) * 8))
        image.save(assets / f"{code.lower()}.webp", lossless=True)


def _write_texts(folders: dict[str, Path], emoji: Emoji) -> None:
    base = folders["emojibase-data"]
    records = [
        {"label": label, "hexcode": code, "group": group, "subgroup": subgroup, "tags": ["Tag", label.split()[-1]]}
        for code, label, group, subgroup in emoji
    ]
    component = {"label": "light skin tone", "hexcode": "1F3FB", "group": 2, "subgroup": 0}
    letter = {"label": "regional indicator A", "hexcode": "1F1E6"}
    _write_json(base / "en/data.json", [letter, component, *records])
    _write_json(base / "meta/groups.json", {"groups": GROUPS, "subgroups": SUBGROUPS})
    for source in ("cldr", "github", "iamcal", "joypixels", "emojibase", "emojibase-legacy"):
        _write_json(base / f"en/shortcodes/{source}.json", {"1F692": "fire_engine", "1F34E": ["apple", "red_apple"]})
    engine = {"🚒": {"default": ["engine", "fire", "truck"], "tts": ["fire engine"]}}
    _write_json(
        folders["cldr-annotations-full"] / "annotations/en/annotations.json", {"annotations": {"annotations": engine}}
    )
    _write_json(
        folders["cldr-annotations-derived-full"] / "annotationsDerived/en/annotations.json",
        {"annotationsDerived": {"annotations": {}}},
    )
    _write_json(folders["emojilib"] / "dist/emoji-en-US.json", {"🚒": ["fire_engine", "big_truck"]})


def _write_wordnet(folder: Path) -> None:
    folder.mkdir(parents=True)
    licence = "  1 This software and database is being provided to you.\n"
    data = [
        # offset, lexicographer file (18 person, 6 artifact, 13 food, 20 plant, 5 animal), and the rest as it comes
        ("00000001", "18", "someone who puts out fires"),
        ("00000002", "06", 'any of various large trucks that carry firemen; "the fire engine came"'),
        ("00000003", "13", "fruit with red or yellow or green skin"),
        ("00000004", "05", "a domesticated dog"),
    ]
    lines = [f"{offset} {file} n 01 word 0 000 | {gloss}  \n" for offset, file, gloss in data]
    (folder / "data.noun").write_text(licence + "".join(lines), encoding="latin-1")
    nouns = [
        ("fire_engine", ("00000001", "00000002")),
        ("red_apple", ("00000003",)),
        ("dog", ("00000004",)),
        *((word, ("00000004",)) for word in ("happy", "house", "kitten")),
    ]
    lines = [f"{word} n {len(senses)} 0 {len(senses)} 0 {' '.join(senses)}  \n" for word, senses in nouns]
    (folder / "index.noun").write_text(licence + "".join(lines), encoding="latin-1")
    for part, word in (("adj", "small"), ("adv", "in"), ("verb", "run")):
        (folder / f"index.{part}").write_text(licence + f"{word} a 1 0 1 0 00000009  \n", encoding="latin-1")


def clip_art_svg(title: str, body: str, *, licence: str = "http://web.resource.org/cc/PublicDomain") -> str:
    """An SVG file with the metadata that the clip-art library writes into its files."""
    work = f"<dc:title>{title}</dc:title><rdf:li>big_pet</rdf:li><rdf:li>hash</rdf:li><rdf:li></rdf:li>"
    return f'{SVG_HEAD}<metadata><cc:license rdf:resource="{licence}"/>{work}</metadata>{body}</svg>'


def _write_clip_art(package: Path) -> None:
    base = package / "usr/share/openclipart/svg"
    rect = '<rect x="2" y="2" width="{}" height="6" fill="{}"/>'
    files = {
        "animals/dogs/dog_01.svg": clip_art_svg("Small Dog (black)", rect.format(12, "#101010")),
        "animals/dog_02.svg": clip_art_svg("Happy kitten", rect.format(9, "#804020")),
        "animals/cane.svg": clip_art_svg("Cane felice", rect.format(8, "#804020")),  # not English
        "animals/gpl.svg": clip_art_svg("Happy dog", rect.format(7, "#804020"), licence="http://example.org/GPL"),
        "animals/theme.svg": clip_art_svg("Dog theme", rect.format(6, "#804020")),
        "animals/broken.svg": clip_art_svg("House dog", "<rect"),
        "shapes/star.svg": clip_art_svg("Dog", rect.format(5, "#804020")),
        "signs_and_symbols/flags/oceania/fiji.svg": clip_art_svg(" new_fiji", rect.format(14, "#1040d0")),
        **{f"people/run_{n}.svg": clip_art_svg(f"Run {n}", rect.format(5 + n, "#4a0")) for n in range(9)},
    }
    for name, text in files.items():
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (base / "animals/link.svg").symlink_to("dog_02.svg")
    (package / "VERSION").write_text("1:0.18-test\n", encoding="utf-8")


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def open_image(row: dict) -> Image.Image:
    return Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")
