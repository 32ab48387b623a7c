"""A chat as the model was trained on it: the ids that it continues."""

from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError

from seed_hf.modeling.visual_tokens_seed import IMAGE_TOKEN

from .errors import RequestError
from .served import ServedModel
from .writing import Row


# Of a reply: enough for two images and some words.
REPLY_TOKENS = 96

Turn = tuple[str, list[str | list[int]]]  # role, and texts and images in order; an image is its codes


def prompt_ids(processor: Any, turns: Sequence[Turn], mode: str) -> list[int]:
    """The ids of a chat that the model continues.

    A request for an image is written as a drawing prompt: alone as in training, at the end of a chat behind it. To
    change an image that comes with the request is a chat, as in the instruction stage.

    Args:
        processor: Of the model; it knows the format.
        turns: Of the chat.
        mode: `generation_mode` of what follows.

    Raises:
        RequestError: No content; a text with the placeholder of images; an image is asked for without words.
    """
    texts = [part for _, parts in turns for part in parts if isinstance(part, str)]
    if any(IMAGE_TOKEN in text for text in texts):
        raise RequestError(f"{IMAGE_TOKEN} stands for an image and cannot be written. Send the image instead.")
    if not any(part for _, parts in turns for part in parts):
        raise RequestError("The messages are empty.", param="messages")
    if mode != "image":
        return _rendered(processor, turns, asks=True)
    role, last = turns[-1]
    words = " ".join(part for part in last if isinstance(part, str)).strip()
    if role != "user" or not words:
        raise RequestError("The last message must say in words what to draw.", param="messages")
    if any(not isinstance(part, str) for part in last):
        return _rendered(processor, turns, asks=True)
    before = turns[:-1]
    if not before:
        return processor.sequences.prompt("draw", text=words)
    prompt = f"{processor.image_prompt} {words}".strip()
    if processor.sequences.format.turns.questions:  # there is no turn around a drawing prompt
        return _rendered(processor, before, asks=False, after=f" {prompt}")
    return _rendered(processor, [*before, ("user", [prompt])], asks=True)


def _rendered(processor: Any, turns: Sequence[Turn], asks: bool, after: str = "") -> list[int]:
    messages = [
        {
            "role": role,
            "content": [
                {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"} for part in parts
            ],
        }
        for role, parts in turns
    ]
    try:
        text = processor.apply_chat_template(messages, add_generation_prompt=asks) + after
    except TemplateError as error:  # for example of roles that must take turns
        raise RequestError(
            f"The chat template of this model refuses these messages: {error}.", param="messages"
        ) from error
    codes = [part for _, parts in turns for part in parts if not isinstance(part, str)]
    inputs = processor(text=text, codes=codes or None, return_tensors=None, padding=False)
    return list(inputs["input_ids"][0])


def row_of(
    served: ServedModel,
    ids: list[int],
    mode: str,
    asked: int | None = None,
    *,
    param: str = "messages",
    **sampling: Any,
) -> Row:
    """What the model is asked to write.

    Args:
        served: Has so many positions.
        ids: Of the prompt.
        mode: As of [`Row`].
        asked: New tokens; as many as fit, up to `REPLY_TOKENS`, by default.
        param: The field of the request that the prompt is from.
        sampling: Other fields of a [`Row`].

    Raises:
        RequestError: There is no room for so much.
    """
    span = served.places + 2  # <img>, codes, </img>; the end takes one more
    room = served.positions - len(ids)
    lower = "" if asked is None else " or lower max_tokens"
    least = span if mode == "image" else 1
    if asked is None:
        asked = min(span + 1 if mode == "image" else REPLY_TOKENS, max(room, least))
    elif asked < least:
        raise RequestError(f"An image takes {span} tokens, and at most {asked} were asked for.", param="max_tokens")
    if asked > room:
        raise RequestError(
            f"This model's context is {served.positions} tokens. The prompt has {len(ids)}, {served.places + 2} for "
            f"each image, and up to {asked} shall follow. Shorten the {param}{lower}.",
            param=param,
            code="context_length_exceeded",
        )
    return Row(ids, mode, asked, **sampling)


__all__ = ["REPLY_TOKENS", "Turn", "prompt_ids", "row_of"]
