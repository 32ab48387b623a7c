"""What transformers tests of all its models, of all of ours: each class and family at a tiny size.

The questions are those of the library's own ModelTesterMixin; the library does not ship it.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from torch import nn
from transformers.utils import is_flash_attn_2_available

from seed_hf.modeling.whole_weights_seed import new_weights
from tiny import tiny_tokenizer
from tiny_families import visual_model, whole_model


@dataclass
class Case:
    """A model and inputs with which its `forward` has a loss.

    Args:
        make: A model in eval mode, the same each time.
        inputs: Of `forward`, given the configuration.
        training: More inputs, which give the loss, or what makes them of the inputs.
        parts: Names of the models in it.
    """

    make: Callable[[], nn.Module]
    inputs: Callable[[], dict]
    training: dict | Callable[[dict], dict] = field(default_factory=dict)
    parts: tuple[str, ...] = ()


def pixels(rows: int = 3) -> torch.Tensor:
    return torch.randn(rows, 3, 28, 28, generator=torch.Generator().manual_seed(0))


def texts(rows: int = 3) -> dict:
    ids = torch.randint(3, 300, (rows, 9), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def sequences(name: str) -> Callable[[], dict]:
    def make():
        config = visual_model(name).config
        ids = texts()["input_ids"]
        span = [config.boi_token_id, *[config.image_token_id] * 32, config.eoi_token_id]
        ids = torch.cat([ids[:, :4], torch.tensor([span] * 3), ids[:, 4:]], dim=1)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels()}

    return make


def labels(inputs: dict) -> dict:
    return {"labels": inputs["input_ids"]}


IMAGE_TARGET = {"generation_target": "image", "num_generation_tokens": 1}
STAGE_TWO = {"stage": "quantization", "target_embeddings": torch.zeros(3, 6, 20)}
CASES = {
    "tokenizer": Case(tiny_tokenizer, lambda: {"pixel_values": pixels()}, STAGE_TWO),
    "tokenizer in stage I": Case(
        tiny_tokenizer, lambda: {"pixel_values": pixels(), **texts()}, {"stage": "contrastive"}
    ),
    "tokenizer of SEED-2": Case(
        lambda: tiny_tokenizer(text_tower=False, generation_head="mlp", mlp_head_dims=(8, 4), **IMAGE_TARGET),
        lambda: {"pixel_values": pixels()},
        {"stage": "quantization", "target_embeddings": torch.zeros(3, 20)},
    ),
    "opt": Case(lambda: visual_model("opt"), texts, labels),
    "opt, projected": Case(lambda: visual_model("opt", "projected"), texts, labels),
    "llama": Case(lambda: visual_model("llama"), texts, labels),
    "smollm2": Case(lambda: visual_model("smollm2"), texts, labels),
    "qwen3": Case(lambda: visual_model("qwen3"), texts, labels),
    "whole of opt": Case(lambda: whole_model("opt"), sequences("opt"), labels, ("visual_tokenizer", "language_model")),
    "whole of qwen3": Case(
        lambda: whole_model("qwen3"), sequences("qwen3"), labels, ("visual_tokenizer", "language_model")
    ),
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture(scope="module")
def model(case):
    """Shared: a test that changes it makes a copy."""
    return case.make()


@pytest.fixture(scope="module")
def inputs(case):
    return case.inputs()


def tensors(output) -> dict[str, torch.Tensor]:
    return {name: value for name, value in output.items() if isinstance(value, torch.Tensor)}


def assert_close(found, expected, **tolerance):
    found, expected = tensors(found), tensors(expected)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, **(tolerance or {"atol": 1e-5, "rtol": 1e-4}), msg=name)


def loss_of(model, case, inputs) -> torch.Tensor:
    more = case.training(inputs) if callable(case.training) else case.training
    return model(**inputs, **more).loss


def gradients(model, case, inputs) -> dict[str, torch.Tensor]:
    model.train()
    loss = loss_of(model, case, inputs)
    loss.backward()
    return {"loss": loss.detach()} | {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


class TestModels:
    def test_configuration_comes_back(self, model, tmp_path):
        config = model.config
        config.save_pretrained(tmp_path)
        loaded = type(config).from_pretrained(tmp_path)
        again = type(config)(**config.to_dict())
        for other in (loaded, again, copy.deepcopy(config), type(config).from_dict(config.to_dict())):
            assert other.to_dict() | {"_name_or_path": "", "transformers_version": None} == config.to_dict() | {
                "_name_or_path": "",
                "transformers_version": None,
            }
        assert type(config)().model_type == config.model_type  # no argument is needed

    @torch.no_grad()
    def test_saved_loaded_and_saved(self, model, inputs, tmp_path):
        model.save_pretrained(tmp_path / "one")
        loaded = type(model).from_pretrained(tmp_path / "one")
        assert not loaded.training
        expected, found = tensors(model(**inputs)), tensors(loaded(**inputs))
        assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)
        loaded.save_pretrained(tmp_path / "two")
        one, two = (tmp_path / name / "model.safetensors" for name in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()

    def test_every_missing_weight_has_an_initial_value(self, model):
        config = copy.deepcopy(model.config)
        torch.use_deterministic_algorithms(True, warn_only=True)  # what is not initialised is NaN
        try:
            with new_weights(model.state_dict()):
                found = type(model).from_pretrained(None, config=config, state_dict={})
        finally:
            torch.use_deterministic_algorithms(False)
        for name, value in [*found.named_parameters(), *found.named_buffers()]:
            assert not value.is_floating_point() or value.isfinite().all(), name
            assert not value.is_meta, name
        with pytest.raises(ValueError, match="none are drawn at random"):
            type(model).from_pretrained(None, config=config, state_dict={})

    @torch.no_grad()
    def test_eager_attention_is_sdpa(self, model, inputs):
        eager = copy.deepcopy(model)
        eager.set_attn_implementation("eager")
        assert model.config._attn_implementation == "sdpa"
        assert_close(eager(**inputs), model(**inputs))

    @torch.no_grad()
    def test_a_row_does_not_depend_on_its_batch(self, model, inputs):
        whole = tensors(model(**inputs))
        for row in range(3):
            alone = tensors(model(**{name: value[row : row + 1] for name, value in inputs.items()}))
            for name, value in alone.items():
                torch.testing.assert_close(value[0], whole[name][row], atol=1e-5, rtol=1e-4, msg=name)

    @torch.no_grad()
    def test_tuples_hold_what_outputs_hold(self, model, inputs):
        output, values = model(**inputs), model(**inputs, return_dict=False)
        assert isinstance(values, tuple) and len(values) == len(output)
        for found, expected in zip(values, output.values(), strict=True):
            assert not isinstance(expected, torch.Tensor) or torch.equal(found, expected)

    @torch.no_grad()
    def test_hidden_states_and_attentions(self, model, inputs):
        eager = copy.deepcopy(model)
        eager.set_attn_implementation("eager")
        output = eager(**inputs, output_hidden_states=True, output_attentions=True)
        config = model.config.vision_config if hasattr(model, "vision_model") else model.config.get_text_config()
        layers, rows = config.num_hidden_layers, len(inputs.get("input_ids", inputs.get("pixel_values")))
        assert len(output.hidden_states) == layers + 1 and len(output.attentions) == layers
        for state in output.hidden_states:
            assert state.shape[0] == rows and state.shape[-1] == config.hidden_size
        for weights in output.attentions:
            assert weights.shape[:2] == (rows, config.num_attention_heads)
            assert_sums_to_one(weights)
        assert_close({n: v for n, v in output.items() if n in model(**inputs)}, model(**inputs))

    def test_gradient_checkpointing_changes_nothing(self, case, model, inputs):
        expected = gradients(copy.deepcopy(model), case, inputs)
        assert len(expected) > 2
        for part in ("", *case.parts):
            other = copy.deepcopy(model)
            other.get_submodule(part).gradient_checkpointing_enable()
            on = {name for name, module in other.named_modules() if getattr(module, "gradient_checkpointing", False)}
            assert on and all(name.startswith(part) for name in on)
            assert_close(gradients(other, case, inputs), expected)
            other.get_submodule(part).gradient_checkpointing_disable()
            assert not any(getattr(module, "gradient_checkpointing", False) for module in other.modules())

    def test_inputs_require_gradients_where_weights_are_frozen(self, case, model, inputs):
        frozen = copy.deepcopy(model).requires_grad_(False)
        assert not loss_of(frozen, case, inputs).requires_grad
        frozen.enable_input_require_grads()
        if "visual_tokenizer" not in case.parts and hasattr(model, "vision_model"):
            # Stage II does not look back into the ViT, which is frozen in it.
            assert frozen.get_causal_embeddings(inputs["pixel_values"]).requires_grad
        else:
            assert loss_of(frozen, case, inputs).requires_grad
        frozen.disable_input_require_grads()
        assert not loss_of(frozen, case, inputs).requires_grad

    @torch.no_grad()
    def test_the_vocabulary_grows_and_is_not_cut(self, model, inputs, tmp_path):
        if "input_ids" not in inputs or hasattr(model, "vision_model"):
            with pytest.raises((TypeError, AttributeError)):
                copy.deepcopy(model).resize_token_embeddings(10)
            return
        larger, rows = copy.deepcopy(model), model.config.get_text_config().vocab_size
        larger.resize_token_embeddings(rows + 10, mean_resizing=False)
        assert larger.config.get_text_config().vocab_size == rows + 10 == len(larger.get_output_embeddings().weight)
        torch.testing.assert_close(larger(**inputs).logits[..., :rows], model(**inputs).logits)
        larger.save_pretrained(tmp_path)
        torch.testing.assert_close(type(model).from_pretrained(tmp_path)(**inputs).logits, larger(**inputs).logits)
        with pytest.raises(ValueError, match="rows are too few"):
            larger.resize_token_embeddings(100)
        assert len(larger.get_input_embeddings().weight) == rows + 10

    def test_flash_attention_is_taken_or_refused_with_what_to_do(self, case, model):
        flash, other = "flash_attention_2", copy.deepcopy(model)
        missing = () if is_flash_attn_2_available() else (ImportError,)
        if not hasattr(model, "vision_model") and not case.parts:
            assert type(model)._supports_flash_attn
            if missing:
                with pytest.raises(missing):  # it got as far as looking for the kernel
                    other.set_attn_implementation(flash)
            return
        for kernel in (flash, "flex_attention"):
            with pytest.raises(ValueError, match="by part: attn_implementation="):
                other.set_attn_implementation(kernel)
        part = "text_config" if case.parts else "vision_config"
        assert repr(part).strip("'") in other.flash_parts
        if missing:
            with pytest.raises(missing):
                other.set_attn_implementation({part: flash})


COMPILED = ("tokenizer", "opt, projected", "llama", "qwen3", "whole of opt")  # one of each class


@pytest.mark.parametrize("name", COMPILED)
def test_it_compiles_into_one_graph(name):
    """Forward pass with its loss, and the gradients. A backend that compiles nothing counts the graphs."""
    case, graphs = CASES[name], []
    model, inputs = case.make(), case.inputs()
    inputs |= case.training(inputs) if callable(case.training) else case.training

    def count(graph, examples):
        graphs.append(graph)
        return graph.forward

    def run(function):
        output = function(**inputs)
        output.loss.backward()
        found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        model.zero_grad()
        return output, found

    torch.compiler.reset()
    (output, found), (expected, gradients) = run(torch.compile(model, backend=count)), run(model)
    torch.compiler.reset()
    assert len(graphs) == 1  # a break makes a second one
    assert_close(output, expected)
    assert found.keys() == gradients.keys()
    for weight, gradient in gradients.items():
        torch.testing.assert_close(found[weight], gradient, msg=weight)


def assert_sums_to_one(weights: torch.Tensor):
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
