"""Round trip: an image to its codes and back, with codes to edit."""

import gradio as gr

from artifact import Artifact
from code_strip import CodeStrip, strip
from limits import SEED, STEPS, checked_number
from seed_hf.inference import STEPS as DEFAULT_STEPS
from uploads import ImageField, read_image


NEIGHBOURS = 8  # similar codes offered for a place


class RoundTrip:
    """The events of the tab. The state holds an image's own codes and those of now."""

    def __init__(self, artifact: Artifact):
        self.artifact = artifact
        self.places, self.last_code = artifact.places, artifact.codebook_size - 1

    def start(self, path, steps, seed, progress=gr.Progress()):  # noqa: B008 (how Gradio hands it in)
        codes = self.artifact.encode(read_image(path))
        image = self.drawn([codes], steps, seed, progress)[0]
        return (
            {"own": codes, "now": codes},
            strip(codes, selected=0),
            *self.editor(codes, 0),
            self.places,
            image,
            image,
        )

    def drawn(self, rows, steps, seed, progress):
        steps = checked_number(steps, "number of steps", 1, STEPS)
        seed = checked_number(seed, "seed", 0, SEED)

        def on_step(done, of):
            progress((done, of), desc="Drawing", unit="steps")

        return self.artifact.redraw(*rows, steps=steps, seed=seed, on_step=on_step)

    def editor(self, codes, place):
        """Values of the fields for one place: its number, its code, and similar codes."""
        code = codes[place]
        return place + 1, code, gr.Radio(self.artifact.nearest_codes(code, NEIGHBOURS), value=None)

    def view(self, state, place, used):
        changed = [i for i, (own, now) in enumerate(zip(state["own"], state["now"])) if own != now]
        return strip(state["now"], selected=place, used=used, changed=changed)

    def select(self, state, used, event: gr.EventData):
        place = event.index
        return self.view(state, place, used), *self.editor(state["now"], place)

    def go_to(self, state, place, used):
        place = checked_number(place, "place", 1, self.places) - 1
        return self.view(state, place, used), *self.editor(state["now"], place)

    def redraw(self, state, place, code, used, steps, seed, progress=gr.Progress()):  # noqa: B008
        place = checked_number(place, "place", 1, self.places) - 1
        code = checked_number(code, "code", 0, self.last_code)
        used = checked_number(used, "number of codes", 1, self.places)
        now = [*state["now"]]
        now[place] = code
        state = {**state, "now": now}
        before, after = self.drawn([state["own"], self.artifact.first(now, used)], steps, seed, progress)
        return state, self.view(state, place, used), *self.editor(now, place), before, after

    def reset(self, state, steps, seed, progress=gr.Progress()):  # noqa: B008
        own = state["own"]
        image = self.drawn([own], steps, seed, progress)[0]
        return {"own": own, "now": own}, strip(own, selected=0), *self.editor(own, 0), self.places, image, image


def round_trip_tab(artifact: Artifact, images: list[str], model_turn: dict) -> None:
    """Fill the current tab. `model_turn` holds the settings of events that use the model."""
    events = RoundTrip(artifact)
    places, last_code = events.places, events.last_code
    first = images[0]
    shown = artifact.encode(read_image(first))
    shown_again = artifact.redraw(shown)[0]
    gr.Markdown(
        "Only the codes of an image are kept. Select a cell, give it another code, and watch the drawing change. "
        "The image in the middle is drawn from the original codes, the one on the right from the codes below, both "
        "from the same noise."
    )
    state = gr.State({"own": shown, "now": shown})
    with gr.Row(elem_classes="three-images"):
        options = {"height": 230, "min_width": 90, "elem_classes": "pixels"}
        image = ImageField(value=first, label="Image", elem_id="trip-image", **options)
        options |= {"format": "png", "interactive": False, "buttons": []}
        again = gr.Image(shown_again, label="Its codes", elem_id="trip-again", **options)
        edited = gr.Image(shown_again, label="Edited", elem_id="trip-edited", **options)
    examples = gr.Examples([[path] for path in images], image, label="Images it was never trained on")
    codes = CodeStrip(
        strip(shown, selected=0), label="Codes: select one to edit it", editable=True, elem_id="trip-codes"
    )
    with gr.Row():
        place = gr.Number(
            1, label="Place", precision=0, minimum=1, maximum=places, min_width=90, scale=1, elem_id="trip-place"
        )
        code = gr.Slider(0, last_code, shown[0], step=1, label="Its code", min_width=200, scale=4, elem_id="trip-code")
    near = gr.Radio(
        artifact.nearest_codes(shown[0], NEIGHBOURS), label="Most similar codes in the codebook", elem_id="trip-near"
    )
    with gr.Row():
        used = gr.Slider(
            1,
            places,
            places,
            step=1,
            scale=2,
            label="Codes to draw from",
            info="The first ones. The other places get the codes of a blank white image, which add nothing.",
            min_width=240,
            elem_id="trip-used",
        )
        steps = gr.Slider(1, STEPS, DEFAULT_STEPS, step=1, label="Denoising steps", min_width=140)
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=SEED, min_width=90)
    with gr.Row(elem_classes="pair"):
        again_button = gr.Button("Redraw", variant="primary", min_width=120, elem_id="trip-redraw")
        reset_button = gr.Button("Start over", min_width=120, elem_id="trip-reset")

    fields = [codes, place, code, near]
    everything = [state, *fields, used, again, edited]
    image.upload(events.start, [image, steps, seed], everything, api_name="round_trip", **model_turn)
    examples.load_input_event.then(
        events.start, [image, steps, seed], everything, api_visibility="private", **model_turn
    )
    at_once = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    codes.select(events.select, [state, used], fields, **at_once)
    gr.on([place.submit, place.blur], events.go_to, [state, place, used], fields, **at_once)
    edit = {"inputs": [state, place, code, used, steps, seed], "outputs": [state, *fields, again, edited]}
    gr.on(
        [code.release, used.release, again_button.click],
        events.redraw,
        **edit,
        show_progress_on=edited,
        api_name="redraw",
        **model_turn,
    )
    near.input(
        events.redraw,
        [state, place, near, used, steps, seed],
        edit["outputs"],
        show_progress_on=edited,
        api_visibility="private",
        **model_turn,
    )
    reset_button.click(events.reset, [state, steps, seed], everything, api_visibility="private", **model_turn)
