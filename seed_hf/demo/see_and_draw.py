"""The demo: seed-tiny looks at eight pictures and draws eight prompts, on one contact sheet.

The pictures are real ones, stored beside the checkpoint with their captions; four of them come from a style or show a
concept that the model was never trained on, and are labelled so.
"""

import json
import logging
import time
from pathlib import Path

from seed_hf.files import whole_file


logger = logging.getLogger(__name__)

PICTURES = Path(__file__).parents[1] / "checkpoints" / "seed-tiny" / "demo"
KNOWN_PROMPTS = ["a red apple", "a fire engine", "a hamburger", "a cat face"]
# Combinations that no training caption has; `examples/seed_tiny/demo_pictures.py` checks it.
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
        out: Folder, made if it is missing.
        model: A pipeline folder; the bundled seed-tiny by default.
        device: `"cpu"` or `"cuda"`; what is there by default.

    Returns:
        What was written as JSON: settings, for each picture its codes, caption, question and answer, for each prompt
        its codes, and the seconds that it took.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    import torch

    from seed_hf.artifacts.bundled import bundled
    from seed_hf.devices import number_type, usable_device
    from seed_hf.images import load_image
    from seed_hf.pipelines.pipeline_seed_image import SeedImagePipeline

    where = usable_device(device)
    dtype = number_type(where)
    pipe = SeedImagePipeline.from_pretrained(model or bundled("seed-tiny", "pipeline"), dtype=dtype).to(where)
    seed_model, processor = pipe.seed_model, pipe.processor
    rows = json.loads((PICTURES / "pictures.json").read_text(encoding="utf-8"))
    images = [load_image(PICTURES / row["file"]) for row in rows]

    logger.info("Looking at %d pictures", len(images))
    pixels = processor(images=images).pixel_values.to(where, dtype)
    codes = seed_model.visual_tokenizer.encode(pixels)
    captions = _answers(seed_model, processor, processor.caption(images), where)
    answers = _answers(seed_model, processor, processor.ask(images, [row["question"] for row in rows]), where)
    settings = {"num_inference_steps": STEPS}
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
            "device": str(where),
            "dtype": str(dtype).removeprefix("torch."),
            "torch": torch.__version__,
        },
        "pictures": [
            {**row, "codes": c, "model_caption": caption, "model_answer": answer}
            for row, c, caption, answer in zip(rows, codes.tolist(), captions, answers)
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


def _answers(model, processor, inputs, device) -> list[str]:
    start = inputs["input_ids"].shape[1]
    ids = model.generate(**inputs.to(device), generation_mode="text", max_new_tokens=24, do_sample=False)
    return [text.strip() for text in processor.post_process_multimodal_output(ids[:, start:], generation_mode="text")]


def _generators(count: int) -> list:
    import torch

    return [torch.Generator().manual_seed(SEED + i) for i in range(count)]
