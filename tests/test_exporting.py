"""The three graphs: with any batch size what the models compute; in onnxruntime where it is installed."""

import shutil

import pytest
import torch

from seed_hf.exporting import NAMES, OnnxModel, compare_onnx, export_onnx, exported_parts
from tiny_families import whole_model
from tiny_language import picture, tiny_processor, tiny_seed_model


def exported(model, name: str):
    part = exported_parts(model)[name]
    with torch.no_grad():
        return torch.export.export(part.module, part.inputs, dynamic_shapes=part.shapes).module()


@torch.no_grad()
def test_the_halves_of_the_visual_tokenizer_take_any_batch():
    """A graph for one batch size is what `len` of a batch on the way would make."""
    model = tiny_seed_model()
    pixels = torch.randn(3, 3, 28, 28)
    codes = model.visual_tokenizer.encode(pixels)
    assert torch.equal(exported(model, "encoder")(pixels), codes)
    decoder = exported(model, "decoder")
    torch.testing.assert_close(decoder(codes[:1]), model.visual_tokenizer.decode(codes[:1]))
    torch.testing.assert_close(decoder(codes), model.visual_tokenizer.decode(codes))


@torch.no_grad()
@pytest.mark.parametrize(("family", "visual_embedding"), [("opt", "learned"), ("qwen3", "projected")])
def test_a_step_of_the_language_model_goes_on_from_a_cache_of_any_length(family, visual_embedding):
    model = whole_model(family, visual_embedding)
    config, step = model.config.get_text_config(), exported(model, "language_model")
    part = exported_parts(model)["language_model"]
    ids = torch.randint(3, config.image_token_id, (3, 9))
    mask = torch.ones_like(ids)
    mask[0, :2] = 0  # padded on the left
    whole = model.language_model(ids, attention_mask=mask).logits
    nothing = [tuple(one.new_zeros(3, one.shape[1], 0, one.shape[3]) for one in layer) for layer in part.inputs[2]]
    _, past = part.module(ids[:, :4], mask[:, :4], nothing)
    logits, present = step(ids[:, 4:], mask, past)
    torch.testing.assert_close(logits, whole[:, 4:], atol=1e-5, rtol=1e-4)
    assert len(present) == config.num_hidden_layers and present[0][0].shape[2] == 9


def test_what_is_missing_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("seed_hf.exporting.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"onnx, onnxscript not installed: pip install .\.\[export\]"):
        export_onnx(tiny_seed_model(), tmp_path)
    with pytest.raises(ImportError, match="onnxruntime not installed"):
        compare_onnx(tmp_path, tiny_seed_model(), tiny_processor(), [picture()], ["a red apple"])


def test_the_graphs_compute_the_same_in_onnxruntime(tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    model, processor = tiny_seed_model(), tiny_processor()
    written = export_onnx(model, tmp_path)
    assert [path.name for path in written] == [f"{name}.onnx" for name in NAMES]
    graphs = OnnxModel(tmp_path)
    not_encoded = graphs.encode(torch.full((1, 3, 28, 28), torch.nan))
    assert (not_encoded == -1).all()
    with pytest.raises(ValueError, match="-1 stands for an image whose encoding is not finite"):
        graphs.decode(not_encoded)  # the graph would take the last code for it
    (tmp_path / "alone").mkdir()
    shutil.copy(tmp_path / "decoder.onnx", tmp_path / "alone")
    assert OnnxModel(tmp_path / "alone").decode(torch.zeros(1, 32, dtype=torch.long)).isfinite().all()
    with pytest.raises(FileNotFoundError, match="encoder.onnx: no such file. `seed-hf export --part encoder`"):
        OnnxModel(tmp_path / "alone").encode(torch.zeros(1, 3, 28, 28))
    images = [picture(colour) for colour in ("red", "blue", "green")]
    found = compare_onnx(tmp_path, model, processor, images, ["a red apple", "yes"])
    assert found.pop("embeddings") < 1e-4 and found == {"codes": 1.0, "drawn_codes": 1.0, "captions": 1.0}
