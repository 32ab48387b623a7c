"""Tiny copies of the benchmarks' files in the form in which they are published, with images of noise."""

import json
from pathlib import Path

from tiny_sources import noise


def write_images(folder: Path, *names: str) -> None:
    """JPEG files of noise, each another."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(noise(number, 24, 24, "JPEG"))


def write_json(path: Path, value) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def karpathy_coco(folder: Path, captions: dict[str, list[str]], split: str = "test") -> Path:
    """`dataset_coco.json`: the images of a split, and one of `train`. From file names to captions."""
    images = [
        {
            "filepath": "val2014",
            "sentids": [10 * number + i for i in range(len(said))],
            "filename": name,
            "imgid": number,
            "split": split,
            "sentences": [
                {"tokens": text.lower().split(), "raw": text, "imgid": number, "sentid": 10 * number + i}
                for i, text in enumerate(said)
            ],
            "cocoid": 391895 + number,
        }
        for number, (name, said) in enumerate(captions.items())
    ]
    other = {**images[0], "split": "train", "filename": "COCO_val2014_000000000009.jpg", "cocoid": 9}
    return write_json(folder / "dataset_coco.json", {"images": [*images, other], "dataset": "coco"})


def coco_captions(folder: Path, captions: dict[str, list[str]], name: str = "captions_val2014.json", **more) -> Path:
    """`captions_val2014.json`; with `domain` (a list), `nocaps_val_4500_captions.json`."""
    images, annotations = [], []
    for number, (file, said) in enumerate(captions.items()):
        image = {"license": 3, "file_name": file, "height": 24, "width": 24, "id": 391895 + number}
        images.append({**image, **{key: values[number] for key, values in more.items()}})
        for text in said:
            annotations.append({"image_id": 391895 + number, "id": len(annotations), "caption": text})
    info = {"description": "COCO 2014 Dataset", "year": 2014, "version": "1.0"}
    return write_json(folder / name, {"info": info, "images": images, "licenses": [], "annotations": annotations})


def flickr_tokens(folder: Path, captions: dict[str, list[str]]) -> Path:
    """`results_20130124.token`."""
    lines = [f"{name}#{i}\t{text}" for name, said in captions.items() for i, text in enumerate(said)]
    path = folder / "results_20130124.token"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def flickr_results(folder: Path, captions: dict[str, list[str]]) -> Path:
    """`results.csv`, whose line 19999 lacks a bar, as in the published file."""
    lines = ["image_name| comment_number| comment"]
    lines += [f"{name}| {i}| {text}" for name, said in captions.items() for i, text in enumerate(said)]
    lines[-1] = lines[-1].replace("| ", "| ", 1).rpartition("|")[0] + "  " + lines[-1].rpartition("|")[2]
    path = folder / "results.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def flickr_annotations(folder: Path, captions: dict[str, list[str]], split: str = "test") -> Path:
    """`flickr_annotations_30k.csv`."""
    lines = ["raw,sentids,split,filename,img_id"]
    for number, (name, said) in enumerate(captions.items()):
        raw = json.dumps(said).replace('"', '""')
        lines.append(f'"{raw}","[0, 1]",{split if number else "train"},{name},{number}')
    path = folder / "flickr_annotations_30k.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
