"""The demo: seed-tiny sees eight images and draws eight prompts, on one contact sheet.

The images are real ones, stored beside the checkpoint with their captions. Four of them have a style or show a concept
that the model was never trained on, and are labelled so.
"""

import json
import logging
import time
from pathlib import Path
from typing import Any

from seed_hf.files import whole_file


logger = logging.getLogger(__name__)

PICTURES = Path(__file__).parents[1] / "checkpoints" / "seed-tiny" / "demo"
KNOWN_PROMPTS = ["a red apple", "a fire engine", "a hamburger", "a cat face"]
# Combinations that no training caption has; `examples/seed_tiny/demo_pictures.py` checks this.
NEW_PROMPTS = [
    "a blue hamburger",
    "a purple fire engine",
    "a green cat face",
    "a glossy 3d fluent emoji of a golden apple",
]
PROMPTS = KNOWN_PROMPTS + NEW_PROMPTS
STEPS, SEED = 25, 0


def run_demo(out: str | Path, *, model: str | Path | None = None, device: str | None = None) -> dict:
    """Run the demo and write `see_and_draw.png` and `see_and_draw.json` into the folder `out`.

    Args:
        out: Folder, made if missing.
        model: Folder or Hub id of a pipeline; the bundled seed-tiny by default.
        device: `"cpu"`, `"cuda"` ...; by default a GPU if there is one.

    Returns:
        The content of the JSON file: settings; codes, caption, question and answer of each image; codes of each
        prompt; and the seconds that the demo took.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    import torch

    from seed_hf.artifacts.loading import load_pipeline
    from seed_hf.images import load_image
    from seed_hf.texts import answer, describe

    pipe = load_pipeline(model, device=device)
    seed_model, processor = pipe.seed_model, pipe.processor
    rows = json.loads((PICTURES / "pictures.json").read_text(encoding="utf-8"))
    images = [load_image(PICTURES / row["file"]) for row in rows]

    logger.info("Looking at %d images", len(images))
    pixels = processor(images=images).pixel_values.to(pipe.device, pipe.dtype)
    codes = seed_model.visual_tokenizer.encode(pixels)
    captions = describe(seed_model, processor, images)
    answers = answer(seed_model, processor, images, [row["question"] for row in rows])
    settings: dict[str, Any] = {"num_inference_steps": STEPS}
    again = pipe(codes=codes, generator=_generators(len(images)), **settings).images

    logger.info("Drawing %d prompts", len(PROMPTS))
    drawn = pipe(PROMPTS, generator=_generators(len(PROMPTS)), **settings)
    result = {
        "model": "seed-tiny" if model is None else str(model),
        "settings": {
            **settings,
            "guidance_scale": pipe.config.guidance_scale,
            "num_candidates": pipe.config.num_candidates,
            "seed": SEED,
            "device": str(pipe.device),
            "dtype": str(pipe.dtype).removeprefix("torch."),
            "torch": torch.__version__,
        },
        "pictures": [
            {**row, "codes": row_codes, "model_caption": caption, "model_answer": said}
            for row, row_codes, caption, said in zip(rows, codes.tolist(), captions, answers)
        ],
        "prompts": [
            {"prompt": prompt, "new": prompt in NEW_PROMPTS, "codes": codes}
            for prompt, codes in zip(PROMPTS, drawn.codes.tolist())
        ],
        "seconds": round(time.monotonic() - began, 1),
    }
    from seed_hf.demo.contact_sheet import contact_sheet

    sheet = contact_sheet(result, images, again, drawn.images)
    with whole_file(out / "see_and_draw.png") as path:
        sheet.save(path, format="PNG")
    text = json.dumps(result, indent=1, ensure_ascii=False)
    with whole_file(out / "see_and_draw.json") as path:
        path.write_text(text, encoding="utf-8")
    return result


def _generators(count: int) -> list:
    import torch

    return [torch.Generator().manual_seed(SEED + i) for i in range(count)]
