"""The frame of the benchmarks of speed: ratios, floors, equal results; a way that fails does not stop the others."""

import pytest
import torch
from typer import Exit

import language_stage
from seed_hf.bench import frame
from seed_hf.bench.authors_encoding import AuthorsEncoder
from seed_hf.bench.encode import encoding_flops, seeing_flops
from seed_hf.bench.frame import Bench, Way, equal_share, table
from seed_hf.bench.language import PROMPT, _flops
from seed_hf.bench.limits import Limits, bytes_of, flops_of
from seed_hf.bench.train import Steps
from seed_hf.cli.bench_report import show
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from tiny import tiny_tokenizer, tiny_tokenizer_config
from tiny_language import tiny_language_model


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.setattr(frame, "measured_limits", lambda device, dtype: Limits(1e9, 1e9))
    return Bench("trial", "cpu", rounds=3, seconds=0.0)


def fails():
    raise torch.OutOfMemoryError("out of\nmemory")


def test_a_case(bench):
    codes = torch.arange(4)
    ways = {
        "first": Way(lambda: codes, items=2, flops=10, moved=20),
        "too large": Way(fails, items=2),
        "other": Way(lambda: codes + (codes == 0), items=2),
    }
    case = bench.case("batch 2", lambda: ways, same=equal_share)
    first, other = case["ways"]["first"], case["ways"]["other"]
    assert first["ratio"] == 1 and first["floor_seconds"] == 20 / 1e9
    assert first["fastest"] <= first["seconds"] <= first["slowest"]
    assert other["same"] == 0.75 and "floor_seconds" not in other
    assert other["ratio"] == pytest.approx(first["seconds"] / other["seconds"])
    assert case["ways"]["too large"] == {"error": "OutOfMemoryError: out of memory"}
    lines = table(bench.report).splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines[3:]] == [
        "batch 2",
        "---",
        "first",
        "too large",
        "other",
    ]
    assert len({line.count("|") for line in lines[3:]}) == 1  # one table


def test_a_case_that_fails_does_not_stop_the_next(bench):
    assert bench.case("impossible", fails) == {"unit": "images", "error": "OutOfMemoryError: out of memory"}
    case = bench.case("first fails", lambda: {"first": Way(fails, 1), "other": Way(lambda: None, 1)})
    assert "ratio" not in case["ways"]["other"]
    assert "impossible: OutOfMemoryError" in table(bench.report)


def test_ratios_are_of_items(bench, monkeypatch):
    monkeypatch.setattr(bench, "_timed", lambda run, calls: (run(), 2.0 * calls, 1.0 * calls))
    case = bench.case("batches", lambda: {"one": Way(lambda: None, 1), "eight": Way(lambda: None, 8)})
    assert case["ways"]["eight"]["ratio"] == case["ways"]["eight"]["cpu_ratio"] == 8


def test_operations_and_bytes_are_counted():
    layer = torch.nn.Linear(8, 4, bias=False)
    assert flops_of(lambda: layer(torch.ones(3, 8))) == 2 * 3 * 8 * 4
    assert bytes_of(layer, torch.ones(2), None) == 4 * (32 + 2)


def test_operations_of_seeing_are_counted_without_weights_in_memory():
    config = tiny_tokenizer_config()
    tokenizer = SeedTokenizer(config).eval().requires_grad_(False)
    image = torch.ones(1, 3, *[config.vision_config.image_size] * 2)
    assert seeing_flops(config) == flops_of(lambda: tokenizer.get_causal_embeddings(image))
    assert encoding_flops(config) == flops_of(lambda: tokenizer.encode(image))


def test_what_gets_faster_in_its_first_calls_is_warm_before_it_is_timed(bench):
    """As what torch compiles in the first call and captures in the second."""
    seconds = iter([8.0, 3.0, 0.01, 0.01, 0.01])
    bench.seconds = 0.1
    bench._timed = lambda run, calls: (None, next(seconds), 0.0)
    assert bench._warm(lambda: None) == 10


def test_the_operations_of_the_language_model_are_those_that_torch_counts():
    lm = tiny_language_model()
    ids = torch.randint(3, 300, (2, PROMPT))
    with torch.no_grad():
        read = flops_of(lambda: lm.model(ids))
    heads = lm.config.num_hidden_layers * lm.config.hidden_size
    attention = 2 * 2 * len(ids) * PROMPT**2 * heads  # scores, and what they weigh
    assert _flops(lm, ids.numel(), 0) == read - attention
    assert _flops(lm, 0, 5) == 2 * 5 * lm.config.codebook_size * lm.config.hidden_size


def test_a_report_in_which_nothing_could_be_timed_is_a_failure(bench, capsys):
    bench.case("batch 1", lambda: {"first": Way(fails, items=2)})
    with pytest.raises(Exit) as ended:
        show(table, bench.report, None)
    assert ended.value.exit_code == 1 and "OutOfMemoryError" in capsys.readouterr().out
    bench.case("batch 2", lambda: {"first": Way(lambda: 1, items=2)})
    show(table, bench.report, None)


def test_the_authors_way_runs_with_a_model_in_half_precision():
    tokenizer = tiny_tokenizer()
    pixels = torch.randn(2, 3, 28, 28)
    codes = AuthorsEncoder(tokenizer).encode(pixels)
    assert AuthorsEncoder(tokenizer.bfloat16()).encode(pixels).shape == codes.shape


def test_steps_train_weights_of_the_type_in_which_a_training_has_them(tmp_path):
    """On a GPU the language model comes in bfloat16."""
    model = language_stage.tiny_language_model().bfloat16()
    steps = Steps(language_stage.trainer_for(model, language_stage.config(tmp_path, lora_r=0)))
    assert steps.trained and {weight.dtype for weight in steps.trained} == {torch.float32}
