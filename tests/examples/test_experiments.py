"""`examples/experiments`: what the figures are made of, and the whole command on random features."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch


FOLDER = Path(__file__).parents[2] / "examples" / "experiments"
sys.path[:0] = [str(FOLDER), str(FOLDER.parent / "seed_tiny")]

import claims  # noqa: E402
import experiment  # noqa: E402
import measuring  # noqa: E402
import reading_codes  # noqa: E402
import scene_features  # noqa: E402
import summary  # noqa: E402
from optimizer import MuonAdamW, orthogonalised  # noqa: E402
from setting import SCALES, Place, Setting  # noqa: E402


PLACES, CODEBOOK = 4, 8


@pytest.fixture(scope="module")
def model():
    """A language model with the words of the small world and images of four codes."""
    from transformers import OPTForCausalLM

    from seed_hf.modeling.extension_seed import extended
    from seed_hf.modeling.modeling_seed_text import SeedForCausalLM

    torch.manual_seed(0)
    config = reading_codes.opt_config()
    sizes = {
        "hidden_size": 16,
        "word_embed_proj_dim": 16,
        "ffn_dim": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    config.update(sizes)
    words = len(scene_features.word_tokenizer())
    options = {"text_vocab_size": words, "codebook_size": CODEBOOK, "num_query_tokens": PLACES, "code_dim": 8}
    source = OPTForCausalLM(config)
    return extended(SeedForCausalLM, source, **options, visual_embedding="learned", codebook=None).eval()


def test_every_word_of_the_small_world_is_known():
    tokenizer = scene_features.word_tokenizer()
    for scene in scene_features.scenes("test", 500):
        for text in (scene_features.caption(scene), scene_features.full_description(scene)):
            ids = tokenizer(text).input_ids
            assert tokenizer.unk_token_id not in ids
            assert tokenizer.decode(ids, skip_special_tokens=True) == text.lower()


def test_losses_of_codes_are_those_of_each_row_alone(model):
    """Whatever the length of the descriptions beside it."""
    texts = ["a cat", "a flat drawing of a small red apple at the top left", "two dogs"]
    codes = np.random.default_rng(0).integers(0, CODEBOOK, (3, PLACES))
    found = measuring.code_losses(model, texts, codes)
    sequences = measuring.SequenceEncoder(scene_features.word_tokenizer(), model.config)
    for row, text in enumerate(texts):
        prompt = sequences.prompt("draw", text=text)
        span = [model.config.boi_token_id, *(codes[row] + model.config.visual_token_offset)]
        logits = model(torch.tensor([prompt + span])).logits[0, len(prompt) : -1]
        alone = torch.nn.functional.cross_entropy(logits, torch.tensor(span[1:]), reduction="none")
        torch.testing.assert_close(found[row], alone)


def test_only_whole_images_are_valid(model):
    """A model that has learned nothing writes none; one that has learned one image by heart writes it."""
    assert measuring.valid_spans(model, ["a cat", "a dog"], False, 0) == (0.0, [None, None])
    codes = np.array([[3, 1, 4, 1]])
    rows = [{"codes": codes[0], "caption": "a cat", "direction": "text_to_image"}]
    batch = measuring.LanguageModelCollator(scene_features.word_tokenizer(), model.config)(rows)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(60):
        model(input_ids=batch["input_ids"], labels=batch["labels"]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert measuring.valid_spans(model, ["a cat"], False, 0) == (100.0, codes.tolist())
    assert measuring.drawn(model, ["a cat"])[0][1:-2] == (codes[0] + model.config.visual_token_offset).tolist()


def test_what_is_forced_is_always_whole(model):
    for ids in measuring.drawn(model, ["a cat", "a small red apple"], sampled=True):
        parsed = measuring.parse_segments(ids, model.config)
        assert [part.type for part in parsed.parts] == ["image", "text"]


def test_frequencies_alone_lose_their_entropy():
    """Two codes in turn at the first place, one at the second."""
    train = np.array([[0, 1], [2, 1]] * 5000)
    first, second = measuring.unigram_losses(train, train[:10], CODEBOOK).tolist()
    assert first == pytest.approx(math.log(2), abs=0.01) and second == pytest.approx(0, abs=0.01)


def test_parts_of_an_image():
    codes, usual = np.array([[5, 6, 7]]), np.array([0, 1, 2])
    assert measuring.with_part(codes, usual, 2, "first").tolist() == [[5, 6, 2]]
    assert measuring.with_part(codes, usual, 2, "last").tolist() == [[0, 6, 7]]
    assert measuring.with_part(codes, usual, 3, "last").tolist() == codes.tolist()


def test_captions_that_are_partly_right():
    """The truth is right; with other colours the rest of it is."""
    wanted = [scene_features.caption(scene) for scene in scene_features.scenes("test", 40)]
    assert set(measuring.of_captions(wanted).values()) == {100.0}
    swapped = [text.replace("red", "blue") for text in wanted]
    found = measuring.of_captions(swapped)
    assert found["captions right"] == found["colours right"] < 100 == found["all but colours right"]


def test_mean_and_interval():
    """Three values: t with two degrees of freedom is 4.303."""
    assert summary.mean_and_reach([1.0, 2.0, 3.0]) == (2.0, pytest.approx(4.303 / math.sqrt(3)))
    assert summary.mean_and_reach([5.0])[0] == 5.0 and math.isnan(summary.mean_and_reach([5.0])[1])


def test_differences_are_between_runs_of_the_same_seed():
    table = summary.table({"a": [{"x": 1.0}, {"x": 11.0}, {"x": 21.0}], "b": [{"x": 2.0}, {"x": 12.0}, {"x": 22.0}]})
    assert table.splitlines()[-1].endswith("| 1.00 ± 0.00 |")


def test_arms_share_what_they_agree_in():
    assert Setting(lora=16).name("coding") == Setting().name("coding")
    assert Setting(codebook=32).name("coding") != Setting().name("coding")
    assert Setting(codebook=32).name("seeing") == Setting().name("seeing") != Setting(causal=False).name("seeing")
    names = [Setting(**fields).name("all") for claim in claims.CLAIMS.values() for fields in claim.arms.values()]
    assert len(set(names)) == 1 + 1 + 2 + 3 + 3 + 3 + 1 + 2


def test_muon_is_orthogonal_and_leaves_the_rest_to_adamw():
    matrix = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    found = torch.linalg.svdvals(orthogonalised(matrix[None])[0])
    assert (found > 0.6).all() and (found < 1.3).all()
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.Linear(4, 3))
    before = [weight.detach().clone() for weight in layers.parameters()]
    optimizer = MuonAdamW(layers, 0.1, decay=0.0)
    layers(torch.tensor([1])).sum().backward()
    optimizer.step()
    embedding, linear, bias = (new.detach() - old for new, old in zip(layers.parameters(), before))
    assert (embedding[1].abs() > 0.09).all() and (embedding[0] == 0).all() and (bias.abs() > 0.09).all()
    assert torch.linalg.matrix_norm(linear, 2) == pytest.approx(0.1 * 0.2 * 2, rel=0.4)


@pytest.mark.soak
def test_the_whole_command(tmp_path, monkeypatch, capsys):
    """On random features: painting needs all pictograms. The second call makes nothing again."""
    from transformers import Blip2VisionConfig, Blip2VisionModel

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    Blip2VisionModel(Blip2VisionConfig(**sizes, image_size=24, patch_size=12)).save_pretrained(tmp_path / "vit")
    size, work = SCALES["tiny"], tmp_path / "work" / "tiny"
    work.mkdir(parents=True)
    features = np.random.default_rng(0).standard_normal((size.scenes + size.tested, 5, 16))
    np.save(scene_features.vision_file(work), features.astype(np.float16))
    folders = ["--pictograms", "none", "--vit", str(tmp_path / "vit"), "--work", str(tmp_path / "work")]
    names = ["queries", "remedies", "lora"]
    arguments = ["experiment.py", *names, *folders, "--out", str(tmp_path / "out"), "--scale", "tiny", "--seeds", "0"]
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", arguments)
        experiment.main()
        said = capsys.readouterr().out
        assert all(claims.CLAIMS[name].question in said for name in names)
        kept = {path: path.stat().st_mtime_ns for path in work.rglob("*")}
    assert kept == {path: path.stat().st_mtime_ns for path in work.rglob("*")}
    result = json.loads((tmp_path / "out" / "queries.json").read_text(encoding="utf-8"))
    assert len(result["arms"]["causal"][0]["code loss by place"]) == 32


def test_what_was_made_of_other_data_is_not_taken_for_these(tmp_path, monkeypatch):
    for name in ("vit", "other", "pictograms", "work"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(name)
    place = Place(tmp_path / "pictograms", tmp_path / "vit", tmp_path / "work", "tiny")
    assert experiment.same_origin(place) and experiment.same_origin(place)
    assert not experiment.same_origin(Place(place.pictograms, tmp_path / "other", place.work, "tiny"))
    (place.pictograms / "train.parquet").write_bytes(b"others")
    assert not experiment.same_origin(place)
    many = ["--seeds", *map(str, range(11)), "--out", str(tmp_path / "out")]
    folders = ["--pictograms", str(place.pictograms), "--vit", str(place.vit), "--work", str(tmp_path / "new")]
    monkeypatch.setattr(sys, "argv", ["experiment.py", "queries", *folders, *many])
    with pytest.raises(SystemExit):
        experiment.main()
