"""`examples/other_suites` under the real lmms-eval, where it is installed."""

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from seed_hf import SeedTokenizerConfig, bundled


pytest.importorskip("lmms_eval")
from lmms_eval.api.instance import Instance  # noqa: E402


sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "other_suites"))
import seed_lmms  # noqa: E402


DEMO = bundled("seed-tiny", "demo")
DOCUMENTS = [{"image": Image.open(path)} for path in sorted(DEMO.glob("*.png"))[:3]]
ASKED = ("What is it?", "What is its main colour?", "")


def requests(kind: str, *middle, contexts=ASKED, see=lambda row: [row["image"]]):
    return [
        Instance(
            kind,
            (text, *middle, see, number, "demo", "test"),
            number,
            {"task": "demo", "doc_id": number, "repeats": 1},
        )
        for number, text in enumerate(contexts)
    ]


@pytest.fixture(scope="module")
def model():
    found = seed_lmms.SeedLmms.create_from_arg_string("device=cpu,batch_size=2")
    found.task_dict = {"demo": {"test": DOCUMENTS}}
    return found


def test_it_says_what_the_package_says(model):
    from seed_hf.texts import answer, describe

    options = {"max_new_tokens": 1024, "temperature": 0, "until": ["\n\n"]}
    said = model.generate_until(requests("generate_until", options))
    images = [row["image"].convert("RGB") for row in DOCUMENTS]
    assert said[:2] == [text.strip() for text in answer(model.model, model.processor, images[:2], list(ASKED[:2]))]
    assert said[2] == describe(model.model, model.processor, images[2:])[0].strip()


def test_stops_end_a_text(model):
    (said,) = model.generate_until(requests("generate_until", {"until": []}, contexts=("<image>What is it?",)))
    (cut,) = model.generate_until(requests("generate_until", {"until": [said[2:]]}, contexts=("What is it?",)))
    assert len(said) > 2 and cut == said[:2].strip()


def test_what_is_said_is_the_likelier_answer(model):
    said = model.generate_until(requests("generate_until", {}))[0]
    right = model.loglikelihood(requests("loglikelihood", said, contexts=ASKED[:1]))
    wrong = model.loglikelihood(requests("loglikelihood", lambda row: "zebra", contexts=ASKED[:1]))
    assert right[0][1] and not wrong[0][1] and wrong[0][0] < right[0][0] < 0


def test_what_it_cannot_do_is_refused(model):
    with pytest.raises(ValueError, match="demo, document 0: SeedLmms is asked about one image, got 0"):
        model.generate_until(requests("generate_until", {}, see=lambda row: []))
    with pytest.raises(NotImplementedError, match="no rounds"):
        model.generate_until_multi_round([])
    with pytest.raises(ValueError, match="mode must be one of understanding, drawing"):
        seed_lmms.SeedLmms(mode="both")
    with pytest.raises(ValueError, match="no arguments max_pixels"):
        seed_lmms.SeedLmms(max_pixels=3)


def test_a_drawing_comes_with_its_codes(tmp_path):
    arguments = f"mode=drawing,device=cpu,num_inference_steps=2,output_dir={tmp_path}"
    model = seed_lmms.SeedLmms.create_from_arg_string(arguments)
    model.task_dict = {"demo": {"test": [{}]}}
    (found,) = model.generate_until(requests("generate_until", {}, contexts=("a red apple",), see=lambda row: []))
    found = json.loads(found)
    assert Image.open(found["images"][0]).size == (64, 64) and found["text"] == ""
    (codes,) = found["codes"]
    size = SeedTokenizerConfig.from_pretrained(bundled(part="tokenizer")).codebook_size
    assert len(codes) == 32 and all(0 <= code < size for code in codes)
    model.task_dict = {"demo": {"test": DOCUMENTS}}
    with pytest.raises(ValueError, match="draws from words alone"):
        model.generate_until(requests("generate_until", {}, contexts=("a red apple",)))


def test_lmms_eval_finds_the_model_by_its_name():
    import lmms_eval_seed

    assert lmms_eval_seed.MODEL_REGISTRY_V2.get_model_class("seed") is seed_lmms.SeedLmms
