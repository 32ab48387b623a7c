"""Limits of a single request, and the messages of requests beyond them."""

import os
from collections.abc import Callable

import gradio as gr


FILE_SIZE = "8mb"  # of an upload; Gradio refuses larger ones before they are stored
PIXELS = 24_000_000  # of an image, read from its header: a small file may hold a huge image
CHARACTERS = 200  # of a prompt, a question or a message
IMAGES = 4  # drawn at once
STEPS = 50
SEED = 2**31 - 1
TURNS = 20  # kept of a conversation
MESSAGES = 2 * TURNS  # shown on the page: a turn may be an image and words
WAITING = 24  # length of the queue
KEPT = int(os.environ.get("SEED_SPACE_KEPT", 30 * 60))  # seconds that images stay on the server
MINUTES = -(-KEPT // 60)  # the same in minutes, for messages


def checked_text(text: str | None, what: str, fault: Callable[[str], str | None] = lambda text: None) -> str:
    """The text without surrounding spaces.

    Raises:
        gr.Error: It is empty, no text, or too long, also in tokens, as `fault` says. `what` names it in the message:
            "prompt", "question" or "message".
    """
    text = (text or "").strip()
    if not text:
        raise Refusal(f"The {what} is empty. Write a few words first.")
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which no tokenizer takes
        raise Refusal(f"The {what} has half a character in it. Delete that.") from None
    if len(text) > CHARACTERS:
        raise Refusal(f"The {what} has {len(text)} characters; at most {CHARACTERS} are read. Shorten it.")
    if reason := fault(text):
        raise Refusal(f"The {what} is {reason}. Shorten it.")
    return text


def checked_number(number: float | None, what: str, low: int, high: int) -> int:
    """A whole number of a form field.

    Raises:
        gr.Error: The field is empty, or does not hold a whole number from `low` to `high`.
    """
    if number is None or not low <= number <= high or number != int(number):
        given = "empty" if number is None else f"{number:g}"
        raise Refusal(f"The {what} is {given}. Give a whole number from {low} to {high}.")
    return int(number)


class Refusal(gr.Error):
    """An error that the visitor can correct: shown on the page, without a traceback in the log."""

    def __init__(self, message: str):
        super().__init__(message, title="This cannot be done", duration=15, print_exception=False)
