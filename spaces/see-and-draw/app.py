"""See and draw: the demo of seed_hf as a Hugging Face Space. `python app.py` starts it on this machine."""

import os
from pathlib import Path

from seed_hf.garbage import uncollected
from seed_hf.threads import prepare_threads


os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # is read when Gradio is imported
prepare_threads()  # before torch is imported

import gradio as gr

import guard
import page_memory
from artifact import Artifact
from chat_tab import chat_tab
from draw_tab import draw_tab
from limits import FILE_SIZE, KEPT, MINUTES, WAITING
from round_trip_tab import round_trip_tab
from see_tab import example_images, see_tab
from seed_hf.artifacts.known_words import KnownWords


HERE = Path(__file__).parent
SEED_TINY = """\
**This is seed-tiny, a very small model of a small world, 64 x 64 pixels.** It knows icon-like images of some 150
things in eleven colours: one thing anywhere, two beside one another, up to four of a kind. It does not know
photographs. It gets some images wrong, and says where it only guesses.
"""
OTHER = "The model on this page is **{}**."
PRIVACY = f"""\
Your images and texts are only used to answer you. Images are deleted from the server after about {MINUTES} minutes;
nothing is logged or passed on.
"""


def build(artifact: Artifact) -> gr.Blocks:
    """The page. The first examples are on it, with the model's results."""
    images = example_images()
    # One event at a time in all tabs: a pipeline's scheduler has a state, and cores are few.
    model_turn = {"concurrency_limit": 1, "concurrency_id": "model"}
    with gr.Blocks(title="SEED: see and draw", analytics_enabled=False, delete_cache=(min(60, KEPT), KEPT)) as page:
        gr.Markdown("# See and draw with SEED")
        gr.Markdown(SEED_TINY if artifact.is_seed_tiny else OTHER.format(artifact.name), elem_id="about")
        with gr.Tab("See"):
            see_tab(artifact, images, model_turn)
        with gr.Tab("Draw"):
            draw_tab(artifact, model_turn)
        with gr.Tab("Round trip"):
            round_trip_tab(artifact, images, model_turn)
        with gr.Tab("Chat"):
            chat_tab(artifact, images, model_turn)
        if artifact.known:
            with gr.Accordion(f"The {len(artifact.known.things)} things it knows", open=False, elem_id="known"):
                gr.Markdown(listed(artifact.known))
        gr.Markdown(PRIVACY, elem_id="privacy")
    return page.queue(max_size=WAITING, default_concurrency_limit=1)


def listed(known: KnownWords) -> str:
    """All that a small model has read of, as Markdown."""
    return f"{', '.join(known.things)}.\n\nAnd these words: {', '.join(known.other_words)}."


def main() -> None:
    guard.install()
    page_memory.install()
    with uncollected():
        page = build(Artifact.from_environment())
    page.launch(
        max_file_size=FILE_SIZE,
        state_session_capacity=page_memory.SESSIONS,
        # The system's fonts: Gradio's own themes let visitors fetch fonts from another host.
        theme=gr.themes.Default(
            primary_hue="emerald", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
        ),
        css_paths=HERE / "style.css",
        footer_links=["settings"],
        run_history=False,
        ssr_mode=False,
        show_error=False,
    )


if __name__ == "__main__":
    main()
