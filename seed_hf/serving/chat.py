"""Answers to a chat, whole or as a stream of events, in OpenAI's form. Drawn images stand beside the text."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi.responses import StreamingResponse

from .chat_prompt import Turn, prompt_ids, row_of
from .errors import FAILED, RequestError
from .schemas import Chat
from .served import Drawing
from .service import Service, together
from .writing import Row, Written


# A proxy between, such as nginx, hands the events on as they come.
_AS_WRITTEN = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class _Completion:
    """The objects of one answer.

    Args:
        identity: Of the answer.
        created: Unix time.
        model: Name.
    """

    def __init__(self, identity: str, created: int, model: str):
        self.head = {"id": identity, "created": created, "model": model}

    def chunk(self, delta: dict[str, Any], reason: str | None = None, **more: Any) -> dict[str, Any]:
        """A piece of a stream.

        Args:
            delta: What is new.
            reason: `finish_reason`.
            more: Other fields of the object.
        """
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {**self.head, "object": "chat.completion.chunk", "choices": [choice], **more}

    def usage_chunk(self, usage: dict[str, int]) -> dict[str, Any]:
        """The last piece of a stream that was asked for it.

        Args:
            usage: Counts of tokens.
        """
        return {**self.head, "object": "chat.completion.chunk", "choices": [], "usage": usage}

    def whole(self, message: dict[str, Any], reason: str, usage: dict[str, int], **more: Any) -> dict[str, Any]:
        """The answer in one piece.

        Args:
            message: Of the assistant.
            reason: `finish_reason`.
            usage: Counts of tokens.
            more: Other fields of the object.
        """
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
        return {**self.head, "object": "chat.completion", "choices": [choice], "usage": usage, **more}


def _image_part(png: str, codes: list[int], position: int, seed: int) -> dict[str, Any]:
    """A drawn image in an answer. A client may send it back as it is: then its codes are read.

    Args:
        png: Base64.
        codes: That the model wrote.
        position: Characters of the text before it.
        seed: That it was drawn with.
    """
    url = {"url": f"data:image/png;base64,{png}"}
    return {"type": "image_url", "image_url": url, "codes": codes, "position": position, "seed": seed}


async def complete_chat(service: Service, asked: Chat) -> Any:
    """The answer to a chat: an object, or a stream of events.

    Args:
        service: The model and its queue.
        asked: By the client.

    Raises:
        RequestError: The chat cannot be answered.
    """
    service.check_model(asked.model)
    turns = await _turns(service, asked)
    how = service.drawing(asked.steps, asked.guidance, None) if asked.mode != "text" else None
    seed = asked.seed or 0
    ids = await service.help(prompt_ids, service.served.processor, turns, asked.mode)
    row = row_of(
        service.served,
        ids,
        asked.mode,
        asked.max_completion_tokens or asked.max_tokens,
        temperature=asked.temperature,
        top_p=asked.top_p,
        seed=secrets.randbits(62) if asked.seed is None else asked.seed,
        stop=tuple([asked.stop] if isinstance(asked.stop, str) else asked.stop or ()),
    )
    answer = _Completion(f"chatcmpl-{secrets.token_hex(12)}", int(time.time()), service.served.name)
    notes = service.notes(*(part for _, parts in turns[-1:] for part in parts if isinstance(part, str)))
    parts = _parts(service, row, how, seed)
    if asked.stream:
        usage = asked.stream_options is not None and asked.stream_options.include_usage
        events = _events(parts, answer, len(ids), usage, notes)
        return _Events(events, headers=_AS_WRITTEN, media_type="text/event-stream")
    text, images, end = "", [], Written("stop", 0)
    async with aclosing(parts):
        async for part in parts:
            if isinstance(part, Written):
                end = part
            elif isinstance(part, str):
                text += part
            else:
                images.append(part)
    message: dict[str, Any] = {"role": "assistant", "content": text if text or not images else None, "refusal": None}
    if images:
        message["images"] = images
    return answer.whole(message, end.reason, _usage(len(ids), end), **notes)


async def _turns(service: Service, asked: Chat) -> list[Turn]:
    """The messages with codes in the place of images."""
    contents = [message.parts() for message in asked.messages]
    flat = [part for parts in contents for part in parts]
    images = [part for part in flat if part.type != "text"]
    service.check_images(len(images))
    service.check_text(*(part.text for part in flat if part.type == "text"))
    found = dict(zip(map(id, images), await together([service.codes(image) for image in images])))
    roles = ["system" if message.role == "developer" else message.role for message in asked.messages]
    return [
        (role, [part.text if part.type == "text" else found[id(part)] for part in parts])
        for role, parts in zip(roles, contents)
    ]


async def _parts(service: Service, row: Row, how: Drawing | None, seed: int) -> AsyncGenerator[Any, None]:
    """Texts and drawn images as they come, and how the reply ended."""
    queue: asyncio.Queue[Any] = asyncio.Queue()

    async def write() -> Written:
        try:
            return await service.batches.run("write", row, row.key, queue.put_nowait)
        finally:
            queue.put_nowait(None)

    task = asyncio.ensure_future(write())
    characters = drawn = 0
    try:
        while (part := await queue.get()) is not None:
            if isinstance(part, str):
                characters += len(part)
            else:
                assert how is not None  # text alone has no images
                part = _image_part(await service.draw(part, seed + drawn, how), part, characters, seed + drawn)
                drawn += 1
            yield part
        yield await task
    finally:
        task.cancel()


async def _events(
    parts: Any, answer: _Completion, prompt: int, usage: bool, notes: dict[str, Any]
) -> AsyncIterator[str]:
    yield _event(answer.chunk({"role": "assistant", "content": ""}, **notes))
    try:
        async with aclosing(parts):
            async for part in parts:
                if isinstance(part, Written):
                    yield _event(answer.chunk({}, part.reason))
                    if usage:
                        yield _event(answer.usage_chunk(_usage(prompt, part)))
                else:
                    yield _event(answer.chunk({"content": part} if isinstance(part, str) else {"images": [part]}))
    except Exception:  # it is in the log
        yield _event(RequestError(FAILED, 500).body())
        return
    yield "data: [DONE]\n\n"


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content)}\n\n"  # in ASCII: many clients end a line at U+2028, too


def _usage(prompt: int, end: Written) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": end.tokens, "total_tokens": prompt + end.tokens}


class _Events(StreamingResponse):
    async def stream_response(self, send: Any) -> None:
        async with aclosing(self.body_iterator):  # type: ignore[type-var] # an async generator
            await super().stream_response(send)


__all__ = ["complete_chat"]
