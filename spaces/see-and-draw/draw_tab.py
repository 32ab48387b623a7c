"""Draw: a prompt to images."""

import secrets

import gradio as gr

from artifact import Artifact
from code_strip import CodeStrip, strip
from limits import CHARACTERS, IMAGES, SEED, STEPS, checked_number, checked_text
from seed_hf.demo.see_and_draw import demo_prompts
from seed_hf.inference import STEPS as DEFAULT_STEPS
from surprise import knows_the_world, surprise


def draw_tab(artifact: Artifact, model_turn: dict) -> None:
    """Fill the current tab. `model_turn` holds the settings of events that use the model."""

    def draw(prompt, number, steps, seed, sample, progress=gr.Progress()):  # noqa: B008 (how Gradio hands it in)
        prompt = checked_text(prompt, "prompt", artifact.prompt_fault)
        number = checked_number(number, "number of images", 1, IMAGES)
        steps = checked_number(steps, "number of steps", 1, STEPS)
        seed = checked_number(seed, "seed", 0, SEED)
        progress(0, desc="Writing the codes")

        def on_step(done, of):
            progress((done, of), desc="Drawing", unit="steps")

        images, codes = artifact.draw(
            prompt, images=number, steps=steps, seed=seed, sample=bool(sample), on_step=on_step
        )
        return shown(images, seed), strip(codes[0]), artifact.note(prompt)

    def surprising():
        seed = secrets.randbelow(SEED)
        prompt, new = surprise(seed)
        return prompt, seed, new

    def shown(images, seed):
        return [(image, f"seed {seed + i}") for i, image in enumerate(images)]

    prompts = [row["prompt"] for row in demo_prompts()]
    images, codes = artifact.draw(prompts[0])
    gr.Markdown(f"The language model writes {artifact.places} codes for the prompt; a diffusion model draws them.")
    with gr.Row():
        with gr.Column(min_width=280):
            prompt = gr.Textbox(
                prompts[0], label="What to draw", lines=1, max_length=CHARACTERS, elem_id="draw-prompt"
            )
            with gr.Row(elem_classes="pair"):
                button = gr.Button("Draw", variant="primary", min_width=120)
                surprise_button = gr.Button(
                    "Surprise me", min_width=120, visible=knows_the_world(artifact.known), elem_id="draw-surprise"
                )
            new = gr.Markdown(elem_id="draw-new")
            note = gr.Markdown(artifact.note(prompts[0]), elem_id="draw-note")
            examples = gr.Examples([[text] for text in prompts], prompt, label="Prompts to try", examples_per_page=20)
            number = gr.Slider(1, IMAGES, 1, step=1, label="Images at once", elem_id="draw-number")
            steps = gr.Slider(1, STEPS, DEFAULT_STEPS, step=1, label="Denoising steps")
            with gr.Row(elem_classes="pair"):
                seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=SEED, min_width=120)
                sample = gr.Checkbox(
                    label="Sample the codes",
                    info="By the seed, instead of taking the likeliest. Several images always have sampled codes.",
                    min_width=150,
                )
        with gr.Column(min_width=280):
            gallery = gr.Gallery(
                shown(images, 0),
                label="Drawings",
                format="png",
                columns=2,
                object_fit="contain",
                buttons=["download", "fullscreen"],
                elem_id="draw-gallery",
                elem_classes="pixels",
            )
    strip_of_first = CodeStrip(strip(codes[0]), label="The codes it wrote for the first drawing", elem_id="draw-codes")
    inputs, outputs = [prompt, number, steps, seed, sample], [gallery, strip_of_first, note]
    gr.on([prompt.submit, button.click], draw, inputs, outputs, api_name="draw", **model_turn)
    examples.load_input_event.then(draw, inputs, outputs, api_visibility="private", **model_turn)
    surprise_button.click(
        surprising, None, [prompt, seed, new], queue=False, show_progress="hidden", api_visibility="private"
    ).then(draw, inputs, outputs, api_visibility="private", **model_turn)
    for changed in (prompt.input, examples.load_input_event.then):  # what was said of the last surprise is over
        changed(lambda: "", None, new, queue=False, show_progress="hidden", api_visibility="private")
