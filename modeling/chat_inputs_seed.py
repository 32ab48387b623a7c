"""What a chat gives to a call of the processor: its images, their codes, and the options."""

import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers.processing_utils import ProcessorMixin

from .processor_options_seed import GROUPS, TEXT_OPTIONS


@dataclass(frozen=True)
class LastTurn:
    """In a call for a chat, the `end_text` that is not false: eos comes in place of what the template puts behind it.

    Args:
        behind: A line break, or nothing. A template of one's own is taken to put one there.
    """

    behind: str


_ROLES = ("system", "user", "assistant")
_PARTS = ("text", "image", "image_url")
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
    if call.get("end_text") and given.get("add_generation_prompt"):
        raise ValueError("end_text ends what the assistant has said, and add_generation_prompt asks for it: give one.")
    if given.get("return_assistant_tokens_mask") and not (given.get("tokenize") and given.get("return_dict")):
        raise ValueError("return_assistant_tokens_mask needs tokenize=True and return_dict=True.")
    if given.get("sanitize_control_tokens"):
        if "sanitize_control_tokens" not in inspect.signature(ProcessorMixin.apply_chat_template).parameters:
            raise ValueError("This transformers has no sanitize_control_tokens: it needs a newer one.")
    else:
        given.pop("sanitize_control_tokens", None)
    return call, given


def check_chat(
    conversation,
    templates: str | dict[str, str] | None,
    asked: str | None,
    written: str,
    options: dict[str, Any],
    end_text: bool,
) -> None:
    """Raises `ValueError` for a chat that its template would not write as it is meant.

    Args:
        conversation: Messages, or a list of conversations.
        templates: That of the processor, or several by name.
        asked: Of the call: a name, a template, or nothing.
        written: The one of the processor's format. A template of one's own may know more.
        end_text: Whether the call writes eos.
        options: Of the template; `bos_token` and `eos_token` are set.
    """
    if isinstance(templates, dict):
        template = templates.get(asked or "default", asked)
    else:
        template = templates if asked is None else asked
    if options.get("return_assistant_tokens_mask"):
        check_marks_the_assistant(template)
    if template == written:
        check_messages(conversation, options)
    for name in ("bos_token", "eos_token"):
        if template is not None and name in template and (name == "bos_token" or end_text):
            options.setdefault(name, "")  # a call writes it: as a token, where a template can only spell it


def check_end_text(end_text: Any, begin_image: bool | None, tokenizer) -> None:
    """Raises `ValueError` if a text cannot end with eos.

    Args:
        end_text, begin_image: Of the call.
        tokenizer: The text tokenizer.
    """
    if end_text and begin_image:
        raise ValueError("begin_image goes on with an image, and end_text ends the text: give one.")
    if end_text and tokenizer.eos_token_id is None:
        raise ValueError("end_text needs an eos token, and the text tokenizer has none. Set tokenizer.eos_token.")


def ended(texts: list[str], end_text: Any) -> list[str]:
    """Texts without what a chat's template puts behind the last turn, where eos follows instead.

    Args:
        texts: As the call gets them.
        end_text: Of the call; a [`LastTurn`] in one for a chat.
    """
    return [text.removesuffix(end_text.behind) for text in texts] if isinstance(end_text, LastTurn) else texts


def with_masks(out: dict[str, Any], conversation, eos_token_id: int | None) -> dict[str, Any]:
    """What a chat became, with `assistant_masks` in the form of its ids.

    Args:
        out: With `input_ids` and `assistant_masks`.
        conversation: Messages, or a list of conversations.
        eos_token_id: What ends each row that was not cut; the assistant said it if the last message is its own. `None`
            if it was not asked for.

    Raises:
        ValueError: Nothing tells where rows end.
    """
    masks, ended = out["assistant_masks"], eos_token_id is not None
    if ended and "attention_mask" not in out:
        raise ValueError("return_assistant_tokens_mask with end_text needs return_attention_mask=True.")
    chats = conversation if isinstance(conversation[0], (list, tuple)) else [conversation]
    for chat, mask, ids, kept in zip(chats, masks, out["input_ids"], out["attention_mask"] if ended else ()):
        last = max(place for place, is_token in enumerate(kept) if is_token)
        if ids[last] == eos_token_id:
            mask[last] = int(chat[-1].get("role") == "assistant")
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


__all__ = ["LastTurn", "check_chat", "check_end_text", "codes_of_chat", "ended", "options_of_chat", "with_masks"]
