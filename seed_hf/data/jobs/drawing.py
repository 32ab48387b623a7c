"""`draw_prompts`: an image of every prompt of a file, by a job that may be killed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from seed_hf.artifacts.fingerprints import model_fingerprint, scheduler_settings, weights_fingerprint
from seed_hf.data.sources.listed import FileOfTexts
from seed_hf.data.sources.source_row import SourceRow
from seed_hf.devices import generator_of
from seed_hf.files import sha256_of
from seed_hf.inference import STEPS, draw_images
from seed_hf.pipelines.pipeline_seed_image import SeedImagePipeline

from .batch_memory import in_parts
from .line_shards import LineFolder, folder_of
from .settings import JobSettings
from .shard_folder import FORMAT, ShardRows
from .source_job import SourceJob


LINES = "drawings.jsonl"
BATCH_SIZE = 16
ROWS_PER_SHARD = 64  # images in memory until they are written; after a kill, at most so many are drawn again


class DrawingFolder(LineFolder):
    """Shards of lines about images, which are files of their own.

    Args:
        path: Of the shards.
        images: The folder of the images.
    """

    def __init__(self, path: Path, images: Path):
        super().__init__(path)
        self._images = images
        self._intact: set[tuple[int, int]] = set()  # shards of which all images are there

    def write_file(self, path: Path, shard: ShardRows) -> None:
        drawn = [image for batch in shard.batches.pop("drawn", []) for image in batch]
        names, digests = list[str](), list[str]()
        for row, image in zip(shard.rows, drawn, strict=True):
            name = f"{row.row:06d}.png"
            temporary = self.unfinished(shard.part, shard.index, name)
            image.save(temporary, format="PNG")
            digests.append(sha256_of(temporary))
            os.replace(temporary, self._images / name)
            names.append(name)
        shard.batches |= {"image": [names], "sha256": [digests]}
        super().write_file(path, shard)
        self._intact.add((shard.part, shard.index))

    def account(self, part: int, index: int) -> dict | None:
        """As that of every shard, and `None` if one of its images is missing or changed: all are drawn again."""
        account = super().account(part, index)
        if account is None or (part, index) in self._intact:
            return account
        with open(self.path / account["file"], encoding="utf-8") as lines:
            drawn = [json.loads(line) for line in lines]
        for line in drawn:
            file = self._images / line["image"]
            if not file.is_file() or sha256_of(file) != line["sha256"]:
                self.warn(str(file.absolute()), "missing or changed")
                return None
        self._intact.add((part, index))
        return account


def draw_prompts(
    prompts: FileOfTexts,
    pipeline: SeedImagePipeline,
    out: str | os.PathLike,
    *,
    seed: int = 0,
    steps: int = STEPS,
    guidance_scale: float | None = None,
    num_candidates: int | None = None,
    temperature: float | None = None,
    **options: Any,
) -> dict:
    """Draw an image of every prompt, resuming an earlier run of the same job.

    Row i is the image that `seed-hf draw PROMPT --seed SEED+i` draws: `OUT/00000i.png`. `OUT/drawings.jsonl` has the
    lines `id`, `prompt`, `seed`, `codes`, `image`, `sha256`. Everything else is as in `describe_images`.

    Args:
        prompts: See [`prompt_fault`].
        pipeline: With a language model, on its device.
        out: Folder to write; made if missing.
        seed: Of the first row.
        steps, guidance_scale, num_candidates: Of the pipeline.
        temperature: The codes are sampled with it. By default they are greedy.
        options: Fields of [`JobSettings`]: `batch_size` (16), `rows_per_shard` (64), `on_error`.

    Returns:
        The manifest.

    Raises:
        ValueError: The folder was begun with other prompts, another pipeline or setting, or holds other files.
        BlockingIOError, OSError: As `tokenize_images`.
    """
    out = Path(out)
    shards = out / folder_of(out / LINES, new_parent=True).name
    if out.is_dir() and any(out.iterdir()) and not shards.is_dir():
        raise ValueError(f"{out}: this folder is not empty, and not of such a job. Give a new one.")
    how = JobSettings.of(options, batch_size=BATCH_SIZE, rows_per_shard=ROWS_PER_SHARD)
    job = SourceJob(prompts, pipeline.visual_tokenizer, shards, how)
    sampling = {"do_sample": True, "temperature": temperature} if temperature else {}
    candidates = pipeline.config.num_candidates if num_candidates is None else num_candidates
    guidance = pipeline.config.guidance_scale if guidance_scale is None else guidance_scale
    settings = {"seed": seed, "steps": steps, "guidance_scale": guidance, "candidates": candidates}
    identity = {
        "format": FORMAT,
        "source": prompts.identity(),
        "model": _fingerprints(pipeline),
        "settings": job.settings_of_results(**settings, temperature=temperature),
    }

    def draw(rows) -> list[dict[str, Any]]:
        texts, seeds = [str(row.caption) for row in rows], [seed + row.row for row in rows]
        generators = [generator_of(one) for one in seeds]
        codes = pipeline.encode_prompt(texts, generators, sampling, candidates)  # each by its own seed
        drawn = draw_images(pipeline, codes, generators, num_inference_steps=steps, guidance_scale=guidance_scale)
        columns = {"prompt": texts, "seed": seeds, "codes": codes.tolist(), "drawn": drawn}
        return [dict(zip(columns, values)) for values in zip(*columns.values(), strict=True)]

    def compute(pixels: torch.Tensor, part: int, rows: list[SourceRow]) -> dict[str, list]:
        found = in_parts(draw, rows)
        return {name: [line[name] for line in found] for name in found[0]}

    pipeline.set_progress_bar_config(disable=True)
    folder = DrawingFolder(shards, out)
    manifest = job.run(folder, identity, compute, "drawing")
    folder.join(manifest, out / LINES)
    return manifest


def prompt_fault(pipeline: SeedImagePipeline) -> Callable[[str], str | None]:
    """For [`FileOfTexts`]: why a prompt cannot be drawn, which is that it is too long.

    Args:
        pipeline: With a language model.
    """
    config = pipeline.seed_model.config.text_config
    room = config.max_position_embeddings - config.num_query_tokens - 2

    def fault(prompt: str) -> str | None:
        length = pipeline.processor.draw(prompt).input_ids.shape[1]
        return f"too long: {length} tokens, and there is room for {room} before an image" if length > room else None

    return fault


def _fingerprints(pipeline: SeedImagePipeline) -> dict[str, str]:
    found = {"seed_model": model_fingerprint(pipeline.seed_model, pipeline.processor.tokenizer)}
    for name in ("unet", "vae", "empty_prompt", "image_normalizer"):
        if (part := getattr(pipeline, name)) is not None:
            found[name] = weights_fingerprint(part)
    return {**found, "scheduler": json.dumps(scheduler_settings(pipeline.scheduler))}
