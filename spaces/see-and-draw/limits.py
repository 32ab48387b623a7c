"""What one visitor may ask for at once, and the messages for those who ask for more."""

import os

import gradio as gr


FILE_SIZE = "8mb"  # of an upload; Gradio refuses larger ones before they are stored
PIXELS = 24_000_000  # of a picture, told by its header: small files may hold huge pictures
CHARACTERS = 200  # of a prompt, a question or a message
PICTURES = 4  # drawn at once
STEPS = 50
SEED = 2**31 - 1
TURNS = 20  # that a conversation keeps
MESSAGES = 2 * TURNS  # that the page shows of it: a turn may be a picture and words
WAITING = 24  # visitors in the queue; the next one is told that it is full
KEPT = int(os.environ.get("SEED_SPACE_KEPT", 30 * 60))  # seconds that pictures stay on the server
MINUTES = -(-KEPT // 60)  # the same, for visitors to read


def checked_text(text: str | None, what: str) -> str:
    """The text without spaces around it.

    Raises:
        gr.Error: It is empty or too long. `what` names it in the message: "prompt", "question", "message".
    """
    text = (text or "").strip()
    if not text:
        raise Refusal(f"The {what} is empty. Write a few words first.")
    if len(text) > CHARACTERS:
        raise Refusal(f"The {what} has {len(text)} characters; at most {CHARACTERS} are read. Shorten it.")
    return text


def checked_number(number: float | None, what: str, low: int, high: int) -> int:
    """A whole number of a form field.

    Raises:
        gr.Error: The field is empty, or the number is no whole one from `low` to `high`.
    """
    if number is None or number != int(number) or not low <= number <= high:
        given = "empty" if number is None else f"{number:g}"
        raise Refusal(f"The {what} is {given}. Give a whole number from {low} to {high}.")
    return int(number)


class Refusal(gr.Error):
    """Something that the visitor can mend: shown on the page, no traceback in the server's log."""

    def __init__(self, message: str):
        super().__init__(message, title="This cannot be done", duration=15, print_exception=False)
