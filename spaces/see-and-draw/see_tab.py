"""See: an image to its codes, a caption, and answers to questions about it."""

import gradio as gr

from artifact import Artifact
from code_strip import CodeStrip, strip
from limits import CHARACTERS, FILE_SIZE, checked_text
from seed_hf.demo.see_and_draw import PICTURES, demo_pictures
from uploads import ImageField, read_image


QUESTIONS = ["What is it?", "What colour is it?", "How many things are there?"]


def see_tab(artifact: Artifact, images: list[str], model_turn: dict) -> None:
    """Fill the current tab. `model_turn` holds the settings of events that use the model."""

    def look(path):
        image = read_image(path)
        codes = artifact.encode(image)
        shown = strip(codes)
        for caption in artifact.caption(codes):
            yield shown, caption, "", ""

    def ask(path, question):
        image, question = read_image(path), checked_text(question, "question", artifact.question_fault)
        note = artifact.note(question)
        for answer in artifact.answer(image, question):
            yield answer, note

    shown = read_image(images[0])
    shown_codes = artifact.encode(shown)
    *_, caption = artifact.caption(shown_codes)
    gr.Markdown(f"An image becomes {artifact.places} codes. The language model reads these codes, never the pixels.")
    with gr.Row():
        with gr.Column(min_width=280):
            image = ImageField(
                value=images[0],
                label=f"Image (up to {FILE_SIZE.upper().replace('MB', ' MB')})",
                height=260,
                elem_id="see-image",
                elem_classes="pixels",
            )
            examples = gr.Examples([[path] for path in images], image, label="Images it was never trained on")
        with gr.Column(min_width=280):
            said = gr.Textbox(caption, label="It says", lines=1, max_lines=4, interactive=False, elem_id="see-caption")
            question = gr.Textbox(
                label="Ask about the image",
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
            note = gr.Markdown(elem_id="see-note")
    codes = CodeStrip(strip(shown_codes), label="The image's codes", elem_id="see-codes")
    outputs = [codes, said, answer, note]
    image.upload(look, image, outputs, api_name="see", **model_turn)
    examples.load_input_event.then(look, image, outputs, api_visibility="private", **model_turn)
    gr.on([question.submit, button.click], ask, [image, question], [answer, note], api_name="ask", **model_turn)


def example_images() -> list[str]:
    """The images of the package's demo."""
    return [str(PICTURES / row["file"]) for row in demo_pictures()]
