"""The demo: a model draws prompts and sees images, on one contact sheet.

Prompts and images are scenes of the small world, stored beside the checkpoint. A seed chose them, not a person, and
none is from the training set. Half of the prompts, and of the images, hold something that was never trained on: a
thing in this colour, these two things together, a drawing of the thing, a style.
"""

import json
import logging
import time
from pathlib import Path
from typing import Any

from seed_hf.devices import generator_of
from seed_hf.files import whole_file, write_text
from seed_hf.inference import STEPS, draw_images, encode_images


logger = logging.getLogger(__name__)

PICTURES = Path(__file__).parents[1] / "checkpoints" / "seed-tiny" / "demo"
SEED = 0
SAMPLES = 6  # drawings of the first prompt with codes that are sampled


def demo_prompts() -> list[dict]:
    """What is drawn: rows with `prompt`, `set`, and `new`: what of it was never trained on, or `None`."""
    return json.loads((PICTURES / "prompts.json").read_text(encoding="utf-8"))


def demo_pictures() -> list[dict]:
    """What is seen: rows with `file` in `PICTURES`, `caption`, `question`, `answer`, `set`, `new`, and the art."""
    return json.loads((PICTURES / "pictures.json").read_text(encoding="utf-8"))


def run_demo(out: str | Path, *, model: str | Path | None = None, device: str | None = None) -> dict:
    """Run the demo and write `see_and_draw.png` and `see_and_draw.json` into the folder `out`.

    Args:
        out: Folder, made if missing.
        model: Folder or Hub id of a pipeline; the bundled seed-tiny by default.
        device: `"cpu"`, `"cuda"` ...; by default a GPU if there is one.

    Returns:
        The content of the JSON file: settings; codes of each prompt, and what of it the model has never read; codes,
        caption, question and answer of each image; the seconds that the demo took.
    """
    out = Path(out)
    began = time.monotonic()
    import torch

    from seed_hf.artifacts.known_words import read_known_words
    from seed_hf.artifacts.opening import open_pipeline
    from seed_hf.demo.contact_sheet import contact_sheet
    from seed_hf.images import load_image

    pipe = open_pipeline(model, reads_and_writes=True, device=device)
    known = read_known_words(model, "pipeline")
    out.mkdir(parents=True, exist_ok=True)
    for name in ("see_and_draw.png", "see_and_draw.json"):
        if (out / name).is_dir():
            raise ValueError(f"{out / name}: this is a folder, where a file is to be written.")
    prompts, rows = demo_prompts(), demo_pictures()
    images = [load_image(PICTURES / row["file"]) for row in rows]

    logger.info("Drawing %d prompts", len(prompts))
    texts = [row["prompt"] for row in prompts]
    wanted = pipe.encode_prompt(texts, _generators(len(texts)))
    drawn = draw_images(pipe, wanted, _generators(len(prompts)), num_inference_steps=STEPS)
    logger.info("Drawing %r %d times", texts[0], SAMPLES)
    varied, sampled = _samples(pipe, texts[0])

    logger.info("Looking at %d images", len(images))
    seen = _seen(pipe, known, images, rows)
    codes = torch.tensor([row["codes"] for row in seen])
    again = draw_images(pipe, codes, _generators(len(images)), num_inference_steps=STEPS)
    result = {
        "model": "seed-tiny" if model is None else str(model),
        "settings": {
            "num_inference_steps": STEPS,
            "guidance_scale": pipe.config.guidance_scale,
            "num_candidates": pipe.config.num_candidates,
            "seed": SEED,
            "device": str(pipe.device),
            "dtype": str(pipe.dtype).removeprefix("torch."),
            "torch": torch.__version__,
        },
        "things": list(known.things) if known else None,
        "prompts": [
            {**row, "codes": codes, "note": known.note(row["prompt"]) if known else None}
            for row, codes in zip(prompts, wanted.tolist())
        ],
        "samples": {"prompt": texts[0], "codes": varied.tolist()},
        "pictures": seen,
        "seconds": round(time.monotonic() - began, 1),
    }
    sheet = contact_sheet(result, drawn, sampled, images, again)
    with whole_file(out / "see_and_draw.png") as path:
        sheet.save(path, format="PNG")
    write_text(out / "see_and_draw.json", json.dumps(result, indent=1, ensure_ascii=False))
    return result


def _samples(pipe, prompt: str):
    """Codes and drawings of the first prompt again and again, as `seed-hf draw -n` draws them."""

    noise = _generators(SAMPLES)
    codes = pipe.encode_prompt([prompt] * SAMPLES, noise, {"do_sample": True, "temperature": 1.0})
    return codes, draw_images(pipe, codes, noise, num_inference_steps=STEPS)


def _seen(pipe, known, images: list, rows: list[dict]) -> list[dict[str, Any]]:
    """The rows with the images' codes, and the model's captions and answers.

    `guess` says what the model takes for possible where it is not sure, and `likeliest` what it takes for likeliest.
    """
    from seed_hf.texts import answer, generate_texts, likely_texts

    model, processor = pipe.seed_model, pipe.processor
    codes = encode_images(model.visual_tokenizer, processor.image_processor, images)
    prompts = processor.caption(codes=codes)
    captions = generate_texts(model, processor, prompts)
    answers = answer(model, processor, images, [row["question"] for row in rows])
    seen = [
        {**row, "codes": own, "model_caption": caption, "likeliest": caption, "guess": None, "model_answer": said}
        for row, own, caption, said in zip(rows, codes.tolist(), captions, answers)
    ]
    for row, likely in zip(seen, likely_texts(model, processor, prompts) if known else []):
        if guess := known.guess(likely):
            row |= {"guess": guess, "likeliest": likely[0].text}
    return seen


def _generators(count: int) -> list:
    return [generator_of(SEED + i) for i in range(count)]
