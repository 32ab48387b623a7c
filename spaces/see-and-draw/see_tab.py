"""See: a picture to its codes, a caption, and answers to questions about it."""

import json

import gradio as gr

from artifact import Artifact
from code_strip import CodeStrip, strip
from limits import CHARACTERS, FILE_SIZE, checked_text
from pictures import PictureField, read_picture
from seed_hf.demo.see_and_draw import PICTURES


FIRST = "a locomotive"
QUESTIONS = ["What is its main colour?", "What kind of animal is it?", "Is it a land, water or air vehicle?"]


def see_tab(artifact: Artifact, pictures: list[str], model_turn: dict) -> None:
    """Fills the current tab. `model_turn` are the settings of events that use the model."""

    def look(path):
        picture = read_picture(path)
        codes = strip(artifact.encode(picture))
        for caption in artifact.caption(picture):
            yield codes, caption, ""

    def ask(path, question):
        picture, question = read_picture(path), checked_text(question, "question")
        yield from artifact.answer(picture, question)

    shown = read_picture(pictures[0])
    *_, caption = artifact.caption(shown)
    gr.Markdown(f"A picture becomes {artifact.places} codes. The language model reads these codes, never the pixels.")
    with gr.Row():
        with gr.Column(min_width=280):
            picture = PictureField(
                value=pictures[0],
                label=f"Picture (up to {FILE_SIZE.upper().replace('MB', ' MB')})",
                height=260,
                elem_id="see-picture",
                elem_classes="pixels",
            )
            examples = gr.Examples([[path] for path in pictures], picture, label="Pictures it was never trained on")
        with gr.Column(min_width=280):
            said = gr.Textbox(caption, label="It says", lines=1, interactive=False, elem_id="see-caption")
            question = gr.Textbox(
                label="Ask about the picture",
                placeholder=QUESTIONS[0],
                lines=1,
                max_length=CHARACTERS,
                elem_id="see-question",
            )
            button = gr.Button("Ask", variant="primary")
            gr.Examples([[question] for question in QUESTIONS], question, label="Questions of the kind it learned")
            answer = gr.Textbox(
                label="It answers",
                placeholder="The answer comes here.",
                lines=1,
                interactive=False,
                elem_id="see-answer",
            )
    codes = CodeStrip(strip(artifact.encode(shown)), label="The picture's codes", elem_id="see-codes")
    outputs = [codes, said, answer]
    picture.upload(look, picture, outputs, api_name="see", **model_turn)
    examples.load_input_event.then(look, picture, outputs, api_visibility="private", **model_turn)
    gr.on([question.submit, button.click], ask, [picture, question], answer, api_name="ask", **model_turn)


def example_pictures() -> list[str]:
    """The pictures that the bundled checkpoint carries for its demo."""
    rows = json.loads((PICTURES / "pictures.json").read_text(encoding="utf-8"))
    # The page opens with the first: one that the model names right, which it does with one in three.
    rows.sort(key=lambda row: row["caption"] != FIRST)
    return [str(PICTURES / row["file"]) for row in rows]
