"""`see --out`, `ask --questions`, `draw --prompts`: many rows, interrupted and resumed, bad ones named and counted."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from command_line import refused, run
from seed_hf import SeedForConditionalGeneration, SeedImagePipeline
from seed_hf.artifacts.known_words import KnownWords
from tiny_diffusion import tiny_model_and_processor
from tiny_sources import damaged_rows, noise, rows, write_parquet


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder of ten images, of which one is cut off."""
    path = tmp_path_factory.mktemp("images")
    for number in range(10):
        (path / f"{number}.png").write_bytes(noise(number)[: 100 if number == 4 else None])
    return path


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def everything(path: Path) -> dict[str, bytes]:
    """What a job has written but its accounts, which have the times of files."""
    files = (file for file in sorted(path.rglob("*")) if file.is_file() and ".job" not in file.parts)
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


class Interrupted(BaseException):
    """As a kill: nobody handles it."""


def interrupt_after(monkeypatch, cls, name: str, calls: int) -> list:
    """Let a method work so often; the list has an entry for each of its calls."""
    counted, works = [], getattr(cls, name)

    def method(self, *arguments, **options):
        if len(counted) == calls:
            raise Interrupted
        counted.append(1)
        return works(self, *arguments, **options)

    monkeypatch.setattr(cls, name, method)
    return counted


def resumed(monkeypatch, command: list, cls, name: str, calls: int, out: Path) -> tuple[int, int, str]:
    """Calls of a method before an interruption and after it, and what the second start printed."""
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        interrupt_after(patch, cls, name, calls)
        run(*command)
    assert not out.exists()
    with monkeypatch.context() as patch:
        counted = interrupt_after(patch, cls, name, 1000)
        status, printed, _ = run(*command)
        assert status == 0
    return calls, len(counted), printed


def test_see_a_folder(folder, images, tmp_path, monkeypatch):
    options = ["--model", folder, "--workers", 0, "--batch-size", 2, "--rows-per-shard", 4]
    whole, broken = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
    status, printed, _ = run("see", images, "--out", whole, *options)
    assert status == 0 and "9 of 10 rows, 1 bad rows, listed in" in printed
    bad = lines(tmp_path / "whole.jsonl.job" / "bad_images.jsonl")
    assert [row["id"] for row in bad] == ["4.png"] and "cut off" in bad[0]["reason"]

    found = lines(whole)
    assert [row["id"] for row in found] == [f"{number}.png" for number in range(10) if number != 4]
    for row in (found[0], found[-1]):
        alone = json.loads(run("see", images / row["id"], "--json", "--model", folder)[1])
        assert (row["codes"], row["caption"]) == (alone["codes"], alone["caption"])

    command = ["see", images, "--out", broken, *options]
    before, after, again = resumed(monkeypatch, command, SeedForConditionalGeneration, "generate", 3, broken)
    # Shards of 4, 3 and 2 good rows are 2, 2 and 1 batches: the first is kept, the second begins anew.
    assert (before, after) == (3, 3) and "9 of 10 rows" in again
    assert broken.read_bytes() == whole.read_bytes()
    assert everything(tmp_path / "broken.jsonl.job") == everything(tmp_path / "whole.jsonl.job")
    with monkeypatch.context() as patch:  # all is there: nothing is done again
        counted = interrupt_after(patch, SeedForConditionalGeneration, "generate", 1000)
        assert run(*command)[0] == 0 and not counted
    refused(
        "see", images, "--out", broken, "--model", folder, "--batch-size", 3, words="batch_size is 2 there, 3 here"
    )


def test_see_files_parquet_and_likely_captions(tmp_path, images):
    model, processor = tiny_model_and_processor()
    folder = tmp_path / "model"
    for part in (model, processor, KnownWords.of(["apple"], ["a red apple"], sure=0.5)):
        (part.save if isinstance(part, KnownWords) else part.save_pretrained)(folder)
    out = tmp_path / "files.jsonl"
    named = [images / "1.png", images / "4.png", images / "nowhere.png", images / "0.png"]
    status, printed, _ = run("see", *named, "--out", out, "--model", folder, "--workers", 0)
    assert status == 0 and "2 of 4 rows, 2 bad rows" in printed
    found = lines(out)
    assert [row["id"] for row in found] == [str(images / "1.png"), str(images / "0.png")]
    alone = json.loads(run("see", images / "1.png", "--json", "--model", folder)[1])
    assert list(found[0]["likely"]) == list(alone["likely"]) and found[0]["caption"] == alone["caption"]

    source = write_parquet(tmp_path / "a.parquet", damaged_rows(8, every=4)[0])
    out = tmp_path / "parquet.jsonl"
    status, printed, _ = run("see", source, "--out", out, "--model", folder, "--workers", 0, "--id-column", "id")
    assert status == 0 and "6 of 8 rows, 2 bad rows" in printed and lines(out)[0]["id"] == "id0"
    assert run("see", source, "--out", out, "--model", folder, "--workers", 0, "--id-column", "id")[0] == 0


def test_ask_many(folder, images, tmp_path, monkeypatch):
    asked = [{"id": f"q{n}", "file_name": f"{n}.png", "question": f"what is {n}?"} for n in range(6)]
    asked += [{"id": "long", "file_name": "0.png", "question": "why " * 300}, {"id": "none", "file_name": "1.png"}]
    questions, out = images / "questions.jsonl", tmp_path / "answers.jsonl"
    questions.write_text("".join(json.dumps(row) + "\n" for row in asked) + "{half\n", encoding="utf-8")
    command = ["ask", "--questions", questions, "--out", out, "--model", folder, "--workers", 0]
    command += ["--batch-size", 2, "--rows-per-shard", 3]
    before, after, printed = resumed(monkeypatch, command, SeedForConditionalGeneration, "generate", 2, out)
    assert (before, after) == (2, 1) and "5 of 9 rows, 4 bad rows" in printed
    reasons = {row["id"]: row["reason"] for row in lines(tmp_path / "answers.jsonl.job" / "bad_images.jsonl")}
    assert list(reasons) == ["q4", "long", "none", "questions.jsonl:8"]
    assert "too long" in reasons["long"] and "no text in the place of a question" in reasons["none"]
    found = lines(out)
    assert [row["id"] for row in found] == ["q0", "q1", "q2", "q3", "q5"]
    for row in found[1:3]:
        number = row["id"][1:]
        single = run("ask", images / f"{number}.png", row["question"], "--model", folder)[1]
        assert row["answer"] == single.strip()
    questions.unlink()


def test_ask_many_about_one_image(folder, images, tmp_path):
    questions, out = tmp_path / "questions.txt", tmp_path / "answers.jsonl"
    questions.write_text("what is it?\n\nwhat colour?\n", encoding="utf-8")
    command = ["ask", images / "2.png", "--questions", questions, "--out", out, "--model", folder, "--workers", 0]
    status, printed, _ = run(*command)
    assert status == 0 and "2 of 2 rows" in printed
    assert [row["question"] for row in lines(out)] == ["what is it?", "what colour?"]
    refused("ask", images / "4.png", *command[2:], words="damaged or cut off")
    refused("ask", *command[2:], words="says nothing of images")


@pytest.mark.parametrize("sampled", [False, True])
def test_draw_many(folder, tmp_path, monkeypatch, sampled):
    prompts, out = tmp_path / "prompts.csv", tmp_path / "drawn"
    texts = ["a red apple", "a blue car", "apple " * 200, "", "two dogs", "a cat", "a tree"]
    pq.write_table(pa.table({"prompt": texts}), prompts.with_suffix(".parquet"))
    options = ["--model", folder, "--steps", 2, "--seed", 7, *(["--temperature", 2.0] if sampled else [])]
    command = ["draw", "--prompts", prompts.with_suffix(".parquet"), "--out", out, *options]
    command += ["--batch-size", 2, "--rows-per-shard", 3]
    before, after, printed = resumed(
        monkeypatch, command, SeedImagePipeline, "encode_codes", 2, out / "drawings.jsonl"
    )
    # Good rows of the shards: 2, 2 and 1.
    assert (before, after) == (2, 1) and "5 of 7 rows, 2 bad rows" in printed
    reasons = [row["reason"] for row in lines(out / "drawings.jsonl.job" / "bad_images.jsonl")]
    assert "too long" in reasons[0] and "no text in the place of a prompt" in reasons[1]
    found = lines(out / "drawings.jsonl")
    assert [(row["prompt"], row["seed"]) for row in found] == [
        (text, 7 + number) for number, text in enumerate(texts) if number not in (2, 3)
    ]
    assert sorted(file.name for file in out.glob("*.png")) == [row["image"] for row in found]
    alone = ["draw", texts[4], "-o", tmp_path / "alone.png", *options[: -2 if sampled else None]]
    alone[alone.index("--seed") + 1] = 7 + 4
    run(*alone, *(["--temperature", 2.0] if sampled else []))
    drawn, single = (Image.open(path).tobytes() for path in (out / found[2]["image"], tmp_path / "alone.png"))
    assert max(abs(a - b) for a, b in zip(drawn, single)) <= 1

    kept = everything(out)
    (out / found[1]["image"]).unlink()  # a lost image is drawn again, with the others of its shard
    with monkeypatch.context() as patch:
        counted = interrupt_after(patch, SeedImagePipeline, "encode_codes", 1000)
        assert run(*command)[0] == 0 and len(counted) == 1
    assert everything(out) == kept
    refused(*command, "--guidance", 1.5, words="guidance_scale is 2.0 there, 1.5 here")


@pytest.mark.parametrize("end", ["\x85", "\u2028", "\u2029"])
def test_prompts_with_odd_line_ends_are_drawn_once(folder, tmp_path, end):
    """Python's `splitlines` ends a line there, JSON does not."""
    prompts, out = tmp_path / "prompts.txt", tmp_path / "drawn"
    prompts.write_text(f"a red{end}apple\n", encoding="utf-8")
    for _ in range(2):
        status, printed, error = run("draw", "--prompts", prompts, "--out", out, "--steps", 1, "--model", folder)
        assert status == 0 and "1 of 1 rows" in printed, error
    assert [row["prompt"] for row in lines(out / "drawings.jsonl")] == [f"a red{end}apple"]


def test_rows_of_a_model_that_samples_are_those_of_their_seeds(folder, tmp_path):
    """Where the model's own generation config says so."""
    pipe = SeedImagePipeline.from_pretrained(folder)
    pipe.seed_model.generation_config.update(do_sample=True, temperature=3.0)
    pipe.save_pretrained(tmp_path / "samples")
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red apple\na red apple\n")
    settings = ["--model", tmp_path / "samples", "--steps", 2]
    for out in ("once", "again"):
        assert run("draw", "--prompts", prompts, "--out", tmp_path / out, "--seed", 3, *settings)[0] == 0
    assert lines(tmp_path / "once" / "drawings.jsonl") == lines(tmp_path / "again" / "drawings.jsonl")
    first, second = (row["codes"] for row in lines(tmp_path / "once" / "drawings.jsonl"))
    assert first != second
    run("draw", "a red apple", "-o", tmp_path / "alone.png", "--seed", 4, *settings)
    assert Image.open(tmp_path / "alone.png").tobytes() == Image.open(tmp_path / "once" / "000001.png").tobytes()


def test_mistakes_of_many(folder, images, tmp_path):
    out, prompts = tmp_path / "a.jsonl", tmp_path / "prompts.txt"
    prompts.write_text("a red apple\n", encoding="utf-8")
    refused("see", images / "0.png", "--batch-size", 2, words="--batch-size: goes with --out")
    refused("see", images / "0.png", "--split", "all", "--out", out, words="--split: goes with a folder")
    refused("see", images, "--out", tmp_path / "no" / "a.jsonl", words="does not exist")
    refused("see", images, "--out", tmp_path, words="this is a folder")
    refused("see", images, "--out", images / "a.jsonl", "--model", folder, words="lies in the source")
    (tmp_path / "mine.jsonl").write_text("{}")
    refused("see", images, "--out", tmp_path / "mine.jsonl", words="was not written by this command")
    refused("see", images / "4.png", "--out", out, "--model", folder, "--on-error", "raise", words="4.png")
    refused("ask", images / "0.png", "what?", "--out", out, words="without a QUESTION")
    refused("ask", "--questions", tmp_path / "no.txt", "--out", out, words="no such file")
    refused("draw", "a", "--prompts", prompts, "--out", tmp_path / "d", words="without a PROMPT")
    for file in (prompts, tmp_path / "d.png"):
        refused("draw", "--prompts", prompts, "--out", file, words="this is a file, or named like one")
    refused("draw", "--prompts", prompts, words="--prompts FILE --out FOLDER")
    refused("draw", "--prompts", prompts, "--out", tmp_path, "--model", folder, words="not of such a job")
    named = ["--prompt-column", "said", "--out", tmp_path / "d"]
    refused("draw", "--prompts", prompts, *named, words="a text file has no columns")
    table = write_parquet(tmp_path / "a.parquet", rows(2))
    refused("draw", "--prompts", table, *named, words="no column said; it has id, caption")
    refused("draw", "a", "-o", tmp_path / "a.png", *named[:2], words="--prompt-column: goes with --prompts")
    assert not out.exists() and not (tmp_path / "d").exists()
