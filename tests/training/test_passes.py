"""The place in the data: a stopped run goes on in the same pass with the next batch, also where rows have no number.

The runs of this file are stopped by an exception; `test_killed_training.py` kills them. They are of the language-model
stage, whose weights depend on the rows, on the draws of the collator and on dropout.
"""

import json
import logging

import pytest
import torch
from datasets import IterableDataset
from transformers import TrainerCallback

from language_stage import collator, config, tiny_language_model
from seed_hf.training.language_model import LanguageModelTrainer


BATCH, PASS = 4, 6  # rows of a batch, batches of a pass


@pytest.fixture(autouse=True)
def one_thread():
    """With several threads the order of sums, and so their rounding, changes now and then."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def rows(number: int = BATCH * PASS) -> list[dict]:
    codes = torch.randint(0, 64, (number, 32), generator=torch.Generator().manual_seed(0)).tolist()
    captions = ["a red apple", "the blue fire engine", "a question", "an answer"]
    return [{"codes": row, "caption": captions[i % 4], "id": str(i)} for i, row in enumerate(codes)]


def part_of(parts: list[int], number: int):
    for part in parts:
        yield from rows(number)[part::2]


def stream(number: int = BATCH * PASS) -> IterableDataset:
    parts = IterableDataset.from_generator(part_of, gen_kwargs={"parts": [0, 1], "number": number})
    return parts.shuffle(seed=3, buffer_size=8)


class Sized(torch.utils.data.IterableDataset):
    """A stream that knows its length, in the same order in each pass."""

    def __iter__(self):
        return iter(rows())

    def __len__(self):
        return BATCH * PASS


class Recorder:
    """A collator that remembers the ids and the epoch of each batch."""

    def __new__(cls, **kwargs):
        made = collator(**kwargs)
        made.__class__ = type("Recording", (type(made),), {"__call__": cls.record})
        made.seen = []
        return made

    @staticmethod
    def record(self, batch):
        self.seen.append((int(self._epoch), [row["id"] for row in batch]))
        return super(type(self), self).__call__(batch)


class Stop(TrainerCallback):
    def __init__(self, step: int):
        self.step = step

    def on_save(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KeyboardInterrupt


def trainer_for(folder, data, given_collator=None, **settings) -> LanguageModelTrainer:
    evaluation = {"eval_dataset": settings.pop("eval_dataset", None)}
    given = {"max_steps": 3 * PASS, "save_strategy": "steps", "per_device_train_batch_size": BATCH}
    args = config(folder, **{**given, **settings})
    return LanguageModelTrainer(
        tiny_language_model(), args, data_collator=given_collator or collator(), train_dataset=data, **evaluation
    )


def train(folder, data, *, stop: int | None = None, given_collator=None, **settings) -> dict[str, torch.Tensor]:
    """The weights at the end of a run, or of its part until it is stopped."""
    trainer = trainer_for(folder, data, given_collator, save_steps=stop or 100, **settings)
    if stop is not None:
        trainer.add_callback(Stop(stop))
    try:
        trainer.train(resume_from_checkpoint=True)
    except KeyboardInterrupt:
        assert trainer.state.global_step == stop
    else:
        assert stop is None
    return {name: value.clone() for name, value in trainer.model.state_dict().items() if "lora" in name}


def assert_equal(first, second):
    assert first and first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@pytest.mark.parametrize(
    "settings, stops",
    [
        ({}, (4, PASS, PASS + 3, 2 * PASS + 1)),  # in all three passes, and between two
        ({"dataloader_num_workers": 2}, (PASS + 3,)),
        ({"gradient_accumulation_steps": 4, "max_steps": 4}, (2, 3)),  # of six batches, two are left over
        ({"save_strategy": "epoch"}, (PASS,)),
        ({"per_device_train_batch_size": 5, "dataloader_drop_last": True, "max_steps": 12}, (7,)),
    ],
)
def test_a_stopped_stream_goes_on_where_it_was(tmp_path, settings, stops):
    whole = train(tmp_path / "whole", stream(), **settings)
    for stop in stops:
        train(tmp_path / str(stop), stream(), stop=stop, **settings)
        assert_equal(whole, train(tmp_path / str(stop), stream(), **settings))


def test_loader_processes_that_live_on_change_nothing(tmp_path):
    """Loaders that begin anew draw seeds, those that live on do not; dropout must not notice."""
    workers = {"dataloader_num_workers": 1, "dataloader_persistent_workers": True, "max_steps": PASS + 2}
    whole = train(tmp_path / "whole", rows(), **workers)
    train(tmp_path / "part", rows(), stop=4, **workers)
    assert_equal(whole, train(tmp_path / "part", rows(), **workers))
    assert_equal(whole, train(tmp_path / "none", rows(), max_steps=PASS + 2))


@pytest.mark.parametrize("kind", ["stream", "in memory"])
def test_the_end_of_a_pass_is_not_passed_over(tmp_path, kind):
    """What comes after the last step of a pass, here an evaluation, draws numbers too."""
    data = stream if kind == "stream" else rows
    settings = {"eval_strategy": "epoch", "max_steps": PASS + 2}
    whole = train(tmp_path / "whole", data(), eval_dataset=rows(6), **settings)
    train(tmp_path / "cut", data(), stop=PASS, eval_dataset=rows(6), **settings)
    assert_equal(whole, train(tmp_path / "cut", data(), eval_dataset=rows(6), **settings))
    state = json.loads((tmp_path / "cut" / f"checkpoint-{PASS + 2}" / "trainer_state.json").read_text())
    assert sum("eval_loss" in line for line in state["log_history"]) == 1


def test_a_stream_that_knows_its_length(tmp_path):
    whole = train(tmp_path / "whole", Sized(), max_steps=-1, num_train_epochs=2)
    train(tmp_path / "cut", Sized(), stop=PASS + 2, max_steps=-1, num_train_epochs=2)
    assert_equal(whole, train(tmp_path / "cut", Sized(), max_steps=-1, num_train_epochs=2))


def test_a_stream_goes_on_with_more_steps(tmp_path):
    settings = {"lr_scheduler_type": "constant", "lr_scheduler_kwargs": {}, "warmup_steps": 0}
    whole = train(tmp_path / "whole", stream(), max_steps=PASS + 4, **settings)
    train(tmp_path / "more", stream(), max_steps=PASS + 1, **settings)
    assert_equal(whole, train(tmp_path / "more", stream(), max_steps=PASS + 4, **settings))


def test_each_pass_has_its_own_order_and_its_own_draws(tmp_path):
    """Also in the second pass of a stream, and also in a second run of the same objects."""
    data, seen = stream(), Recorder()
    for number in range(2):
        train(tmp_path / str(number), data, given_collator=seen, max_steps=2 * PASS)
    assert seen.seen[: 2 * PASS] == seen.seen[2 * PASS :]
    first, second = seen.seen[:PASS], seen.seen[PASS : 2 * PASS]
    assert {epoch for epoch, _ in first} == {0} and {epoch for epoch, _ in second} == {1}
    ids = [[name for _, batch in one for name in batch] for one in (first, second)]
    assert ids[0] != ids[1] and sorted(ids[0]) == sorted(ids[1]) == sorted(row["id"] for row in rows())


@pytest.mark.parametrize("data", [stream, rows])
def test_a_finished_run_ends_at_once(tmp_path, data):
    """A stream has passes without end: a finished run went through them for ever, without a step."""
    whole = train(tmp_path, data(), max_steps=PASS + 1)
    seen = Recorder()
    assert_equal(whole, train(tmp_path, data(), given_collator=seen, max_steps=PASS + 1))
    assert not seen.seen


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"dataloader_num_workers": 2}, r"dataloader_num_workers 0 \(now 2\)"),
        ({"per_device_train_batch_size": 2}, r"per_device_train_batch_size 4 \(now 2\)"),
        (
            {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2},
            "gradient_acc.*1 .now 2., per_device.*4 .now 2.",
        ),
        ({"dataloader_drop_last": True}, r"dataloader_drop_last False \(now True\)"),
    ],
)
def test_a_stream_does_not_go_on_with_other_batches(tmp_path, changed, message):
    train(tmp_path, stream(), stop=2)
    with pytest.raises(ValueError, match=message):
        train(tmp_path, stream(), **changed)


def test_rows_in_memory_may_be_divided_otherwise_but_not_be_more(tmp_path):
    train(tmp_path, rows(), stop=PASS + 2)
    with pytest.raises(ValueError, match="4 rows a step, and now there are 8"):
        train(tmp_path, rows(), per_device_train_batch_size=8)
    seen = Recorder()
    divided = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    train(tmp_path, rows(), given_collator=seen, max_steps=2 * PASS, dataloader_num_workers=0, **divided)
    assert len(seen.seen) == 2 * (PASS - 2) and {epoch for epoch, _ in seen.seen} == {1}


def test_a_checkpoint_that_cannot_be_gone_on_from(tmp_path):
    train(tmp_path / "only_model", stream(), stop=2, save_only_model=True)
    with pytest.raises(ValueError, match="checkpoint-2 has no optimizer state"):
        train(tmp_path / "only_model", stream())
    train(tmp_path / "old", stream(), stop=2)
    file = tmp_path / "old" / "checkpoint-2" / "trainer_state.json"
    state = json.loads(file.read_text())
    del state["stateful_callbacks"]["seed_hf.place"]
    file.write_text(json.dumps(state))
    with pytest.raises(ValueError, match="does not say where in the stream"):
        train(tmp_path / "old", stream())
    train(tmp_path / "old", rows(), max_steps=4)  # of rows with numbers it does


@pytest.mark.parametrize(
    "data, settings, message",
    [
        (lambda: stream(0), {}, "gave no batch: it is empty, filters"),
        (lambda: stream(3), {"dataloader_drop_last": True}, "fewer than the 4 rows of a batch and dataloader_drop"),
        (lambda: stream(6), {"dataloader_drop_last": True, "dataloader_num_workers": 2}, "for each loader process"),
        (lambda: rows(3), {"dataloader_drop_last": True}, "fewer than the 4 rows of a batch and dataloader_drop"),
        (lambda: stream(7), {"gradient_accumulation_steps": 3}, "2 batches, fewer than gradient_accumulation_steps"),
    ],
)
def test_data_without_a_step_is_an_error(tmp_path, data, settings, message):
    """Such a run ended at once without a word, or never."""
    with pytest.raises(ValueError, match=message):
        train(tmp_path, data(), save_strategy="epoch", **settings)
    assert not list(tmp_path.glob("checkpoint-*"))


@pytest.mark.parametrize(
    "data, message",
    [
        (lambda: stream(0), "evaluation data gave no batch: it is empty, filters leave out all rows.$"),
        (lambda: rows(3), "fewer than the 8 rows of a batch and dataloader_drop_last is true"),
    ],
)
def test_an_evaluation_of_nothing_is_an_error(tmp_path, data, message):
    trainer = trainer_for(tmp_path, rows(), eval_dataset=data(), dataloader_drop_last=True)
    with pytest.raises(ValueError, match=message):
        trainer.evaluate()


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_a_stream_are_full_if_asked_for(tmp_path, workers):
    sizes = []
    trainer = trainer_for(
        tmp_path, stream(22), dataloader_drop_last=True, dataloader_num_workers=workers, save_strategy="no"
    )
    sizes = [len(batch["input_ids"]) for batch in trainer.get_train_dataloader()]
    assert sizes == [4] * (5 if workers == 0 else 4)  # each of two workers has eleven rows
    trainer.args.dataloader_drop_last = False
    assert sum(len(batch["input_ids"]) for batch in trainer.get_train_dataloader()) == 22


def test_batches_that_do_not_fill_a_step_are_left_out_with_a_word(tmp_path, caplog):
    seen = Recorder()
    with caplog.at_level(logging.INFO, logger="seed_hf.training.trainer"):
        train(tmp_path, stream(), given_collator=seen, gradient_accumulation_steps=4, max_steps=2, save_strategy="no")
    assert "Pass 1: left out the last 2 batches" in caplog.text
    assert [epoch for epoch, _ in seen.seen][: PASS + 4] == [0] * PASS + [1] * 4
