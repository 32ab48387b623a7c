"""What a chat gives to a call of the processor: its images, their codes, and the options."""

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from transformers.processing_utils import ProcessorMixin

from .processor_options_seed import GROUPS, TEXT_OPTIONS


_ROLES = ("system", "user", "assistant")
_PARTS = ("text", "image", "image_url")
LAST_TURN = "last turn"
_OWN_OPTIONS = {"codes", "begin_image", "end_text"}
# Of transformers' `apply_chat_template` itself.
_OF_THE_CHAT = {"sanitize_control_tokens"}


def check_messages(conversation, options: Mapping[str, Any]) -> None:
    """Raises `ValueError` for a chat that `chat_templates_seed` would write without a part, or with another role.

    Args:
        conversation: Messages with `role` and `content`, or a list of conversations.
        options: Of the template.
    """
    if unused := [name for name in ("tools", "documents") if options.get(name)]:
        raise ValueError(
            f"{' and '.join(unused)} would not be read: SEED's formats have turns of text and images alone."
        )
    if not conversation:
        raise ValueError("The chat is empty: give at least one message.")
    chats = conversation if isinstance(conversation[0], (list, tuple)) else [conversation]
    for chat in chats:
        for number, message in enumerate(chat):
            given = message if isinstance(message, Mapping) else {}
            if given.get("role") not in _ROLES or "content" not in given:
                raise ValueError(
                    f"Message {number} of the chat needs content and a role, {', '.join(_ROLES)}; got {message!r:.80}."
                )
            content = given["content"]
            for part in content if isinstance(content, (list, tuple)) else []:
                kind = part.get("type") if isinstance(part, Mapping) else None
                no_text = kind == "text" and not isinstance(part.get("text"), str)
                no_image = kind == "image_url" and "image_url" not in part  # the template would leave it out
                if kind not in _PARTS or no_text or no_image:
                    raise ValueError(
                        f"Message {number} of the chat has a part that is neither text nor an image: {part!r:.80}. "
                        'Write {"type": "text", "text": ...}, {"type": "image", "image": ...} or '
                        '{"type": "image_url", "image_url": {"url": ...}}.'
                    )


def codes_of_chat(conversation) -> list | None:
    """For each image of a chat, or of several, its codes; `None` if no image is given by its codes.

    Args:
        conversation: Messages with `role` and `content`, or a list of conversations.
    """
    chats = conversation if conversation and isinstance(conversation[0], (list, tuple)) else [conversation]
    contents = [message.get("content") for chat in chats for message in chat]
    parts = [part for content in contents if not isinstance(content, str) for part in content or ()]
    codes = [part.get("codes") for part in parts if part.get("type") in ("image", "image_url")]
    return codes if any(each is not None for each in codes) else None


def options_of_chat(given: dict[str, Any], image_options: Iterable[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of the processor's call, and those of the template.

    Args:
        given: The arguments of `apply_chat_template`. Options of the call may stand among them or in
            `processor_kwargs`, as in transformers.
        image_options: The names that the image processor knows.

    Raises:
        ValueError: An option is in both places; a mask of what the assistant said without the inputs it belongs to; an
            option that the installed transformers does not know.
    """
    call = dict(given.pop("processor_kwargs", None) or {})
    known = {*TEXT_OPTIONS, *GROUPS, *_OWN_OPTIONS, *image_options} - _OF_THE_CHAT
    for name in [name for name in given if name in known]:
        if name in call:
            raise ValueError(f"{name} was passed two times: in processor_kwargs and by its name. Give it once.")
        call[name] = given.pop(name)
    if call.get("end_text"):
        call["end_text"] = LAST_TURN
    if given.get("return_assistant_tokens_mask") and not (given.get("tokenize") and given.get("return_dict")):
        raise ValueError("return_assistant_tokens_mask needs tokenize=True and return_dict=True.")
    if given.get("sanitize_control_tokens"):
        if "sanitize_control_tokens" not in inspect.signature(ProcessorMixin.apply_chat_template).parameters:
            raise ValueError("This transformers has no sanitize_control_tokens: it needs a newer one.")
    else:
        given.pop("sanitize_control_tokens", None)
    return call, given


def check_chat(
    conversation, templates: str | dict[str, str] | None, asked: str | None, written: str, options: dict[str, Any]
) -> None:
    """Raises `ValueError` for a chat that its template would not write as it is meant.

    Args:
        conversation: Messages, or a list of conversations.
        templates: That of the processor, or several by name.
        asked: Of the call: a name, a template, or nothing.
        written: The one of the processor's format. A template of one's own may know more.
        options: Of the template; `bos_token` is set.
    """
    if isinstance(templates, dict):
        template = templates.get(asked or "default", asked)
    else:
        template = templates if asked is None else asked
    if options.get("return_assistant_tokens_mask"):
        check_marks_the_assistant(template)
    if template == written:
        check_messages(conversation, options)
    if template is not None and "bos_token" in template:
        options.setdefault("bos_token", "")  # a call writes it: as a token, where a template can only spell it


def ended(texts: list[str], end_text: Any) -> list[str]:
    """Texts without the line break that a chat's template puts behind the last turn, where eos follows instead.

    Args:
        texts: As the call gets them.
        end_text: Of the call; `LAST_TURN` in one for a chat.
    """
    return [text.removesuffix("\n") for text in texts] if end_text == LAST_TURN else texts


def with_masks(out: dict[str, Any], ended: bool) -> dict[str, Any]:
    """What a chat became, with `assistant_masks` in the form of its ids.

    Args:
        out: With `input_ids` and `assistant_masks`.
        ended: Whether the last token of each row is eos. After what the assistant said, it belongs to that.

    Raises:
        ValueError: Nothing tells where rows end.
    """
    masks = out["assistant_masks"]
    if ended and "attention_mask" not in out:
        raise ValueError("return_assistant_tokens_mask with end_text needs return_attention_mask=True.")
    for mask, kept in zip(masks, out["attention_mask"] if ended else ()):
        last = max(place for place, is_token in enumerate(kept) if is_token)
        mask[last] = mask[last - 1]
    if not isinstance(out["input_ids"], list):
        values = torch.tensor(masks)
        out["assistant_masks"] = values if isinstance(out["input_ids"], torch.Tensor) else values.numpy()
    return out


def check_marks_the_assistant(template: str | None) -> None:
    """Raises `ValueError` if a template does not mark what the assistant says.

    Args:
        template: Jinja template of a chat.
    """
    if template is None or not re.search(r"\{%-?\s*generation\s*-?%\}", template):
        raise ValueError(
            "return_assistant_tokens_mask needs a chat template with {% generation %} around what the assistant says. "
            "This one has none; it may come from an earlier version. Set processor.chat_template = "
            "written_chat_template(prompt_format=processor.prompt_format), of seed_hf.modeling.prompts_seed, or mark "
            "what is said in your own."
        )


__all__ = ["check_chat", "codes_of_chat", "ended", "options_of_chat", "with_masks"]
