"""What a model generates, while it generates it: text as it comes, and an image when its span is complete."""

import re
from queue import Queue

import torch
from transformers.generation.streamers import BaseStreamer

from .generation_seed import CodeSegment, Defect, TextSegment, parse_segments


# One byte of a character that the text tokenizer of a Llama has no token for.
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


class SeedStreamer(BaseStreamer):
    r"""An iterator over the segments of one row, for `generate(..., streamer=streamer)` in another thread.

    It gives a [`TextSegment`] for every piece of text, a [`CodeSegment`] for every image span that is complete, and a
    [`Defect`] for what is neither. All of them together are what `post_process_multimodal_output` reads of the whole
    row, with texts that follow each other put together. Half a character waits for its other half, and characters
    that a Llama's text tokenizer writes as bytes wait for the end of these bytes.

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
        self.skipped = set(processor.tokenizer.all_special_ids) if skip_special_tokens else set()
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
        skips, self.at_prompt = self.at_prompt and self.skip_prompt, False
        for token in value.flatten().tolist():
            if not skips:
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
        self._begin_text()
        self.span: list[int] = []
        self.start = 0  # of the span

    def _begin_text(self) -> None:
        self.text_ids: list[int] = []  # that were not given
        # The ids that were given last, and their text: what follows is decoded after them, not after the whole text.
        self.before: list[int] = []
        self.text_before = ""

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
        if self.text_ids:
            text = self._decode(self.before + self.text_ids)
            # Bytes in a row are read together: what they are is known when something else follows.
            open_end = text.endswith("\ufffd") or self._ends_with_byte()
            new = text[len(self.text_before) :]
            if new and (whole or not open_end):
                ids, self.text_ids = self.text_ids, []
                self.queue.put(TextSegment(self.position - len(ids) + (not whole), ids, new))
                self.before, self.text_before = ids, self._decode(ids)
        if whole:
            self._begin_text()

    def _decode(self, ids: list[int]) -> str:
        return self.processor.tokenizer.decode(ids, skip_special_tokens=self.skip_special_tokens)

    def _ends_with_byte(self) -> bool:
        last = next((token for token in reversed(self.text_ids) if token not in self.skipped), None)
        name = None if last is None else self.processor.tokenizer.convert_ids_to_tokens(last)
        return name is not None and _BYTE.fullmatch(name) is not None

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
