"""Other models in the layout of the released SEED-LLaMA: other vocabularies, codes, configs and files."""

import json
import shutil

import pytest
import torch
from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2
from transformers import AutoModelForCausalLM, LlamaForCausalLM

import seed_hf.auto  # noqa: F401
from released_seed_llama import LAYOUT, WEIGHTS, release
from seed_hf import SeedForConditionalGeneration, SeedLlamaForCausalLM, SeedProcessor
from seed_hf.conversion import ConversionError, SeedLlamaConversion
from seed_hf.conversion.llama_tokenizer import read_llama_tokenizer
from seed_llama_variants import OTHER_KINDS, AuthorsTokenizer, check_variant, texts, trained
from tiny import tiny_tokenizer


@pytest.mark.parametrize("seed", [4, 13, 20])
def test_variants_of_the_layout(seed, tmp_path):
    check_variant(tmp_path, seed)


# Text


def with_model(folder, model: bytes, codes: int = 2):
    folder.mkdir()
    (folder / "tokenizer.model").write_bytes(model)
    first = len(SentencePieceProcessor(model_proto=model))
    names = [*(f"<img_{code:05d}>" for code in range(codes)), "<img>", "</img>"]
    (folder / "added_tokens.json").write_text(json.dumps({name: first + number for number, name in enumerate(names)}))
    return folder


def test_runs_of_spaces_as_in_llamas_own_model(tmp_path):
    """There, pieces of spaces alone have the lowest score and ids before the words: words are merged first."""
    proto = sentencepiece_model_pb2.ModelProto.FromString((LAYOUT / "tokenizer.model").read_bytes())
    words = [piece for piece in proto.pieces[259:] if set(piece.piece) != {"▁"}]
    spaces = [type(words[0])(piece="▁" * length, score=-1e9, type=1) for length in (2, 4, 8, 1)]
    del proto.pieces[259:]
    proto.pieces.extend([*spaces, *words])
    model = proto.SerializeToString()
    tokenizer = read_llama_tokenizer(with_model(tmp_path / "llama", model))
    pieces = SentencePieceProcessor(model_proto=model)
    assert pieces.encode(" apple", out_type=str)[0] == "▁"
    for text in (" ", " a", "  a  b ", "the  dog", "\n  x", "a" + " " * 11 + "b", *texts(0, 100)):
        assert tokenizer(text, add_special_tokens=False).input_ids == pieces.encode(text), text


def test_a_text_that_begins_with_a_space_has_the_prefix_too(tmp_path):
    tokenizer = read_llama_tokenizer(LAYOUT)
    model = (LAYOUT / "tokenizer.model").read_bytes()
    authors = AuthorsTokenizer(model, json.loads((LAYOUT / "added_tokens.json").read_text()))
    for text in ("<s> a dog", " a dog", "  ", "<s> <img><img_00001></img> what is this? </s> yes", *texts(1, 60)):
        assert tokenizer(text, add_special_tokens=False).input_ids == authors(text), text


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_models_that_the_library_cannot_follow_are_refused(kind, tmp_path):
    folder = with_model(tmp_path / "tokenizer", trained(**OTHER_KINDS[kind]))
    message = "has no <" if kind in ("no bos", "names") else r"sentencepiece gives .* BPE with byte fallback"
    with pytest.raises(ConversionError, match=message):
        read_llama_tokenizer(folder)


# Configurations and files


def edit(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def layout(tmp_path):
    folder = shutil.copytree(LAYOUT, tmp_path / "layout", copy_function=shutil.copyfile)
    folder.chmod(0o755)
    return folder


def logits_of(folder, ids):
    with torch.no_grad():
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()(ids).logits


IDS = torch.arange(5, 1500, 40)[None]


def test_rows_beyond_the_tokens(tmp_path):
    padding = torch.zeros(22, 64)
    wide = {
        name: torch.cat([WEIGHTS[name].float(), padding]) for name in ("model.embed_tokens.weight", "lm_head.weight")
    }
    source = release(tmp_path / "in", {**WEIGHTS, **wide})
    edit(source / "config.json", vocab_size=1536)
    SeedLlamaConversion(source, LAYOUT, tmp_path / "out").write()
    SeedLlamaConversion(release(tmp_path / "exact"), LAYOUT, tmp_path / "other").write()
    assert torch.equal(logits_of(tmp_path / "out", IDS)[..., :1514], logits_of(tmp_path / "other", IDS))
    model = SeedLlamaForCausalLM.from_pretrained(tmp_path / "out")
    assert (model.config.vocab_size, model.config.image_token_id, model.config.text_vocab_size) == (1536, 1514, 1000)
    edit(source / "config.json", vocab_size=1530)
    with pytest.raises(ConversionError, match="1530 rows, the tokenizer 1514 tokens"):
        SeedLlamaConversion(source, LAYOUT, tmp_path / "no")


@pytest.mark.parametrize("stored", [("model.embed_tokens.weight",), ("model.embed_tokens.weight", "lm_head.weight")])
def test_tied_matrices(tmp_path, stored):
    rows = WEIGHTS["model.embed_tokens.weight"]
    weights = {**{n: w for n, w in WEIGHTS.items() if n != "lm_head.weight"}, **dict.fromkeys(stored, rows)}
    source = release(tmp_path / "in", weights)
    edit(source / "config.json", tie_word_embeddings=True)
    SeedLlamaConversion(source, LAYOUT, tmp_path / "out").write()
    expected = LlamaForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    with torch.no_grad():
        assert torch.equal(logits_of(tmp_path / "out", IDS), expected(IDS).logits)
    model = SeedLlamaForCausalLM.from_pretrained(tmp_path / "out")
    assert model.lm_head.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()


def test_number_types_are_kept_as_they_are_stored(tmp_path):
    """Where they differ, the model gets the one that holds all: nothing is rounded without a word."""
    source = release(tmp_path / "in", shards=1)
    weights = {
        name: weight if "norm" in name else weight.to(torch.float16)
        for name, weight in torch.load(source / "pytorch_model-00001-of-00001.bin").items()
    }
    weights["model.norm.weight"] = weights["model.norm.weight"] + 2**-20
    torch.save(weights, source / "pytorch_model-00001-of-00001.bin")
    conversion = SeedLlamaConversion(source, LAYOUT, tmp_path / "out")
    conversion.write()
    assert conversion.report.dtype == "float16, float32" and "float16, float32" in str(conversion.report)
    model = SeedLlamaForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert model.dtype == torch.float32 and torch.equal(model.model.norm.weight, weights["model.norm.weight"])


def test_codes_an_image_are_those_of_the_visual_tokenizer(tmp_path, caplog):
    sizes = {"codebook_size": 512, "num_query_tokens": 16, "num_generation_tokens": 1}
    tiny_tokenizer(**sizes, generation_target="image").save_pretrained(tmp_path / "visual")
    source = release(tmp_path / "in")
    SeedLlamaConversion(source, LAYOUT, tmp_path / "out", visual_tokenizer=tmp_path / "visual").write()
    # The visual tokenizer of a whole model is one, too.
    SeedLlamaConversion(source, LAYOUT, tmp_path / "again", visual_tokenizer=tmp_path / "out").write()
    model = SeedForConditionalGeneration.from_pretrained(tmp_path / "again").eval()
    processor = SeedProcessor.from_pretrained(tmp_path / "again")
    ids = model.generate(**processor("<s>", images=None), generation_mode="image")
    (codes,) = processor.post_process_multimodal_output(ids, generation_mode="image")
    assert codes.shape == (1, 16)
    assert "image_token_id" not in caplog.text  # transformers would warn of a placeholder without a row


def test_special_tokens_among_the_added_ones(tmp_path):
    folder = layout(tmp_path)
    edit(folder / "added_tokens.json", **{"<s>": 1, "</s>": 2, "<unk>": 0})
    assert read_llama_tokenizer(folder).get_vocab() == read_llama_tokenizer(LAYOUT).get_vocab()


def test_what_training_left_in_the_configuration_is_left_out(tmp_path):
    source = release(tmp_path / "in")
    edit(source / "config.json", temperature=0.9, do_sample=True, max_length=40, use_xformers=True, pretraining_tp=2)
    conversion = SeedLlamaConversion(source, LAYOUT, tmp_path / "out")
    conversion.write()
    saved = (tmp_path / "out" / "config.json").read_text()
    assert not any(name in saved for name in ("temperature", "do_sample", "xformers", "max_sequence", "max_length"))
    assert "prompt format     vicuna" in str(conversion.report)
