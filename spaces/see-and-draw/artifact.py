"""The model behind the page, loaded once: what it sees, says and draws, one visitor at a time."""

import os
import queue
import threading
from collections.abc import Callable, Iterator

import torch
from PIL import Image
from transformers import StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from seed_hf import SeedForConditionalGeneration, SeedImagePipeline, SeedProcessor, bundled
from seed_hf.devices import number_type, usable_device
from seed_hf.modeling.generation_seed import CodeSegment, TextSegment


NEW_TOKENS = 48  # of a caption or an answer
REPLY_TOKENS = 96  # of a chat's reply: two pictures and some words


class Artifact:
    """A [`SeedImagePipeline`] with its language model and processor.

    Args:
        source: A pipeline's folder or Hub id; the bundled seed-tiny by default.

    Raises:
        ValueError: The pipeline has no language model or no processor: it could draw codes but not read a prompt.
    """

    def __init__(self, source: str | None = None):
        self.is_seed_tiny = not source
        self.name = source or "seed-tiny"
        device = usable_device()
        pipe = SeedImagePipeline.from_pretrained(source or bundled("seed-tiny", "pipeline"), dtype=number_type(device))
        if not isinstance(pipe.seed_model, SeedForConditionalGeneration) or not isinstance(
            pipe.processor, SeedProcessor
        ):
            raise ValueError(
                f"{self.name}: the Space needs a pipeline with a SeedForConditionalGeneration and a SeedProcessor. "
                "Build it with SeedImagePipeline(seed_model=..., processor=..., ...) and save it again."
            )
        self.pipe = pipe.to(device)
        self.pipe.set_progress_bar_config(disable=True)
        self.model, self.processor = self.pipe.seed_model.eval(), self.pipe.processor
        config = self.model.config.text_config
        self.places, self.codebook_size = config.num_query_tokens, config.codebook_size
        self.positions = config.max_position_embeddings
        white = Image.new("RGB", (64, 64), "white")
        self.blank = self.encode(white)  # what stands in the places of codes that are not used

    @classmethod
    def from_environment(cls) -> "Artifact":
        """The one that the variable `SEED_ARTIFACT` names."""
        return cls(os.environ.get("SEED_ARTIFACT") or None)

    def encode(self, picture: Image.Image) -> list[int]:
        return self.pipe.encode_image(picture)[0].tolist()

    def caption(self, picture: Image.Image) -> Iterator[str]:
        """The caption as far as it is written, again and again."""
        return self._words(self.processor.caption(picture))

    def answer(self, picture: Image.Image, question: str) -> Iterator[str]:
        """The answer to a question about a picture, as far as it is written."""
        return self._words(self.processor.ask(picture, question))

    def draw(
        self,
        prompt: str,
        *,
        pictures: int = 1,
        steps: int = 25,
        seed: int = 0,
        sample: bool = False,
        on_step: Callable[[int, int], None] | None = None,
    ) -> tuple[list[Image.Image], list[list[int]]]:
        """Pictures of a prompt with the codes of each; picture i has the seed `seed + i`.

        Without `sample` the language model writes its likeliest codes, and pictures of a prompt differ in noise only.
        """
        drawn = self.pipe(
            [prompt] * pictures,
            num_inference_steps=steps,
            generator=_generators(seed, pictures),
            generation_kwargs={"do_sample": sample},
            callback_on_step_end=_reporter(on_step, steps),
        )
        return drawn.images, drawn.codes.tolist()

    def redraw(self, *rows: list[int], steps: int = 25, seed: int = 0, on_step=None) -> list[Image.Image]:
        """One picture for each row of codes, all from the same noise, so that they differ by their codes alone.

        Drawn one by one: in a batch each picture's rounding depends on how many others there are.
        """
        pictures = []
        for number, row in enumerate(rows):
            drawn = self.pipe(
                codes=torch.tensor(row),
                num_inference_steps=steps,
                generator=_generators(seed, 1),
                callback_on_step_end=_reporter(on_step, steps * len(rows), before=steps * number),
            )
            pictures += drawn.images
        return pictures

    def first(self, codes: list[int], number: int) -> list[int]:
        """The first `number` codes; the other places hold the codes of a blank white picture."""
        return [*codes[:number], *self.blank[number:]]

    @torch.inference_mode()
    def nearest_codes(self, code: int, number: int) -> list[int]:
        """The codes whose codebook vectors are nearest to that of `code`, which is not among them."""
        vectors = self.pipe.visual_tokenizer.quantizer.embedding.weight.float()
        order = (vectors - vectors[code]).norm(dim=1).argsort(stable=True).tolist()
        return [other for other in order if other != code][:number]

    def prompt_tokens(self, text: str, images: int) -> int:
        """How many positions of the language model a text with `<image>` placeholders takes."""
        codes = torch.tensor([self.blank] * images) if images else None
        return self.processor(text=text, codes=codes).input_ids.shape[1]

    def reply(self, text: str, images: list[list[int]], mode: str) -> Iterator[list[str | list[int] | int]]:
        """Goes on from a text with pictures, given by their codes, in `mode` "text", "image" or "interleaved".

        Yields:
            What there is so far: words as `str`, a picture as the list of its codes, and as the last part an `int` for
            a picture of which so many codes are written.
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
        for ids in self._generate(inputs, "text", NEW_TOKENS):
            yield self.processor.post_process_multimodal_output(ids, generation_mode="text")[0].strip()

    def _generate(self, inputs, mode: str, new_tokens: int) -> Iterator[list[int]]:
        """The new ids as far as they are written, greedily. Whoever stops listening stops the model too."""
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
    """The ids that `generate` writes, for another thread. transformers' own streamers hand out text, not ids."""

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
    return [torch.Generator("cpu").manual_seed(seed + i) for i in range(count)]


def _reporter(on_step: Callable[[int, int], None] | None, steps: int, before: int = 0):
    """`on_step(done, of)` in the form in which a pipeline calls back, after `before` steps of other calls."""
    if on_step is None:
        return None

    def report(pipe, step, timestep, tensors):
        on_step(before + step + 1, steps)
        return {}

    return report
