"""What pages of the documentation start with: `<!-- starts with: opt/ pictures/ -->` makes these two."""

import json
import re
from collections.abc import Callable
from pathlib import Path

from docs_blocks import ROOT
from seed_hf import bundled
from tiny import tiny_text_encoder, tiny_text_tokenizer, tiny_tokenizer
from tiny_sources import rows, write_parquet, write_tar


FOLDERS = ("docs", "examples", "modeling", "pipelines", "seed_hf", "tests")
_STARTS = re.compile(r"<!-- starts with: (.+?) -->")


def prepare(page: Path, folder: Path, *, clone: bool) -> None:
    """Put into `folder` what the page says it starts with; `clone` if it is a copy of the repository already."""
    for names in _STARTS.findall(page.read_text(encoding="utf-8")):
        for name in names.split():
            if not (clone and name == "clone"):
                PREPARED[name](folder)


def _demo_pictures() -> list[dict]:
    folder = bundled("seed-tiny", "demo")
    kept = ("file", "id", "caption", "style", "licence", "question")
    return [
        {**{name: row[name] for name in kept}, "image": (folder / row["file"]).read_bytes()}
        for row in json.loads((folder / "pictures.json").read_text(encoding="utf-8"))
    ]


def _clone(folder: Path) -> None:
    for name in FOLDERS:
        (folder / name).symlink_to(ROOT / name)


# Pictures


def _pig(folder: Path) -> None:
    """The repository's own file: in a fresh clone, too, the commands of the page find it."""
    (folder / "examples").mkdir(exist_ok=True)
    (folder / "examples" / "pig.png").write_bytes((ROOT / "examples" / "pig.png").read_bytes())


def _pictures(folder: Path) -> None:
    (folder / "pictures").mkdir()
    with open(folder / "pictures" / "metadata.jsonl", "w", encoding="utf-8") as file:
        for row in _demo_pictures():
            (folder / "pictures" / row["file"]).write_bytes(row["image"])
            file.write(json.dumps({"file_name": row["file"], "caption": row["caption"]}) + "\n")


def _pairs(folder: Path) -> None:
    lines = [f"{row['file']}\t{row['caption']}" for row in _demo_pictures()]
    (folder / "pairs.tsv").write_text("\n".join(["filepath\ttitle", *lines]), encoding="utf-8")


def _coco(folder: Path) -> None:
    rows = list(enumerate(_demo_pictures()))
    images = [{"id": number, "file_name": row["file"]} for number, row in rows]
    captions = [{"image_id": number, "caption": row["caption"]} for number, row in rows for _ in range(2)]
    made = json.dumps({"images": images, "annotations": captions})
    (folder / "captions_train2017.json").write_text(made, encoding="utf-8")


def _llava(folder: Path) -> None:
    def turns(row):
        asked = [("human", "<image>\nWhat is it?"), ("gpt", row["caption"]), ("human", "Sure?"), ("gpt", "Yes.")]
        return [{"from": who, "value": text} for who, text in asked]

    rows = [{"image": row["file"], "conversations": turns(row)} for row in _demo_pictures()]
    (folder / "llava.json").write_text(json.dumps(rows), encoding="utf-8")


def _prompts(folder: Path) -> None:
    (folder / "prompts.txt").write_text("a red apple\na blue car\n", encoding="utf-8")


def _questions(folder: Path) -> None:
    (folder / "questions.txt").write_text("What colour is it?\nHow many things are there?\n", encoding="utf-8")


def _tars(folder: Path, digits: int) -> None:
    folder.mkdir(parents=True)
    for number in range(2):
        made = [{**row, "id": f"{number}{i}"} for i, row in enumerate(_demo_pictures())]
        write_tar(folder / f"{number:0{digits}}.tar", made)


def _parquet(folder: Path) -> None:
    (folder / "parquet").mkdir()
    write_parquet(folder / "parquet" / "train-0.parquet", rows(6))


def _pictograms(folder: Path) -> None:
    import datasets

    told = {"style_phrase": "noto emoji", "category": "food-drink", "subcategory": "food-fruit", "colours": ["red"]}
    made = [{**told, **row, "image": {"bytes": row["image"], "path": None}} for row in _demo_pictures()]
    rows = datasets.Dataset.from_list(made).cast_column("image", datasets.Image())
    for split in ("train", "validation", "test_concept", "test_style"):
        rows.to_parquet(folder / "data" / "pictograms" / f"{split}.parquet")


def _things(folder: Path) -> None:
    from seed_hf.pictograms.scene_things import read_things
    from tiny_scenes import write_art

    write_art(folder / "data" / "things", read_things(), side=24)


def _packages(folder: Path) -> None:
    """Hand-made packages where `seed-hf data pictograms` keeps fetched ones: those that are there are not fetched."""
    from tiny_packages import write_fetched_packages

    write_fetched_packages(folder / "data" / "pictograms" / ".work" / "packages")


# Models and codes


def _stage(folder: Path) -> None:
    from seed_hf import SeedImageProcessor

    tiny_tokenizer().save_pretrained(folder)
    SeedImageProcessor(size={"height": 28, "width": 28}).save_pretrained(folder)


def _stable_diffusion(folder: Path) -> None:
    tiny_text_encoder().save_pretrained(folder / "sd" / "text_encoder")
    tiny_text_tokenizer().save_pretrained(folder / "sd" / "tokenizer")


def _language_model(folder: Path) -> None:
    from tiny_language import tiny_language_model, tiny_processor

    tiny_language_model().save_pretrained(folder / "opt")
    tiny_processor().tokenizer.save_pretrained(folder / "opt")


def _codes(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    codes = [[(row * 7 + place) % 64 for place in range(32)] for row in range(8)]
    captions = ["a red apple", "the blue fire engine"] * 4
    pq.write_table(pa.table({"codes": codes, "caption": captions}), folder / "codes.parquet")


def _original_checkpoints(folder: Path) -> None:
    """Small checkpoints under the authors' names, in the files that the authors gave out."""
    from original import write_original_files

    write_original_files(folder)


def _blip2(folder: Path) -> None:
    from tiny_blip2 import blip2

    blip2().save_pretrained(folder / "blip2-itm-vit-g")


def _seed_llama(folder: Path) -> None:
    """A tiny language model in the released layout."""
    from released_seed_llama import release

    release(folder / "seed-llama-8b-sft")


def _seed_llama_tokenizer(folder: Path) -> None:
    from released_seed_llama import LAYOUT

    (folder / "seed-tokenizer-2").mkdir()
    for name in ("tokenizer.model", "added_tokens.json"):
        (folder / "seed-tokenizer-2" / name).write_bytes((LAYOUT / name).read_bytes())


def _seed2(folder: Path) -> None:
    from seed_hf import SeedImageProcessor

    tiny_tokenizer(codebook_size=512, generation_target="image", num_generation_tokens=1).save_pretrained(
        folder / "seed2"
    )
    SeedImageProcessor(size={"height": 28, "width": 28}).save_pretrained(folder / "seed2")


def _unclip(folder: Path) -> None:
    from tiny_diffusion import tiny_donor

    tiny_donor("image").save_pretrained(folder / "stable-diffusion-2-1-unclip")


def _smollm2(folder: Path) -> None:
    from tiny_families import plain_model

    plain_model("smollm2").save_pretrained(folder / "smollm2")
    tiny_text_tokenizer().save_pretrained(folder / "smollm2")


PREPARED: dict[str, Callable[[Path], None]] = {
    "prompts.txt": _prompts,
    "questions.txt": _questions,
    "examples/pig.png": _pig,
    "pictures/": _pictures,
    "pairs.tsv": _pairs,
    "captions_train2017.json": _coco,
    "llava.json": _llava,
    "shards/": lambda folder: _tars(folder / "shards", 3),
    "data/image_text/": lambda folder: _tars(folder / "data" / "image_text", 5),
    "parquet/": _parquet,
    "data/pictograms/": _pictograms,
    "data/things/": _things,
    "data/pictograms/.work/packages/": _packages,
    "stage1/": lambda folder: _stage(folder / "stage1"),
    "runs/seed_opt_2.7b/quantization/": lambda folder: _stage(folder / "runs" / "seed_opt_2.7b" / "quantization"),
    "sd/": _stable_diffusion,
    "opt/": _language_model,
    "codes.parquet": _codes,
    "the-authors-files": _original_checkpoints,
    "blip2-itm-vit-g/": _blip2,
    "seed-llama-8b-sft/": _seed_llama,
    "seed-tokenizer-2/": _seed_llama_tokenizer,
    "seed2/": _seed2,
    "stable-diffusion-2-1-unclip/": _unclip,
    "smollm2/": _smollm2,
    "clone": _clone,
}
