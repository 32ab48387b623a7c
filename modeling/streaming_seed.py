"""What a model generates, while it generates it: text as it comes, and an image when its span is complete."""

from queue import Queue

import torch
from transformers.generation.streamers import BaseStreamer

from .generation_seed import CodeSegment, Defect, TextSegment, parse_segments


class SeedStreamer(BaseStreamer):
    r"""An iterator over the segments of one row, for `generate(..., streamer=streamer)` in another thread.

    It gives a [`TextSegment`] for every piece of text, a [`CodeSegment`] for every image span that is complete, and a
    [`Defect`] for what is neither. All of them together are what `post_process_multimodal_output` reads of the whole
    row, with texts that follow each other put together.

    Args:
        processor ([`SeedProcessor`]): Decodes text, and knows the visual tokens.
        skip_prompt (`bool`, *optional*, defaults to `True`): Whether only new tokens are given.
        skip_special_tokens (`bool`, *optional*, defaults to `True`): Whether bos, eos and padding are left out.
        timeout (`float`, *optional*): Seconds to wait for the next segment; then [`queue.Empty`] is raised.

    Example:

    ```python
    streamer = SeedStreamer(processor)
    Thread(target=model.generate, kwargs={**inputs, "generation_mode": "interleaved", "streamer": streamer}).start()
    for part in streamer:
        print(part.codes if part.type == "image" else part.text)
    ```
    """

    def __init__(
        self, processor, skip_prompt: bool = True, skip_special_tokens: bool = True, timeout: float | None = None
    ):
        self.processor, self.skip_prompt, self.timeout = processor, skip_prompt, timeout
        self.skip_special_tokens = skip_special_tokens
        self.queue: Queue[TextSegment | CodeSegment | Defect | None] = Queue()
        self.position, self.at_prompt = 0, True
        self._begin()

    def put(self, value: torch.Tensor) -> None:
        """Takes the prompt, then token after token; `generate` calls it.

        Args:
            value: Ids `(1, length)` or `(1,)`.

        Raises:
            ValueError: More than one row.
        """
        if value.ndim > 1 and len(value) > 1:
            raise ValueError(f"A streamer follows one row, got {len(value)}.")
        skipped, self.at_prompt = self.at_prompt and self.skip_prompt, False
        for token in value.flatten().tolist():
            if not skipped:
                self._take(token)
            self.position += 1

    def end(self) -> None:
        """Gives what is left, and ends the iteration; `generate` calls it."""
        self._give_text(whole=True)
        self._give_span()
        self.queue.put(None)

    def __iter__(self):
        return self

    def __next__(self) -> TextSegment | CodeSegment | Defect:
        segment = self.queue.get(timeout=self.timeout)
        if segment is None:
            raise StopIteration
        return segment

    def _begin(self) -> None:
        self.text_ids: list[int] = []
        self.given, self.first = "", 0  # text that was given, and the first of the ids that were not
        self.span: list[int] = []
        self.start = 0  # of the span

    def _take(self, token: int) -> None:
        vocabulary = self.processor.vocabulary
        if vocabulary.is_text(token):
            self._give_span(ends=False)
            self.text_ids.append(token)
            self._give_text()
            return
        if token == vocabulary.boi_token_id or not self.span:
            self._give_text(whole=True)
            self._give_span(ends=False)
        if not self.span:
            self.start = self.position
        self.span.append(token)
        if token == vocabulary.eoi_token_id:
            self._give_span()

    def _give_text(self, whole: bool = False) -> None:
        """Text that no later token can change: not the bytes of half a character, unless the text is whole."""
        text = self.processor.tokenizer.decode(self.text_ids, skip_special_tokens=self.skip_special_tokens)
        if text.endswith("\ufffd") and not whole:
            return
        if new := text[len(self.given) :]:
            ids = self.text_ids[self.first :]
            self.queue.put(TextSegment(self.position - len(ids) + (not whole), ids, new))
            self.given, self.first = text, len(self.text_ids)
        if whole:
            self.text_ids, self.given, self.first = [], "", 0

    def _give_span(self, ends: bool = True) -> None:
        """What is not text; `ends` if nothing follows it that could have finished it."""
        if not self.span:
            return
        for part in parse_segments(self.span, self.processor.vocabulary).parts:
            part.position += self.start
            if isinstance(part, Defect) and part.kind == "unfinished_span" and not ends:
                part.kind = "broken_span"
            self.queue.put(part)
        self.span = []


__all__ = ["SeedStreamer"]
