"""Jobs that write texts and drawings, in processes of their own, which tests kill."""

from pathlib import Path

from seed_hf.data.jobs.describing import answer_questions, describe_images
from seed_hf.data.jobs.drawing import draw_prompts
from seed_hf.data.sources.listed import FileOfTexts
from seed_hf.data.sources.source import open_source
from tiny_diffusion import tiny_model_and_processor, tiny_pipeline


SETTINGS = {"batch_size": 2, "rows_per_shard": 4, "workers": 0}


def describe(source: Path, out: Path) -> None:
    describe_images(open_source(source, captions=False), *tiny_model_and_processor(), out, **SETTINGS)


def ask(questions: Path, out: Path) -> None:
    rows = FileOfTexts(str(questions), "question", with_images=True)
    answer_questions(rows, *tiny_model_and_processor(), out, **SETTINGS)


def draw(prompts: Path, out: Path) -> None:
    model, processor = tiny_model_and_processor()
    draw_prompts(
        FileOfTexts(str(prompts), "prompt"), tiny_pipeline(model, processor=processor), out, steps=2, **SETTINGS
    )
