"""SEED models for lmms-eval: questions about an image, likelihoods of answers, and drawings with their codes."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms
from loguru import logger
from PIL import Image
from tqdm import tqdm

from seed_hf.artifacts.loading import load_model, load_pipeline
from seed_hf.evaluation.drawer import Drawer
from seed_hf.evaluation.text_generator import TextGenerator
from seed_hf.texts import MAX_NEW_TOKENS


MODES = ("understanding", "drawing")


class SeedLmms(lmms):
    """A SEED model. Nothing is sampled, and a row's result does not depend on the rows beside it.

    Args:
        pretrained: Folder or Hub id of a model or pipeline; seed-tiny by default.
        mode: "understanding": texts about one image. "drawing": an image for each prompt; the output is JSON with
            `text`, `images` (a list of one path) and `codes` (a list of one list of 32 integers).
        batch_size: Rows at a time.
        device: `"cpu"`, `"cuda"` ...; by default a GPU if there is one.
        dtype: Number type; by default bfloat16 on a GPU and float32 on a CPU.
        prompt: With `{}` for the question, instead of the model's own. A task's prompt is then asked as it is by `{}`.
        output_dir: Where drawings go.
        seed: Of the drawings' noise, together with the row.
        num_inference_steps: Of a drawing.
    """

    is_simple = True

    def __init__(
        self,
        pretrained: str = "",
        mode: str = "understanding",
        batch_size: int | str = 1,
        device: str | None = None,
        dtype: str | None = None,
        prompt: str | None = None,
        output_dir: str = "outputs/lmms_eval",
        seed: int = 0,
        num_inference_steps: int = 20,
        **kwargs: Any,
    ):
        super().__init__()
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}.")
        if ignored := {name for name, value in kwargs.items() if value is not None} - {"max_batch_size"}:
            raise ValueError(f"SeedLmms has no arguments {', '.join(sorted(ignored))}.")
        self.mode, self.batch_size, self.prompt = mode, int(batch_size), prompt
        self._rank, self._world_size = (int(os.environ.get(name, default)) for name, default in _PROCESSES.items())
        self.output_dir = Path(output_dir)
        if mode == "drawing":
            pipeline = load_pipeline(pretrained or None, device=device, dtype=dtype)
            self.drawer = Drawer(pipeline, seed=int(seed), num_inference_steps=int(num_inference_steps))
        else:
            self.model, self.processor = load_model(pretrained or None, device=device, dtype=dtype)

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """What the model says about each image; in mode "drawing", where its drawing is.

        Args:
            requests: With (context, options, images of a document, its number, task, split).
        """
        answer = self._drawings if self.mode == "drawing" else self._answers
        found: list[str] = []
        progress = tqdm(total=len(requests), disable=self.rank != 0, desc="Model Responding")
        for batch in batches([request.args for request in requests], self.batch_size):
            found += answer(batch)
            for (context, options, *_), text in zip(batch, found[-len(batch) :], strict=True):
                self.cache_hook.add_partial("generate_until", (context, options), text)
            progress.update(len(batch))
        progress.close()
        return found

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """The log-likelihood of each answer, its end included, and whether the model would say it.

        Args:
            requests: With (context, answer or what gives it of a document, images, number, task, split).
        """
        if self.mode == "drawing":
            raise ValueError("A drawing has no likelihood of a text: mode=understanding.")
        text_generator, found = TextGenerator(self.model, self.processor, "question", self.prompt), []
        for batch in batches([request.args for request in requests], self.batch_size):
            questions = [question_of(context) for context, *_ in batch]
            answers = [target(self._document(*row)) if callable(target) else target for _, target, _, *row in batch]
            answers = [str(answer).strip() for answer in answers]
            codes = text_generator.codes([self._image(see, *row) for _, _, see, *row in batch])
            losses = text_generator.losses(codes, questions, answers)
            said = text_generator.generate(codes, questions)
            found += [(-loss, text == answer) for (loss, _), text, answer in zip(losses, said, answers, strict=True)]
        return found

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        """Refused: several rounds about one image are a chat, which this adapter does not have."""
        raise NotImplementedError("SeedLmms answers one question about one image; it has no rounds.")

    def _answers(self, batch: Sequence[tuple]) -> list[str]:
        said = []
        for context, options, see, *row in batch:
            question = question_of(context)
            text_generator = TextGenerator(
                self.model,
                self.processor,
                "question" if question else "caption",
                self.prompt if question else None,
                decoding_of(options),
            )
            if fault := text_generator.fault(question):
                raise ValueError(f"{row[1]}, document {row[0]}: {fault}.")
            codes = text_generator.codes([self._image(see, *row)])
            text = text_generator.generate(codes, [question] if question else None)[0]
            said.append(until(text, options.get("until") or ()))
        return said

    def _drawings(self, batch: Sequence[tuple]) -> list[str]:
        prompts = [question_of(context) for context, *_ in batch]
        ids = [f"{task}-{split}-{number}" for *_, number, task, split in batch]
        for (_, _, see, *row), each in zip(batch, ids, strict=True):
            if images_of(see(self._document(*row))):
                raise ValueError(f"{each}: this document brings an image; mode=drawing draws from words alone.")
        codes = self.drawer.encode_prompts(prompts, ids)
        self.output_dir.mkdir(parents=True, exist_ok=True)
        found = []
        for image, of_image, each in zip(self.drawer.draw(codes, ids), codes.tolist(), ids, strict=True):
            path = self.output_dir / f"{each}.png"
            image.save(path)
            found.append(json.dumps({"text": "", "images": [str(path)], "codes": [of_image]}))
        return found

    def _document(self, number: int, task: str, split: str) -> Any:
        return self.task_dict[task][split][number]

    def _image(self, see: Any, number: int, task: str, split: str) -> Image.Image:
        images = images_of(see(self._document(number, task, split)))
        if len(images) != 1 or not isinstance(images[0], Image.Image):
            raise ValueError(
                f"{task}, document {number}: SeedLmms is asked about one image, got {len(images)} visuals."
            )
        return images[0]


_PROCESSES = {"RANK": 0, "WORLD_SIZE": 1}


def batches(rows: list, size: int) -> Iterator[list]:
    """Lists of at most `size` rows."""
    return (rows[start : start + size] for start in range(0, len(rows), size))


def images_of(visuals: Any) -> list:
    """What a document shows, as a list."""
    return list(visuals) if isinstance(visuals, (list, tuple)) else [] if visuals is None else [visuals]


def question_of(context: str) -> str:
    """The text of a task. Its marks of images go: the model's own format says where the image stands."""
    return context.replace("<image>", "").strip()


def decoding_of(options: dict[str, Any]) -> dict[str, Any]:
    """The options of a task that are known here; a warning says where one asks for sampling."""
    if options.get("do_sample") or options.get("temperature"):
        logger.warning("The task asks for sampling; SeedLmms takes the likeliest tokens, as seed-hf evaluate does.")
    longest = min(int(options.get("max_new_tokens", MAX_NEW_TOKENS)), MAX_NEW_TOKENS)
    return {"max_new_tokens": longest, "num_beams": int(options.get("num_beams") or 1)}


def until(text: str, stops: str | Sequence[str]) -> str:
    """The text before the first of the stops."""
    for stop in [stops] if isinstance(stops, str) else stops:
        text = text.split(stop)[0] if stop else text
    return text.strip()
