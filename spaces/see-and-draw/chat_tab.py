"""Chat: several turns, with words and images both ways."""

import os

import gradio as gr

from artifact import Artifact
from limits import MESSAGES, MINUTES, TURNS, Refusal, checked_text
from seed_hf.modeling.processing_seed import IMAGE_TOKEN
from uploads import read_image, uploaded


MODES = {"Words": "text", "An image": "image", "Words or images": "interleaved"}
NOTHING = "(The model's reply is empty. Try another kind of answer.)"
DELETED = f"(An image, which was deleted after {MINUTES} minutes.)"
FORGOT = "(The conversation is longer than the model can read. Its first turns were left out.)"


class Conversation:
    """The events of the tab. A turn is {"role", "parts"}; a part is a text, or the list of an image's codes.

    Images themselves are not kept. A message becomes a turn with its answer: without one, if the visitor left or the
    model failed, the next message would follow another of the user, which many chat templates refuse.
    """

    def __init__(self, artifact: Artifact):
        self.artifact = artifact

    def reply(self, message, wanted, turns, messages):
        text, codes, path = self.read(message, wanted)
        parts = ([codes] if codes else []) + ([text] if text else [])
        note = self.artifact.note(text)
        prompt, images, shortened = self.as_prompt(turns, parts, MODES[wanted])
        messages = [
            *map(still_there, messages),
            *([said("user", {"path": path})] if path else []),
            *([said("user", text)] if text else []),
        ]
        if shortened:
            messages = [*messages, said("assistant", FORGOT)]
        if note:
            messages = [*messages, said("assistant", note)]
        yield turns, messages, messages, None
        written = []
        for written in self.artifact.reply(prompt, images, MODES[wanted]):
            yield turns, messages, [*messages, *map(self.as_message, written)], None
        answer = [part for part in written if not isinstance(part, int)]
        turns = [*turns, {"role": "user", "parts": parts}, {"role": "assistant", "parts": answer}]
        for part in answer:
            messages = [*messages, self.as_message(part) if isinstance(part, str) else self.drawing(part)]
        if not answer:
            messages = [*messages, said("assistant", NOTHING)]
        messages = messages[-MESSAGES:]
        yield turns[-TURNS:], messages, messages, None

    def read(self, message, wanted):
        """Text, codes and file of the image. Either the text or the image may be missing."""
        files = message.get("files") or []
        if len(files) > 1:
            raise Refusal(f"{len(files)} images in one message. Send them one by one.")
        text = message.get("text") or ""
        if text.strip() or not files:
            text = checked_text(text, "message")
        if IMAGE_TOKEN in text:
            raise Refusal(f"{IMAGE_TOKEN} stands for an image and cannot be written. Attach an image instead.")
        if MODES[wanted] == "image" and not text:
            raise Refusal("Say in words what to draw.")
        path = uploaded(files[0]) if files else None
        return text, self.artifact.encode(read_image(path)) if path else [], path

    def as_prompt(self, turns, parts, mode):
        """The conversation as the model was trained on it: its last turns, as many as fit.

        A drawing is asked for anew, without the turns before it.
        """
        if mode == "image":
            turns = []
        spare = self.artifact.places + 4  # tokens left for the reply: an image, or some words
        for start in range(0, len(turns) + 1, 2):  # a question without its answer, or the other way round, is no chat
            text, images = self.rendered(turns[start:], parts, mode)
            if self.artifact.prompt_tokens(text, len(images)) + spare <= self.artifact.positions:
                return text, images, start > 0
        raise Refusal("This message is longer than the model can read. Shorten it.")

    def rendered(self, turns, parts, mode):
        conversation = [*turns, {"role": "user", "parts": parts}]
        images = [part for turn in conversation for part in turn["parts"] if not isinstance(part, str)]
        if mode == "image" and not images:  # what to draw has a format of its own; to change an image is a chat
            return f"{self.artifact.processor.image_prompt} {parts[-1]}".strip(), []
        messages = [{"role": turn["role"], "content": content(turn["parts"])} for turn in conversation]
        return self.artifact.processor.apply_chat_template(messages, add_generation_prompt=True), images

    def as_message(self, part):
        if isinstance(part, str):
            return said("assistant", part)
        done = part if isinstance(part, int) else self.artifact.places
        return said("assistant", f"(drawing: {min(done, self.artifact.places)} of {self.artifact.places} codes)")

    def drawing(self, codes):
        image = self.artifact.redraw(codes)[0]
        return said("assistant", gr.Image(image, format="png", buttons=[], alt_text="a drawing"))


def content(parts):
    return [
        {"type": "text", "text": part.replace(IMAGE_TOKEN, "")} if isinstance(part, str) else {"type": "image"}
        for part in parts
    ]


def still_there(message):
    """A message, or words in place of an image that was deleted since: the page would ask for its file for ever."""
    path = message["content"].get("path") if isinstance(message["content"], dict) else None
    return said(message["role"], DELETED) if path and not os.path.exists(path) else message


def said(role, what):
    return {"role": role, "content": what}


def chat_tab(artifact: Artifact, images: list[str], model_turn: dict) -> None:
    """Fill the current tab. `model_turn` holds the settings of events that use the model."""
    conversation = Conversation(artifact)
    about = (
        "seed-tiny learned captions, questions about an image, prompts to draw and requests to change an image. It is "
        "**not a chat model**: it does not follow a conversation."
        if artifact.is_seed_tiny
        else "Words and images in one conversation."
    )
    gr.Markdown(
        f"{about} Each drawing is made anew, without the turns before it. The conversation is forgotten an hour after "
        "its last turn, if not before."
    )
    turns = gr.State([], time_to_live=3600)
    # The messages on display are kept here: a history sent by the page could name any file of this machine.
    messages = gr.State([], time_to_live=3600)
    chat = gr.Chatbot(
        label="Conversation",
        height=380,
        buttons=["copy"],
        render_markdown=False,
        placeholder="Attach an image and ask about it, or ask for a drawing.",
        elem_id="chat",
        elem_classes="pixels",
    )
    wanted = gr.Radio(list(MODES), value="Words", label="Answer with", elem_id="chat-wanted")
    message = gr.MultimodalTextbox(
        label="Message",
        show_label=False,
        placeholder="Write, or attach an image",
        file_types=["image"],
        sources=["upload"],
        max_plain_text_length=100_000,  # longer text would become a file instead of a message that is refused
        elem_id="chat-message",
    )
    gr.Examples(
        [
            [{"text": "What colour is it?", "files": [images[0]]}, "Words"],
            [{"text": "", "files": [images[-1]]}, "Words"],
            [{"text": "a red apple", "files": []}, "An image"],
            [{"text": "make it green", "files": [images[0]]}, "An image"],
        ],
        [message, wanted],
        example_labels=[
            "ask about an image",
            "an image alone: its caption",
            "draw a red apple",
            "an image and what to change",
        ],
        label="Messages to try: click one, then send it",
    )
    message.submit(
        conversation.reply,
        [message, wanted, turns, messages],
        [turns, messages, chat, message],
        api_name="chat",
        **model_turn,
    )
    chat.clear(lambda: ([], []), None, [turns, messages], queue=False, api_visibility="private")
