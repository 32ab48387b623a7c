"""The model behind the page, loaded once. It serves one visitor at a time."""

import os
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from PIL import Image
from transformers import StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from seed_hf.artifacts.known_words import read_known_words
from seed_hf.artifacts.loading import DEFAULT
from seed_hf.artifacts.opening import open_pipeline
from seed_hf.data.jobs.describing import question_fault
from seed_hf.data.jobs.drawing import prompt_fault
from seed_hf.devices import generator_of
from seed_hf.inference import STEPS
from seed_hf.modeling.generation_seed import CodeSegment, TextSegment
from seed_hf.texts import MAX_NEW_TOKENS, likely_texts


REPLY_TOKENS = 96  # of a chat's reply: enough for two images and some words


class Artifact:
    """A [`SeedImagePipeline`] with its language model and processor.

    Args:
        source: Folder, Hub id or bundled checkpoint of the pipeline.

    Raises:
        FileNotFoundError: There is no such folder and no such repository.
        ValueError: It holds something else, or the pipeline has no language model or no processor, so that it cannot
            read prompts.
    """

    def __init__(self, source: str = DEFAULT):
        self.is_seed_tiny = source == DEFAULT
        self.name = Path(source).name if Path(source).is_dir() else source  # not where it lies on this machine
        self.pipe = pipe = open_pipeline(source, reads_and_writes=True)
        self.known = read_known_words(source, "pipeline")  # of a small model
        pipe.set_progress_bar_config(disable=True)
        self.model, self.processor = pipe.seed_model.eval(), pipe.processor
        config = self.model.config.text_config
        self.places, self.codebook_size = config.num_query_tokens, config.codebook_size
        self.positions = config.max_position_embeddings
        self.prompt_fault, self.question_fault = prompt_fault(pipe), question_fault(self.model, self.processor)
        self.blank = self.encode(Image.new("RGB", (64, 64), "white"))  # fills the places of codes that are not used

    @classmethod
    def from_environment(cls) -> "Artifact":
        """The one that the variable `SEED_ARTIFACT` names; seed-tiny by default."""
        return cls(os.environ.get("SEED_ARTIFACT") or DEFAULT)

    def encode(self, image: Image.Image) -> list[int]:
        """The codes of an image."""
        return self.pipe.encode_image(image)[0].tolist()

    def caption(self, codes: list[int]) -> Iterator[str]:
        """Yields the caption of an image, given by its codes, as it grows; at last a guess, where it is no more."""
        prompt = self.processor.caption(codes=torch.tensor([codes]))
        yield from self._words(prompt)
        if self.known and (guess := self.known.guess(likely_texts(self.model, self.processor, prompt)[0])):
            yield guess

    def answer(self, image: Image.Image, question: str) -> Iterator[str]:
        """Yields the answer to a question about an image as it grows."""
        return self._words(self.processor.ask(image, question))

    def note(self, text: str) -> str:
        """What to say of words of a text that the model has never read; empty if there are none, or nobody knows."""
        note = self.known and self.known.note(text)
        return f"{note} The list is at the end of the page." if note else ""

    def draw(
        self,
        prompt: str,
        *,
        images: int = 1,
        steps: int = STEPS,
        seed: int = 0,
        sample: bool = False,
        on_step: Callable[[int, int], None] | None = None,
    ) -> tuple[list[Image.Image], list[list[int]]]:
        """Images of a prompt, and the codes of each. Image i is drawn with the seed `seed + i`.

        A single image has the likeliest codes, unless `sample` is set. Several have codes of their own each.
        """
        noise = _generators(seed, images)
        options = {"do_sample": True, "temperature": 1.0} if sample or images > 1 else {}
        codes = self.pipe.encode_prompt([prompt] * images, noise, options)
        drawn = self.pipe(
            codes=codes,
            num_inference_steps=steps,
            generator=noise,
            callback_on_step_end=_reporter(on_step, steps),
        )
        return drawn.images, drawn.codes.tolist()

    def redraw(self, *rows: list[int], steps: int = STEPS, seed: int = 0, on_step=None) -> list[Image.Image]:
        """One image for each row of codes, all from the same noise, so that they differ only by their codes.

        They are drawn one by one, because rounding in a batch depends on its size.
        """
        images = []
        for number, row in enumerate(rows):
            drawn = self.pipe(
                codes=torch.tensor(row),
                num_inference_steps=steps,
                generator=_generators(seed, 1),
                callback_on_step_end=_reporter(on_step, steps * len(rows), before=steps * number),
            )
            images += drawn.images
        return images

    def first(self, codes: list[int], number: int) -> list[int]:
        """The first `number` codes, followed by those of a blank white image."""
        return [*codes[:number], *self.blank[number:]]

    @torch.inference_mode()
    def nearest_codes(self, code: int, number: int) -> list[int]:
        """The codes with the nearest codebook vectors to that of `code`, without `code` itself."""
        vectors = self.pipe.visual_tokenizer.quantizer.embedding.weight.float()
        order = (vectors - vectors[code]).norm(dim=1).argsort(stable=True).tolist()
        return [other for other in order if other != code][:number]

    def prompt_tokens(self, text: str, images: int) -> int:
        """Length in tokens of a text with `<image>` placeholders."""
        codes = torch.tensor([self.blank] * images) if images else None
        return self.processor(text=text, codes=codes).input_ids.shape[1]

    def reply(self, text: str, images: list[list[int]], mode: str) -> Iterator[list[str | list[int] | int]]:
        """Continues a text with images, which are given by their codes, in `mode` "text", "image" or "interleaved".

        Yields:
            The parts written so far: text as `str`, an image as the list of its codes. An image that is not finished
            is the last part: the number of its codes so far, as `int`.
        """
        inputs = self.processor(text=text, codes=torch.tensor(images) if images else None)
        room = self.positions - inputs.input_ids.shape[1]
        for ids in self._generate(inputs, mode, min(REPLY_TOKENS, room)):
            parts = []
            for part in self.processor.post_process_multimodal_output(ids)[0]:
                if isinstance(part, TextSegment):
                    parts.append(part.text.strip())
                elif isinstance(part, CodeSegment):
                    parts.append(list(part.codes))
                else:
                    parts.append(len(ids) - part.position - 1)  # a span that has no end yet
            yield [part for part in parts if part != ""]

    def _words(self, inputs) -> Iterator[str]:
        for ids in self._generate(inputs, "text", MAX_NEW_TOKENS):
            yield self.processor.post_process_multimodal_output(ids, generation_mode="text")[0].strip()

    def _generate(self, inputs, mode: str, new_tokens: int) -> Iterator[list[int]]:
        """Yields the new ids as they grow, by greedy decoding. Closing the generator stops the model."""
        written, stop = _TokenQueue(), threading.Event()

        def generate():
            try:
                self.model.generate(
                    **inputs.to(self.model.device),
                    generation_mode=mode,
                    max_new_tokens=new_tokens,
                    do_sample=False,
                    streamer=written,
                    stopping_criteria=StoppingCriteriaList([_Stop(stop)]),
                )
            except Exception as error:
                written.queue.put(error)

        thread = threading.Thread(target=generate, daemon=True)
        thread.start()
        try:
            ids = []
            while (item := written.queue.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                ids += item
                yield ids
        finally:
            stop.set()
            thread.join()


class _TokenQueue(BaseStreamer):
    """Hands the ids that `generate` writes to another thread. The streamers of transformers hand over text."""

    def __init__(self):
        self.queue = queue.Queue()
        self.prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        if self.prompt_seen:
            self.queue.put(value.flatten().tolist())
        self.prompt_seen = True

    def end(self) -> None:
        self.queue.put(None)


class _Stop:
    def __init__(self, event: threading.Event):
        self.event = event

    def __call__(self, input_ids: torch.Tensor, scores, **kwargs) -> torch.Tensor:
        return torch.full((len(input_ids),), self.event.is_set(), device=input_ids.device)


def _generators(seed: int, count: int) -> list[torch.Generator]:
    return [generator_of(seed + i) for i in range(count)]


def _reporter(on_step: Callable[[int, int], None] | None, steps: int, before: int = 0):
    """`on_step(done, of)` as a callback of the pipeline; `before` steps were done by earlier calls."""
    if on_step is None:
        return None

    def report(pipe, step, timestep, tensors):
        on_step(before + step + 1, steps)
        return {}

    return report
