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


def vqa_files(folder: Path, asked: list[tuple[int, str, list[str], str]], kind: str = "v2") -> tuple[Path, Path]:
    """`v2_OpenEnded_mscoco_val2014_questions.json` and `v2_mscoco_val2014_annotations.json`.

    Each of `asked` is the number of an image, a question, ten answers and their type.
    """
    about = {"info": {"version": "2.0"}, "data_type": "mscoco", "data_subtype": "val2014", "license": {}}
    questions, annotations = [], []
    for number, (image, question, answers, answer_type) in enumerate(asked):
        ids = {"image_id": image, "question_id": 1000 * image + number}
        questions.append({**ids, "question": question})
        said = [{"answer": text, "answer_confidence": "yes", "answer_id": i} for i, text in enumerate(answers, 1)]
        more = {"question_type": "what", "multiple_choice_answer": answers[0], "answer_type": answer_type}
        annotations.append({**more, "answers": said, **ids})
    return (
        write_json(folder / "questions.json", {**about, "task_type": "Open-Ended", "questions": questions}),
        write_json(folder / "annotations.json", {**about, "annotations": annotations}),
    )


def vizwiz_file(folder: Path) -> Path:
    """`val.json` of VizWiz."""
    said = [{"answer": text, "answer_confidence": "maybe"} for text in ["unanswerable"] * 6 + ["soda"] * 4]
    row = {"image": "VizWiz_val_00000000.jpg", "question": "What is this?", "answers": said}
    return write_json(folder / "val.json", [{**row, "answer_type": "unanswerable", "answerable": 0}])


def gqa_file(folder: Path) -> Path:
    """`testdev_balanced_questions.json` of GQA."""
    types = {"detailed": "activityWho", "semantic": "rel", "structural": "query"}
    row = {"imageId": "n161313", "question": "Is it red?", "answer": "yes", "fullAnswer": "Yes, red.", "types": types}
    more = {"isBalanced": True, "groups": {"global": None, "local": "13-x"}, "entailed": [], "equivalent": ["201"]}
    other = {**row, **more, "answer": "man", "types": {**types, "structural": "verify"}}
    return write_json(folder / "testdev_balanced_questions.json", {"201307251": {**row, **more}, "201307252": other})


def seed_bench_file(folder: Path, answers: str = "ABCD") -> Path:
    """`SEED-Bench.json` with a question for each answer, and one about a video."""
    types = {"Scene Understanding": 1, "Instance Identity": 2, "Action Recognition": 10}
    choices = {"choice_a": "One", "choice_b": "Two dogs", "choice_c": "Three", "choice_d": "Four"}
    questions = [
        {
            "answer": answer,
            **choices,
            "data_id": f"1454426_259111198{number}",
            "data_type": "image",
            "question": "How many towels are in the image?",
            "question_id": str(101669 + number),
            "question_type_id": 1 + number % 2,
        }
        for number, answer in enumerate(answers)
    ]
    video = {**questions[0], "data_type": "video", "data_id": "1.webm", "question_type_id": 10, "segment": [0, 4]}
    return write_json(folder / "SEED-Bench.json", {"question_type": types, "questions": [*questions, video]})
