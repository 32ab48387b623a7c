"""`describe_images` and `answer_questions`: captions and answers for a whole source, by a job that may be killed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from seed_hf.artifacts.fingerprints import model_fingerprint
from seed_hf.artifacts.finite import check_finite_weights
from seed_hf.data.sources.listed import FileOfTexts, NamedImages
from seed_hf.data.sources.source import ImageTextSource
from seed_hf.data.sources.source_row import SourceRow
from seed_hf.modeling.modeling_seed import SeedForConditionalGeneration
from seed_hf.modeling.processing_seed import SeedProcessor
from seed_hf.texts import MAX_NEW_TOKENS, generate_texts, likely_texts

from .batch_memory import batch_size_of, in_parts
from .line_shards import LineFolder, folder_of
from .pixel_values import codes_of_rows, normalisation_table, normalise
from .settings import JobSettings
from .shard_folder import FORMAT
from .source_job import SourceJob


ROWS_PER_SHARD = 256  # a text takes longer than codes: less is done again after a kill
_BEAMS = 8


def describe_images(
    source: ImageTextSource | NamedImages,
    model: SeedForConditionalGeneration,
    processor: SeedProcessor,
    out: str | os.PathLike,
    *,
    likely: bool = False,
    **options: Any,
) -> dict:
    """Write codes and a caption of every image into JSON Lines, resuming an earlier run of the same job.

    The lines have `id`, `caption`, `codes` and, if asked for, `likely`: three captions with their probabilities. The
    captions are those of `seed_hf.texts.describe`. The job is that of `tokenize_images`: its shards, accounts,
    manifest and `bad_images.jsonl` lie in the folder `OUT.job`. When all shards are there, they become one file.

    Args:
        source: From `open_source` with `captions=False`, or [`NamedImages`].
        model: On the device and in the number type to compute with.
        processor: The model's processor.
        out: The file to write.
        likely: Whether likely captions are searched for.
        options: Fields of [`JobSettings`]: `batch_size` (by default what memory allows), `workers`,
            `rows_per_shard` (256), `on_error`, `filters`.

    Returns:
        The manifest; its `complete` is `False` while other processes are still at work.

    Raises:
        ValueError: The file was begun with another source, model or setting, or exists and is no job's; as
            `tokenize_images`.
        BlockingIOError, OSError, RuntimeError: As `tokenize_images`.
    """

    def describe(codes: torch.Tensor, rows: list[SourceRow]) -> dict[str, list]:
        inputs = processor.caption(codes=codes)
        found: dict[str, list] = {"caption": generate_texts(model, processor, inputs)}
        if likely:
            texts = likely_texts(model, processor, inputs, num_beams=_BEAMS)
            found["likely"] = [{one.text: round(one.probability, 3) for one in row} for row in texts]
        return {**found, "codes": codes.tolist()}

    how = {"prompt": processor.caption_prompt, "likely": likely}
    return _run(source, model, processor, out, describe, how, "describing", _BEAMS if likely else 1, options)


def answer_questions(
    questions: FileOfTexts,
    model: SeedForConditionalGeneration,
    processor: SeedProcessor,
    out: str | os.PathLike,
    **options: Any,
) -> dict:
    """Write the answer to every question into JSON Lines, resuming an earlier run of the same job.

    The lines have `id`, `question` and `answer`, which is that of `seed_hf.texts.answer`. See [`describe_images`].

    Args:
        questions: With an image for each row; see [`question_fault`].
        model, processor, out, options: As for [`describe_images`].

    Returns:
        The manifest.

    Raises:
        ValueError, BlockingIOError, OSError, RuntimeError: As [`describe_images`].
    """

    def answer(codes: torch.Tensor, rows: list[SourceRow]) -> dict[str, list]:
        asked = [str(row.caption) for row in rows]
        return {
            "question": asked,
            "answer": generate_texts(model, processor, processor.ask(codes=codes, questions=asked)),
        }

    how = {"prompt": processor.question_prompt}
    return _run(questions, model, processor, out, answer, how, "answering", 1, options)


def question_fault(model: SeedForConditionalGeneration, processor: SeedProcessor):
    """For [`FileOfTexts`]: why a question cannot be asked, which is that it is too long.

    Args:
        model: Has so many positions.
        processor: The model's processor.
    """
    room = model.config.text_config.max_position_embeddings - 1
    codes = torch.zeros(1, model.config.text_config.num_query_tokens, dtype=torch.long)

    def fault(question: str) -> str | None:
        length = int(processor.ask(codes=codes, questions=question).attention_mask.sum())
        return f"too long: {length} tokens with the image, and the model reads {room}" if length > room else None

    return fault


def _run(source, model, processor, out, say, how: dict, description: str, beams: int, options: dict) -> dict:
    """The job whose lines are what `say` makes of codes and rows."""
    folder = folder_of(out)
    own = {"image_processor": processor.image_processor, "batch_size": batch_size_of(folder, model, beams)}
    settings = JobSettings.of(options, rows_per_shard=ROWS_PER_SHARD, **own)
    job = SourceJob(source, model.visual_tokenizer, folder, settings)
    check_finite_weights(model, "model")
    identity = {
        "format": FORMAT,
        "source": source.identity(),
        "model": {"sha256": model_fingerprint(model, processor.tokenizer)},
        "settings": job.settings_of_results(
            dtype=str(model.dtype).removeprefix("torch."), max_new_tokens=MAX_NEW_TOKENS, **how
        ),
    }
    table = normalisation_table(processor.image_processor).to(model.device)

    def compute(pixels: torch.Tensor, part: int, rows: list[SourceRow]) -> dict[str, list]:
        def lines(numbers) -> list[dict[str, Any]]:
            own = [rows[number] for number in numbers]
            columns = say(codes_of_rows(model.visual_tokenizer, normalise(pixels[list(numbers)], table), own), own)
            return [dict(zip(columns, values)) for values in zip(*columns.values(), strict=True)]

        found = in_parts(lines, range(len(rows)))
        return {name: [line[name] for line in found] for name in found[0]}

    model.eval()
    lines_of = LineFolder(job.out)
    manifest = job.run(lines_of, identity, compute, description)
    lines_of.join(manifest, Path(out))
    return manifest
