"""What is shown at evaluations: of each stage, the same after a resume, and without a change of the training."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import TrainerCallback

import language_stage
import stage_one
import stage_two
from seed_hf.images.cards import codebook_image
from seed_hf.training.instruction import InstructionTrainer
from seed_hf.training.language_model import LanguageModelTrainer
from seed_hf.training.trackers import send_image
from seed_hf.training.watching import Watch
from tiny import tiny_tokenizer
from tiny_artifacts import save_artifact


WATCHED = {"eval_strategy": "steps", "eval_steps": 1, "max_steps": 2, "save_strategy": "steps", "save_steps": 1}


def contrastive(folder, **settings):
    rows = stage_one.rows(8)
    return stage_one.trainer_for(tiny_tokenizer(), stage_one.config(folder, **settings), eval_dataset=rows)


def quantization(folder, **settings):
    rows = stage_two.images(8)
    return stage_two.trainer_for(tiny_tokenizer(), stage_two.config(folder, **settings), eval_dataset=rows)


def language_model(folder, **settings):
    return LanguageModelTrainer(
        language_stage.tiny_language_model(),
        language_stage.config(folder, **settings),
        data_collator=language_stage.collator(directions={"image_to_text": 1, "text_to_image": 1, "question": 1}),
        train_dataset=language_stage.rows(),
        eval_dataset=language_stage.rows(8),
    )


def instruct(folder, **settings):
    return InstructionTrainer(
        language_stage.tiny_language_model(prompt_format="vicuna"),
        language_stage.instruction_config(folder, **settings),
        data_collator=language_stage.instruction_collator(),
        train_dataset=language_stage.conversations(),
        eval_dataset=language_stage.conversations(8),
    )


STAGES = {"contrastive": contrastive, "quantization": quantization, "lm": language_model, "instruct": instruct}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return str(save_artifact("pipeline", tmp_path_factory.mktemp("pipeline")))


def sheets(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "watch").glob("*.png"))}


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_is_shown_and_trains_as_without(stage, tmp_path, pipeline):
    drawing = {} if stage == "contrastive" else {"watch_pipeline": pipeline}
    watched = STAGES[stage](tmp_path / "watched", watch_images=3, **drawing, **WATCHED)
    watched.train()
    found = sheets(tmp_path / "watched")
    assert list(found) == ["step-0000001.png", "step-0000002.png"] and len(set(found.values())) == 2
    with Image.open(tmp_path / "watched" / "watch" / "step-0000002.png") as image:
        assert (
            image.width > 800 and np.asarray(image).std() > 10
        )  # three cards beside each other, and they are written on

    plain = STAGES[stage](tmp_path / "plain", **WATCHED)
    plain.train()
    assert not (tmp_path / "plain" / "watch").exists()
    weights = plain.model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in watched.model.state_dict().items())

    shutil.rmtree(tmp_path / "watched" / "checkpoint-2")
    (tmp_path / "watched" / "watch" / "step-0000002.png").unlink()
    STAGES[stage](tmp_path / "watched", watch_images=3, **drawing, **WATCHED).train(resume_from_checkpoint=True)
    assert sheets(tmp_path / "watched") == found


@pytest.mark.parametrize(
    ("stage", "settings", "message"),
    [
        ("contrastive", {"watch_images": -1}, "number of rows"),
        ("quantization", {"watch_pipeline": "somewhere"}, "not used without watch_images"),
        ("lm", {"watch_prompts": ["a red apple"]}, "not used without watch_images"),
        ("contrastive", {"watch_images": 2, "watch_pipeline": "somewhere"}, "stage I has no codes"),
        ("quantization", {"watch_images": 2, "watch_pipeline": "no/such/folder"}, "watch_pipeline: .*no such folder"),
    ],
)
def test_what_would_be_ignored_is_refused(stage, settings, message, tmp_path):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        STAGES[stage](tmp_path, **WATCHED, **settings)
    assert not list(tmp_path.iterdir())


def test_there_must_be_something_to_show(tmp_path):
    collator = language_stage.collator()
    for rows, message in (
        ([{"text": "a red apple"}] * 4, "rows with codes or conversations"),
        (None, "validation rows"),
    ):
        with pytest.raises(ValueError, match=message):
            LanguageModelTrainer(
                language_stage.tiny_language_model(),
                language_stage.config(tmp_path, watch_images=2),
                data_collator=collator,
                train_dataset=language_stage.rows(),
                eval_dataset=rows,
            )


def test_a_pipeline_of_another_codebook_is_refused(tmp_path, pipeline):
    with pytest.raises(ValueError, match="watch_pipeline: .*codebook_size"):
        LanguageModelTrainer(
            language_stage.tiny_language_model(codebook_size=32),
            language_stage.config(tmp_path, watch_images=2, watch_pipeline=pipeline),
            data_collator=language_stage.collator(),
            train_dataset=language_stage.rows(),
            eval_dataset=language_stage.rows(),
        )


def test_cached_features_and_streams_are_shown_without_images(tmp_path):
    """Rows of a stream are taken from its beginning, as often as it is read."""

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            yield from cached

    model = tiny_tokenizer()
    with torch.no_grad():
        causal = model.get_causal_embeddings(torch.randn(8, 3, 28, 28))
    cached = [{"causal_embeddings": row, "target_embeddings": torch.zeros(6, 20)} for row in causal]
    settings = WATCHED | {"max_steps": 1, "save_strategy": "no"}
    trainer = stage_two.trainer_for(
        model, stage_two.config(tmp_path, watch_images=2, **settings), rows=cached, eval_dataset=Stream()
    )
    watch = next(one for one in trainer.callback_handler.callbacks if isinstance(one, Watch))
    cards, used = watch.stage.show(model.eval())
    assert [card.images for card in cards] == [[], []] and used is None
    assert [card.codes for card in cards] == model.encode(causal_embeddings=causal)[[0, 4]].tolist()
    trainer.train()
    assert trainer.evaluated.last.sum() == 8 * 32 and list(sheets(tmp_path)) == ["step-0000001.png"]


def test_a_card_says_what_the_model_says(tmp_path):
    """Captions, answers and codes are those of `generate` on the prompts of the format."""
    trainer = language_model(tmp_path, watch_images=2, watch_prompts=["yes no"], **WATCHED)
    watch = next(one for one in trainer.callback_handler.callbacks if isinstance(one, Watch))
    model = trainer.model.eval()
    cards, used = watch.stage.show(model)
    assert len(cards) == 3 and used.sum() == 3 * 32
    first, row, sequences = dict(cards[0].texts), language_stage.rows()[0], trainer.data_collator.sequences
    base = model.get_base_model()
    for name, kind, asked in (("says", "caption", ""), ("answers", "question", "what is shown?")):
        prompt = torch.tensor([sequences.prompt(kind, codes=[row["codes"]], question=asked)])
        ids = base.generate(prompt, generation_mode="text", do_sample=False, max_new_tokens=32)[0, prompt.shape[1] :]
        said = sequences.tokenizer.decode(ids, skip_special_tokens=True)
        assert first[name].split() == f"{asked} {said}".split()
    prompt = torch.tensor([sequences.prompt("draw", text="yes no")])
    ids = base.generate(prompt, generation_mode="image", do_sample=False)[0, prompt.shape[1] + 1 :][:32]
    assert cards[2].codes == (ids - base.config.visual_token_offset).tolist() and cards[2].texts[0][1] == "yes no"
    assert first["is"] == row["caption"]


def test_used_codes_are_cells_in_order():
    used = torch.zeros(64, dtype=torch.int64)
    used[[3, 40]] = torch.tensor([1, 9])
    image = np.asarray(codebook_image(used, width=64))[1, 1:-1].astype(int)  # one row of 64 cells of one pixel
    assert [place for place in range(64) if image[place].sum() < 3 * 255] == [3, 40]
    assert image[40].sum() < image[3].sum()


def test_trackers_get_the_image_and_cannot_end_a_run(caplog):
    image, seen = Image.new("RGB", (4, 2)), []

    class Writer:
        def add_image(self, name, values, step, dataformats):
            seen.append((name, values.shape, step, dataformats))

        def flush(self):
            raise OSError("disk full")

    class TensorBoardCallback(TrainerCallback):
        tb_writer = Writer()

    class FlyteCallback(TrainerCallback):
        pass

    send_image([TrainerCallback(), TensorBoardCallback(), FlyteCallback()], "watch", image, 7)
    assert seen == [("watch", (2, 4, 3), 7, "HWC")]
    assert "not sent to TensorBoard: disk full" in caplog.text and "not sent to Flyte" in caplog.text


def test_tensorboard_holds_the_image(tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations import TensorBoardCallback

    send_image([TensorBoardCallback(SummaryWriter(tmp_path))], "watch", Image.new("RGB", (4, 2)), 7)
    found = events.EventAccumulator(str(tmp_path))
    found.Reload()
    assert [(one.step, one.width, one.height) for one in found.Images("watch")] == [(7, 4, 2)]
