"""`seed-hf bench quantized`: codes and captions of each way beside those of the model as it is."""

from importlib.util import find_spec

import torch

from seed_hf.bench.quantized import configs, equal_texts, measure, table, weight_bytes
from tiny_diffusion import tiny_model_and_processor, tiny_pipeline


def test_half_of_the_bits_take_half_of_the_memory(tmp_path):
    model, processor = tiny_model_and_processor()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    report = measure(model=tmp_path, prompts=2, device="cpu", rounds=1, seconds=0.0)
    assert list(report["cases"]) == ["2 prompts to codes", "2 captions of codes"]
    sizes = report["weight_bytes"]
    for case in report["cases"].values():
        assert list(case["ways"]) == ["as it is", *configs()]
        assert 0 <= case["ways"]["bfloat16"]["same"] <= 1
        for name, found in case["ways"].items():
            package = name.rpartition(", ")[2]
            if name in ("as it is", "bfloat16") or find_spec(package):
                assert name in sizes  # these widths are too small for some
            else:  # the other ways go on
                assert found["error"] == f"ImportError: pip install {package}" and name not in sizes
    assert sizes["as it is"] == weight_bytes(model)
    assert sizes["bfloat16"] < 0.6 * sizes["as it is"]  # numbers of positions stay integers
    assert f"bfloat16 {sizes['bfloat16'] / 1e6:.1f}" in table(report)


def test_a_pipeline_has_a_model(tmp_path):
    model, processor = tiny_model_and_processor()
    tiny_pipeline(model, processor=processor).save_pretrained(tmp_path)
    report = measure(model=tmp_path, prompts=1, device="cpu", rounds=1, seconds=0.0)
    assert report["weight_bytes"]["as it is"] > report["weight_bytes"]["bfloat16"]


def test_equal_texts():
    assert equal_texts(["a", "b", "c", "d"], ["a", "b", "x", "d"]) == 0.75


def test_weights_of_parts_are_counted():
    layer = torch.nn.Linear(4, 2, bias=False)
    assert weight_bytes(layer) == 4 * 8
    layer.weight.SCB = torch.ones(2)  # as bitsandbytes keeps the scales of its rows
    assert weight_bytes(layer) == 4 * 8 + 4 * 2
