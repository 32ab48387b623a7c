"""Converting state dicts: other sizes, full size, recognition, refusals and the report."""

import json

import pytest
import torch

from original import GOLDEN, HEADS, golden_io, golden_weights, original_state, other_size, stage_one_state
from seed_hf import SeedTokenizer, SeedTokenizerConfig
from seed_hf.conversion import ConversionError, compare_tokenizer, convert_original_tokenizer
from seed_hf.conversion.original_names import OriginalNames


OTHER_HEADS = {"vision_heads": 8, "qformer_heads": 12}
IMAGE = {"generation_target": "image", "generation_dim": 40}
LAYOUTS = {
    "seed1": ({"embedding_decoder": False, "generation_dim": 52}, None),
    "seed1 with everything": ({"text_tower": True, "num_generation_tokens": 9}, None),
    "seed1 of stage II": ({}, OriginalNames("text", "_text")),
    "seed2 mlp": ({"generation_head": "mlp", "mlp_head_dims": (64, 20, 10), **IMAGE}, None),
    "seed2 qformer": ({**IMAGE, "text_tower": True}, None),
    "every third layer crosses": ({"qformer_config": None}, None),
}


def count(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def pixels_for(model, rows: int = 2) -> torch.Tensor:
    size = model.config.vision_config.image_size
    return torch.randn(rows, 3, size, size, generator=torch.Generator().manual_seed(1))


# Sizes


@pytest.mark.parametrize("name", LAYOUTS)
def test_other_sizes_are_told_from_the_shapes(name):
    settings, names = LAYOUTS[name]
    if "qformer_config" in settings:
        base = other_size().config.qformer_config.to_dict()
        settings = {"qformer_config": {**base, "cross_attention_frequency": 3}}
    model = other_size(**settings)
    converted, report = convert_original_tokenizer(original_state(model, names), **OTHER_HEADS)
    assert not (report.unused or report.missing or report.new) and report.parameters == count(model)
    ours, theirs = model.state_dict(), converted.state_dict()
    assert set(ours) == set(theirs)
    for key, value in ours.items():
        assert torch.equal(value, theirs[key]), key
    pixels = pixels_for(model)
    assert torch.equal(model.encode(pixels), converted.encode(pixels))
    with torch.no_grad():
        assert torch.equal(model(pixels).generation_embeddings, converted(pixels).generation_embeddings)


def test_a_stage_one_checkpoint_of_another_size():
    model = other_size(text_tower=True)
    converted, report = convert_original_tokenizer(stage_one_state(model), **OTHER_HEADS)
    assert report.kind == "stage1" and converted.config.num_query_tokens == 32
    ids = torch.randint(1, 90, (2, 7))
    with torch.no_grad():
        first, second = (each(pixels_for(each), ids, stage="contrastive") for each in (model, converted))
    assert torch.equal(first.loss, second.loss)
    assert all(value.isfinite().all() for value in converted.state_dict().values())  # the new parts, too
    assert converted.quantizer.embedding.weight.abs().amax() <= 1 / 8192  # initialised as the paper has it


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_floating_type_becomes_fp32(dtype):
    model = other_size()
    state = {key: value.to(dtype) for key, value in original_state(model).items()}
    converted, _ = convert_original_tokenizer(state, **OTHER_HEADS)
    assert {value.dtype for value in converted.parameters()} == {torch.float32}
    expected = original_state(model)["query_tokens"].to(dtype).float()
    assert torch.equal(converted.query_tokens, expected)


def test_the_state_dict_is_left_alone():
    state = original_state(other_size())
    before = {key: value.clone() for key, value in state.items()}
    converted, _ = convert_original_tokenizer(state, **OTHER_HEADS)
    with torch.no_grad():
        converted.quantizer.embedding.weight.zero_()
    assert set(state) == set(before)
    assert torch.equal(state["quantize.embedding.weight"], before["quantize.embedding.weight"])


@pytest.mark.parametrize("name", ["seed1", "seed2"])
def test_full_size_key_lists(name):
    keys = json.loads((GOLDEN / f"{name}_checkpoint_keys.json").read_text())
    state = {key: torch.empty(shape, device="meta") for key, shape in keys.items()}
    model, report = convert_original_tokenizer(state)
    assert report.kind == name and not report.missing and not report.unknown
    assert {key.rpartition(".")[2] for key in report.unused} == {"position_ids"}
    assert set(report.used) | set(report.unused) == set(keys)
    assert all(parameter.is_meta for parameter in model.parameters())
    # transformers fuses the attention biases and so stores a zero for the keys, and counts the norm after the ViT.
    vision, norm = model.vision_model, count(model.vision_model.post_layernorm)
    assert count(vision) - 39 * 1408 - norm == 985_894_528
    without_vit = count(model) - count(vision) + norm
    assert without_vit == {"seed1": 168_175_424, "seed2": 164_104_000}[name]
    assert model.config.vision_config.image_size == 224 and model.config.vision_config.patch_size == 14


def test_full_size_training_class():
    with torch.device("meta"):
        model = SeedTokenizer(SeedTokenizerConfig(generation_target="image"))
        state = original_state(model)
    converted, report = convert_original_tokenizer(state)
    vision = converted.vision_model
    assert report.head == "qformer" and report.embedding_decoder
    assert count(converted) - count(vision) + count(vision.post_layernorm) == 196_689_984


# Recognition


def test_a_file_with_both_branches_is_read_as_it_is_asked_to():
    text = original_state(other_size(seed=1), OriginalNames("text", "_text"))
    image = original_state(other_size(seed=2, generation_head="mlp", **IMAGE))
    both = {**text, **image}
    assert convert_original_tokenizer(both, **OTHER_HEADS)[1].kind == "seed2"
    for kind, branch in (("seed1", text), ("seed2", image)):
        model, report = convert_original_tokenizer(both, kind=kind, **OTHER_HEADS)
        assert report.kind == kind and set(report.used) == set(branch)
        assert set(report.unused) == set(both) - set(branch)
    model, report = convert_original_tokenizer(both, kind="stage1", text_tower=False, **OTHER_HEADS)
    assert report.kind == "stage1" and "quantize.embedding.weight" in report.unused
    for kind, other in (("seed1", image), ("seed2", original_state(other_size()))):
        with pytest.raises(ConversionError, match="Missing.*looks like seed. instead"):
            convert_original_tokenizer(other, kind=kind, **OTHER_HEADS)
    assert convert_original_tokenizer(text, kind="seed2", **OTHER_HEADS)[1].kind == "seed1"  # its text-aligned form
    with pytest.raises(ValueError, match="kind must be one of seed1, seed2, stage1"):
        convert_original_tokenizer(both, kind="seed3")


def test_the_text_tower_comes_along_where_it_is_whole():
    state = original_state(other_size(text_tower=True))
    assert convert_original_tokenizer(state, **OTHER_HEADS)[1].text_tower
    model, report = convert_original_tokenizer(state, text_tower=False, **OTHER_HEADS)
    assert not report.text_tower and "temp" in report.unused
    del state["temp"]
    model, report = convert_original_tokenizer(state, **OTHER_HEADS)
    assert not report.text_tower and "text_proj.weight" in report.unused
    with pytest.raises(ConversionError, match=r"Missing \(1\): temp"):
        convert_original_tokenizer(state, text_tower=True, **OTHER_HEADS)
    model, report = convert_original_tokenizer(state, text_tower=True, allow_missing=["temp"], **OTHER_HEADS)
    assert report.missing == ["temp"] and model.temperature.item() == pytest.approx(0.07)


def test_leftovers_of_other_classes_are_reported_as_unused():
    state = original_state(other_size())
    extra = {
        "Qformer.bert.embeddings.position_ids": torch.arange(40)[None],
        "Qformer.cls.predictions.bias": torch.zeros(90),
        "itm_head.weight": torch.zeros(2, 96),
        "Reverse_Qformer.bert.embeddings.word_embeddings.weight": torch.zeros(90, 96),
        "visual_encoder.norm.weight": torch.zeros(88),
        **{key.replace("blocks.2.", "blocks.3."): value for key, value in state.items() if ".blocks.2." in key
           and key.startswith("visual")},
    }  # fmt: skip
    model, report = convert_original_tokenizer({**state, **extra}, **OTHER_HEADS)
    assert set(report.unused) == set(extra)  # EVA's own file has one block more, and a norm after it
    assert model.config.vision_config.num_hidden_layers == 3


def test_containers_and_ddp_prefixes_are_opened():
    state = original_state(other_size())
    wrapped = {"model": {f"module.{key}": value for key, value in state.items()}, "epoch": 3, "optimizer": {}}
    assert set(convert_original_tokenizer(wrapped, **OTHER_HEADS)[1].used) == set(state)


# Refusals


def changed(**changes):
    state = original_state(other_size())
    for key, value in changes.items():
        key = key.replace("__", ".")
        state.pop(key, None) if value is None else state.__setitem__(key, value)
    return state


def test_missing_and_unknown_keys_are_all_listed():
    state = changed(
        quantize__embedding__weight=None, Qformer__bert__encoder__layer__1__attention__self__query__bias=None
    )
    state["quantise.embedding.weight"] = torch.zeros(3)
    with pytest.raises(ConversionError) as error:
        convert_original_tokenizer(state, **OTHER_HEADS)
    assert set(error.value.missing) == {
        "quantize.embedding.weight",
        "Qformer.bert.encoder.layer.1.attention.self.query.bias",
    }
    assert error.value.unknown == ["quantise.embedding.weight"]
    assert all(key in str(error.value) for key in (*error.value.missing, *error.value.unknown))
    model, report = convert_original_tokenizer(
        state, allow_missing=["quantize.*", "Qformer.*.layer.1.*"], allow_unknown=["quantise.*"], **OTHER_HEADS
    )
    assert set(report.missing) == set(error.value.missing) and report.unknown == error.value.unknown
    assert all(value.isfinite().all() for value in model.state_dict().values())


@pytest.mark.parametrize(
    "start",
    ["Reverse_Qformer.", "blocks_text.", "blocks_text.3.", "Reverse_Qformer.bert.encoder.layer.3.", "visual_encoder.",
     "Qformer.", "encode_task_layer.", "distill_text_proj.", "query_tokens", "reverse_tokens", "ln_vision."],
)  # fmt: skip
def test_a_part_that_is_missing_is_named(start):
    state = original_state(other_size())
    gone = {key for key in state if key.startswith(start)}
    with pytest.raises(ConversionError) as error:
        convert_original_tokenizer({key: state[key] for key in state if key not in gone}, **OTHER_HEADS)
    missing = set(error.value.missing)
    if start in ("visual_encoder.", "Qformer."):  # whose depth is no longer known
        assert missing and all(key.startswith(start) for key in missing)
    else:
        assert missing == gone


@pytest.mark.parametrize("head", ["mlp", "qformer"])
@pytest.mark.parametrize(
    "start", ["image_down.2", "image_down.", "distill_image_proj.", "blocks_image.", "reverse_tok"]
)
def test_a_part_of_seed2_that_is_missing_is_named(start, head):
    state = original_state(other_size(generation_head=head, **IMAGE))
    gone = {key for key in state if key.startswith(start)}
    if gone:
        with pytest.raises(ConversionError) as error:
            convert_original_tokenizer({key: state[key] for key in state if key not in gone}, **OTHER_HEADS)
        assert set(error.value.missing) == gone


@pytest.mark.parametrize(
    "start", ["vision_proj.", "temp", "Qformer.bert.embeddings.word", "ln_vision.", "query_tokens"]
)
def test_a_part_of_stage_one_that_is_missing_is_named(start):
    state = stage_one_state(other_size(text_tower=True))
    gone = {key for key in state if key.startswith(start)}
    with pytest.raises(ConversionError) as error:
        convert_original_tokenizer({key: state[key] for key in state if key not in gone}, **OTHER_HEADS)
    assert set(error.value.missing) == gone


@pytest.mark.parametrize("half", [0, 1])
def test_half_a_checkpoint(half):
    state = original_state(other_size())
    kept = dict(list(state.items())[half::2])
    with pytest.raises(ConversionError, match="Missing"):
        convert_original_tokenizer(kept, **OTHER_HEADS)


@pytest.mark.parametrize(
    "key, shape",
    [
        ("query_tokens", (32, 96)),
        ("query_tokens", (1, 32, 95)),
        ("pos_embed_text", (1, 31, 96)),
        ("quantize.embedding.weight", (8192, 31)),
        ("visual_encoder.blocks.1.attn.q_bias", (87,)),
        ("visual_encoder.cls_token", (1, 1, 44)),
        ("Qformer.bert.encoder.layer.2.intermediate_query.dense.weight", (100, 96)),
        ("Reverse_Qformer.bert.encoder.layer.0.attention.self.query.weight", (96, 48)),
        ("distill_text_proj.bias", (5,)),
        ("blocks.0.mlp.fc1.weight", (96,)),
    ],
)
def test_wrong_shapes_are_named(key, shape):
    state = original_state(other_size())
    state[key] = torch.zeros(shape)
    with pytest.raises(ConversionError, match="wrong shape") as error:
        convert_original_tokenizer(state, **OTHER_HEADS)
    assert error.value.misshapen == [key] and str(shape) in str(error.value)


def test_values_that_are_no_weights():
    zeros = torch.zeros(1, 32, 96)
    for odd in (zeros.to(torch.int8), zeros.to_sparse()):
        with pytest.raises(ConversionError, match="Not dense floating point.*query_tokens"):
            convert_original_tokenizer(changed(query_tokens=odd), **OTHER_HEADS)
    with pytest.raises(ConversionError, match="hold no tensors: epoch"):
        convert_original_tokenizer({**original_state(other_size()), "epoch": 3}, **OTHER_HEADS)
    with pytest.raises(ConversionError, match="holds no tensors, only epoch"):
        convert_original_tokenizer({"epoch": 3})
    with pytest.raises(ConversionError, match="holds no tensors, only nothing"):
        convert_original_tokenizer({})


def test_numbers_of_eight_bits_are_numbers():
    eight = torch.full((1, 32, 96), 0.5).to(torch.float8_e4m3fn)
    model, _ = convert_original_tokenizer(changed(query_tokens=eight), **OTHER_HEADS)
    assert model.query_tokens.dtype == torch.float32 and (model.query_tokens == 0.5).all()
    eight[0, 0, 0] = torch.nan
    with pytest.raises(ConversionError, match="NaN or infinite.*query_tokens"):
        convert_original_tokenizer(changed(query_tokens=eight), **OTHER_HEADS)


def test_head_counts_and_grids_that_cannot_be():
    state = original_state(other_size())
    with pytest.raises(ConversionError, match="88 wide, which vision_heads=16 does not divide"):
        convert_original_tokenizer(state)
    with pytest.raises(ConversionError, match="96 wide, which qformer_heads=7"):
        convert_original_tokenizer(state, vision_heads=8, qformer_heads=7)
    with pytest.raises(ConversionError, match="16 positions"):
        convert_original_tokenizer(changed(visual_encoder__pos_embed=torch.zeros(1, 16, 88)), **OTHER_HEADS)


# Images of another size


def test_positions_are_interpolated_for_another_image_size():
    state = original_state(other_size())
    model, _ = convert_original_tokenizer(state, image_size=96, **OTHER_HEADS)
    same, _ = convert_original_tokenizer(state, image_size=64, **OTHER_HEADS)
    assert model.config.vision_config.image_size == 96
    positions = model.vision_model.embeddings.position_embedding
    assert positions.shape == (1, 37, 88)
    assert torch.equal(positions[:, 0], same.vision_model.embeddings.position_embedding[:, 0])
    grid = state["visual_encoder.pos_embed"][:, 1:].reshape(1, 4, 4, 88).permute(0, 3, 1, 2)
    bicubic = torch.nn.functional.interpolate(grid, size=(6, 6), mode="bicubic", align_corners=False)
    assert torch.equal(positions[0, 1:], bicubic.flatten(2)[0].T)
    assert model.encode(pixels_for(model)).shape == (2, 32)
    with pytest.raises(ValueError, match="multiple of the patch size 16"):
        convert_original_tokenizer(state, image_size=100, **OTHER_HEADS)


# What is printed


def test_the_report_prints():
    _, report = convert_original_tokenizer(golden_weights("stage1_contrastive"), **HEADS)
    text = str(report)
    assert "stage I" in text and "quantizer.embedding.weight" in text and "... and" in text
    assert "used              96" in text


def test_the_parity_table_prints_and_tells_a_difference():
    weights = golden_weights("seed1_tokenizer")
    weights["distill_text_proj.bias"] = weights["distill_text_proj.bias"] + 1
    parity = compare_tokenizer(convert_original_tokenizer(weights, **HEADS)[0], golden_io("seed1_tokenizer"))
    assert not parity.holds
    bad = [line for line in str(parity).splitlines() if "too far" in line]
    assert len(bad) == 1 and bad[0].startswith("generation_embeds") and "100.00 %" in str(parity)


def test_recordings_that_cannot_be_compared():
    model, _ = convert_original_tokenizer(golden_weights("seed1_tokenizer"), **HEADS)
    recorded = golden_io("seed1_tokenizer")
    with pytest.raises(ValueError, match="no pixel_values"):
        compare_tokenizer(model, {})
    with pytest.raises(ValueError, match="unknown results: loss_itc"):
        compare_tokenizer(model, {**recorded, "loss_itc": torch.zeros(())})
    with pytest.raises(ValueError, match="takes .batch, 3, 56, 56."):
        compare_tokenizer(model, {"pixel_values": torch.zeros(1, 3, 28, 28)})
    with pytest.raises(ValueError, match="pre_quant: recorded as"):
        compare_tokenizer(model, {**recorded, "pre_quant": recorded["pre_quant"][:1]})
