"""The samples that the authors' data pipes made of recorded rows: the same ids, labels and losses."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from released_seed_llama import GOLDEN, LAYOUT, release
from seed_hf import SeedLlamaForCausalLM
from seed_hf.conversion import SeedLlamaConversion
from seed_hf.training import (
    InstructionCollator,
    InstructionConfig,
    InstructionTrainer,
    LanguageModelCollator,
    LanguageModelConfig,
    LanguageModelTrainer,
)


SAMPLES = json.loads((GOLDEN / "training_samples.json").read_text())
LOSSES = load_file(GOLDEN / "language_model_io.safetensors")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    root = tmp_path_factory.mktemp("seed_llama")
    SeedLlamaConversion(release(root / "released"), LAYOUT, root / "model").write()
    return SeedLlamaForCausalLM.from_pretrained(root / "model").eval(), AutoTokenizer.from_pretrained(root / "model")


def parts(text: str, images) -> list[dict]:
    """The parts of a text with `<image>` marks; `images` is used up in order."""
    found = []
    for piece in re.split("(<image>)", text):
        found += [{"type": "image", "codes": next(images)}] if piece == "<image>" else []
        found += [{"type": "text", "text": piece}] if piece not in ("", "<image>") else []
    return found


def conversation(sample: dict) -> dict:
    images = iter(sample["images"])
    roles = ("user", "assistant")
    turns = [(role, text) for turn in sample["turns"] for role, text in zip(roles, turn)]
    return {"messages": [{"role": role, "content": parts(text, images)} for role, text in turns]}


def pretraining_row(sample: dict, image: int) -> dict:
    """What a user of the language-model stage has of a recorded row; the random choice is read off the result.

    Args:
        sample: As it was recorded.
        image: The id of `<img>`.
    """
    data, arguments, ids = sample["data"], sample["arguments"], sample["input_ids"]
    row = {"max_length": sample["padded_to"], "loss_on": "answers" if arguments.get("mask_left_label") else "all"}
    if "texts" in data:
        given = list(zip(data["image_ids"], data["texts"]))
        document = [
            {"type": "text", "text": text} if codes is None else {"type": "image", "codes": codes}
            for codes, text in given
        ]
        return {**row, "document": document, "swap_images": 0.0 if ids[-2] != image + 1 else 1.0}
    if "_raw" in data:
        return {**row, "text": data["_raw"]["text"]}
    if "answer" in data:  # a video: its frames are given
        return {"codes": data["image_ids"], "caption": data["answer"], "direction": "image_to_text"}
    direction = "image_to_text" if ids[1] == image else "text_to_image"
    return {**row, "codes": data["image_ids"], "caption": data["text"], "direction": direction}


def check(batch: dict, sample: dict, trainer, model) -> None:
    assert batch["input_ids"][0].tolist() == sample["input_ids"]
    assert batch["labels"][0].tolist() == sample["labels"]
    with torch.no_grad():
        loss = trainer.compute_loss(model, {name: value for name, value in batch.items() if name != "row_ids"})
    torch.testing.assert_close(loss, LOSSES[f"loss/{sample['name']}"][0], rtol=1e-4, atol=0)


INSTRUCTION = [sample for sample in SAMPLES if sample["module"] == "torchdata_sft"]
PRETRAINING = [sample for sample in SAMPLES if sample["module"] == "torchdata_train"]


@pytest.fixture(scope="module")
def trainers(model, tmp_path_factory):
    out = str(tmp_path_factory.mktemp("out"))
    found = []
    for config, trainer, collator in (
        (InstructionConfig, InstructionTrainer, InstructionCollator),
        (LanguageModelConfig, LanguageModelTrainer, LanguageModelCollator),
    ):
        args = config(output_dir=out, lora_r=0, use_cpu=True, report_to="none")
        found.append(trainer(model[0], args, data_collator=collator(model[1], model[0].config)))
    return found


@pytest.mark.parametrize(
    "sample", [sample for sample in INSTRUCTION if "turns" in sample], ids=lambda sample: sample["name"]
)
def test_samples_of_instruction_tuning(sample, model, trainers):
    collator = InstructionCollator(model[1], model[0].config)
    check(collator([conversation(sample)]), sample, trainers[0], model[0])


def test_a_sample_that_was_cut(model, trainers):
    """The authors cut after a number of tokens; what they cut is shown whole in another sample."""
    sample, whole = (
        next(s for s in INSTRUCTION if s["name"] == name) for name in ("qa_cut", "qa_answer_with_full_stop")
    )
    question = whole["turns"][0][0]
    row = conversation({**sample, "turns": [[question, sample["data"]["answer"]]], "images": whole["images"]})
    row["max_length"] = sample["padded_to"]
    check(InstructionCollator(model[1], model[0].config, cut="tokens")([row]), sample, trainers[0], model[0])
    with pytest.raises(ValueError, match=r"row 0 of a batch: The first turn alone has \d+ tokens .* max_length is 60"):
        InstructionCollator(model[1], model[0].config)([row])


@pytest.mark.parametrize("sample", PRETRAINING, ids=lambda sample: sample["name"])
def test_samples_of_pretraining(sample, model, trainers):
    config = model[0].config
    config = type(config)(**{**config.to_dict(), "prompt_format": "plain"})
    collator = LanguageModelCollator(
        model[1],
        config,
        special_tokens=True,
        max_images=sample["arguments"].get("max_images"),
        cut="tokens" if sample["name"] == "pretrain_pair_cut_inside_image" else "whole",
    )
    check(collator([pretraining_row(sample, config.boi_token_id)]), sample, trainers[1], model[0])


def test_every_sample_is_tried():
    left_out = [s["name"] for s in INSTRUCTION if "turns" not in s and s["name"] != "qa_cut"]
    assert left_out == ["conversation_skipped_description"]  # empty: bos and eos. Here such a row is an error
    assert len(INSTRUCTION) + len(PRETRAINING) == len(SAMPLES)
