"""Many tiny models in the layout of the released SEED-LLaMA, with everything varied that the layout allows."""

import io
import json
import random
import re
from dataclasses import dataclass
from pathlib import Path

import sentencepiece
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

import seed_hf.auto  # noqa: F401
from seed_hf import SeedImageProcessor, SeedLlamaForCausalLM, SeedProcessor
from seed_hf.conversion import SeedLlamaConversion
from seed_hf.modeling.generation_seed import GENERATION_MODES, Defect, parse_segments


WORDS = (
    "USER: ASSISTANT: [INST] [/INST] what is this image of a the dog cat bird tree house red apple blue green small "
    "in on with please draw make it again can you tell me question answer yes no two three Question: Answer: chat "
    "between curious user assistant naïve café 12 2023 3.5 - , . ! ? ' ( ) "
).split()
ODD = ["  ", "\n", "\t", " \n ", "☂", "日本語", "e\u0301", "\u00a0", "\u3000", "ﬁ", "12 345", "\r\n", "🐶", "<0x0A>"]
ODD += ["<", ">", "<img", "img_1", "\u2028", "\x00", "ß"]
# How LLaMA's tokenizer.model was trained, as far as it says so; and what may differ.
LLAMA = {
    "model_type": "bpe",
    "character_coverage": 0.9999,
    "num_threads": 1,
    "split_digits": True,
    "allow_whitespace_only_pieces": True,
    "byte_fallback": True,
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
    "minloglevel": 2,
}
KINDS: dict[str, dict] = {
    "llama": {},
    "squeezed spaces": {"remove_extra_whitespaces": True},
    "no prefix": {"add_dummy_prefix": False},
    "pad piece": {"pad_id": 3},
    "pad first": {"pad_id": 0, "unk_id": 1, "bos_id": 2, "eos_id": 3},
    "eos first": {"bos_id": 2, "eos_id": 1},
    "control piece": {"control_symbols": ["<ctl>"]},
}
OTHER_KINDS: dict[str, dict] = {
    "changes characters": {"normalization_rule_name": "nmt_nfkc"},
    "no bytes": {"byte_fallback": False, "vocab_size": 200},
    "suffix": {"treat_whitespace_as_suffix": True},
    "symbols": {"user_defined_symbols": ["<sep>"]},
    "unigram": {"model_type": "unigram", "vocab_size": 345},
    "no bos": {"bos_id": -1, "eos_id": 1},
    "names": {"bos_piece": "<bos>", "eos_piece": "<eos>"},
}


def trained(seed: int = 0, **settings) -> bytes:
    """A sentencepiece model."""
    chance, out = random.Random(seed), io.BytesIO()
    lines = [" ".join(chance.choices(WORDS, k=chance.randint(3, 14))) for _ in range(400)]
    settings = {**LLAMA, "vocab_size": 400, **settings}
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=out, **settings)
    return out.getvalue()


def texts(seed: int, count: int) -> list[str]:
    """Texts with white space in every place, and with characters that no piece has."""
    chance = random.Random(seed)
    kinds = (lambda: chance.choice(WORDS), lambda: " ", lambda: chance.choice(ODD), lambda: chance.choice(WORDS) + " ")
    return ["".join(chance.choice(kinds)() for _ in range(chance.randint(1, 9))) for _ in range(count)]


class AuthorsTokenizer:
    """The ids of the authors' class, by its rule: cut at added tokens, strip beside them, encode each piece."""

    def __init__(self, model: bytes, added: dict[str, int]):
        self.pieces, self.added = sentencepiece.SentencePieceProcessor(model_proto=model), added
        names = sorted({*added, "<s>", "</s>", "<unk>"}, key=len, reverse=True)
        self.cut = re.compile("(" + "|".join(map(re.escape, names)) + ")")

    def __call__(self, text: str) -> list[int]:
        parts, ids = [part for part in self.cut.split(text) if part], []
        for number, part in enumerate(parts):
            if part in self.added:
                ids.append(self.added[part])
            elif self.cut.fullmatch(part):
                ids.append(self.pieces.piece_to_id(part))
            else:
                part = part.lstrip() if number and parts[number - 1] in self.added else part
                part = part.rstrip() if parts[number + 1 : number + 2] and parts[number + 1] in self.added else part
                ids += self.pieces.encode(part)
        return ids


@dataclass
class Variant:
    """What was made, and what must come out."""

    folder: Path
    tokenizer: Path
    plain: LlamaForCausalLM
    authors: AuthorsTokenizer
    codes: int
    rows: int

    def span(self, codes) -> str:
        return "<img>" + "".join(f"<img_{code:05d}>" for code in codes) + "</img>"


def make_variant(root: Path, seed: int) -> Variant:
    """A checkpoint and its tokenizer. Every choice comes from the seed."""
    chance = random.Random(seed)
    model = trained(seed, **KINDS[chance.choice(list(KINDS))], vocab_size=chance.choice([360, 401, 420]))
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
    codes = chance.choice([64, 65, 512, 1024, 8192])
    named = [f"<img_{code:05d}>" for code in range(codes)]
    orders = [[*named, "<img>", "</img>"], ["<img>", "</img>", *named], ["</img>", *named, "<img>"]]
    names = [*chance.choice([[], [], ["[PAD]"]]), *chance.choice(orders)]
    added = {name: len(pieces) + number for number, name in enumerate(names)}
    written = list(added.items())
    chance.shuffle(written)
    if chance.random() < 0.3:  # as later versions of the library write it
        written += [(name, pieces.piece_to_id(name)) for name in ("<s>", "</s>")]
    (root / "tokenizer").mkdir(parents=True)
    (root / "tokenizer" / "tokenizer.model").write_bytes(model)
    (root / "tokenizer" / "added_tokens.json").write_text(json.dumps(dict(written)))
    multiple = chance.choice([1, 1, 8, 64])
    rows = -(-(len(pieces) + len(names)) // multiple) * multiple
    config = _config(chance, rows)
    (root / "released").mkdir()
    (root / "released" / "config.json").write_text(json.dumps(config))
    if chance.random() < 0.7:
        settings = chance.choice(
            [{"eos_token_id": None}, {"do_sample": True, "eos_token_id": [1, 2], "max_length": 20}]
        )
        (root / "released" / "generation_config.json").write_text(json.dumps(settings))
    plain = _plain(chance, config, seed)
    state = {name: weight.clone() for name, weight in plain.state_dict().items()}
    if plain.config.tie_word_embeddings and chance.random() < 0.6:
        state.pop("lm_head.weight")
    if chance.random() < 0.5:
        state["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.arange(4.0)
    _store(chance, root / "released", state)
    authors = AuthorsTokenizer(model, added)
    return Variant(root / "released", root / "tokenizer", plain, authors, codes, rows)


def _config(chance: random.Random, rows: int) -> dict:
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_attention_heads": 4,
        "num_hidden_layers": chance.choice([1, 2]),
        "max_position_embeddings": 256,
        "rms_norm_eps": chance.choice([1e-6, 1e-5]),
        "vocab_size": rows,
    }
    choices = {
        "num_key_value_heads": [1, 2, 4],
        "bos_token_id": [None, -1, 0, 1, 2],
        "eos_token_id": [None, -1, 0, 1, 2],
        "pad_token_id": [None, -1, 0, 1],
        "torch_dtype": [None, "float16", "auto", "torch.float16"],
        "use_cache": [False, True],
        "tie_word_embeddings": [False, True],
        "rope_scaling": [None, {"type": "linear", "factor": 2.0}, {"type": "dynamic", "factor": 4.0}],
        "rope_theta": [5000.0, 20000],
        "attention_bias": [False, True],
        "pretraining_tp": [2],
        "max_sequence_length": [2048],
        "temperature": [0.9],
        "do_sample": [True],
        "max_length": [40],
        "auto_map": [{"AutoModelForCausalLM": "modeling_llama.LlamaForCausalLM"}],
        "use_xformers": [True],
    }
    return config | {name: chance.choice(values) for name, values in choices.items() if chance.random() < 0.6}


def _plain(chance: random.Random, config: dict, seed: int) -> LlamaForCausalLM:
    ignored = ("torch_dtype", "temperature", "do_sample", "max_length", "auto_map", "use_xformers", "architectures")
    ids = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    values = {name: value for name, value in config.items() if name not in ignored} | ids
    dtype = chance.choice([torch.float32, torch.float16, torch.bfloat16])
    plain = LlamaForCausalLM._from_config(LlamaConfig(**values), dtype=dtype).eval()
    random_numbers = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in plain.parameters():
            weight.copy_(torch.randn(weight.shape, generator=random_numbers) * 0.3 + (weight.ndim == 1))
    return plain


def _store(chance: random.Random, folder: Path, state: dict) -> None:
    items = list(state.items())
    chance.shuffle(items)
    safetensors, single = chance.random() < 0.5, chance.random() < 0.3
    stem, end = ("model", "safetensors") if safetensors else ("pytorch_model", "bin")
    inside = chance.choice(["", "shards/"])
    count = 1 if single else chance.choice([1, 3])
    weight_map = {}
    for number in range(count):
        part = {name: weight.contiguous() for name, weight in items[number::count]}
        name = f"{stem}.{end}" if single else f"{inside}{stem}-{number + 1:05d}-of-{count:05d}.{end}"
        (folder / name).parent.mkdir(exist_ok=True)
        if safetensors:
            save_file({name: weight.clone() for name, weight in part.items()}, folder / name)
        else:
            torch.save(part, folder / name, _use_new_zipfile_serialization=chance.random() < 0.8)
        weight_map |= dict.fromkeys(part, name)
    if not single:
        (folder / f"{stem}.{end}.index.json").write_text(json.dumps({"weight_map": weight_map}))


def check_variant(root, seed):
    """Converted, loaded, saved and loaded again: ids by the authors' rule, logits of the plain class."""
    variant = make_variant(root, seed)
    conversion = SeedLlamaConversion(variant.folder, variant.tokenizer, root / "once")
    conversion.write()
    model = AutoModelForCausalLM.from_pretrained(root / "once", dtype="auto").eval()
    tokenizer = AutoTokenizer.from_pretrained(root / "once")
    model.save_pretrained(root / "twice")
    tokenizer.save_pretrained(root / "twice")
    again = AutoModelForCausalLM.from_pretrained(root / "twice", dtype="auto").eval()
    assert type(again) is SeedLlamaForCausalLM and again.dtype == variant.plain.dtype
    assert again.config.vocab_size == variant.rows and again.config.use_cache
    special = [variant.authors.pieces.piece_to_id(name) for name in ("<s>", "</s>", "<unk>")]
    for settings in (again.config, again.generation_config):
        assert [settings.bos_token_id, settings.eos_token_id, settings.pad_token_id] == special
    assert not again.generation_config.do_sample and again.generation_config.max_length is None
    ids = torch.arange(variant.rows)[:, None].expand(-1, 2).reshape(2, -1)[:, :: 1 + variant.rows // 100]
    with torch.no_grad():
        expected = variant.plain(ids).logits
        plain = again.to_plain()
        assert torch.equal(model(ids).logits, expected) and torch.equal(again(ids).logits, expected)
        assert type(plain) is LlamaForCausalLM and torch.equal(plain(ids).logits, expected)
    again_tokenizer = AutoTokenizer.from_pretrained(root / "twice")
    images = SeedImageProcessor(size={"height": 28, "width": 28})
    processor = SeedProcessor(images, again_tokenizer, prompt_format="vicuna")
    codes = [code * 7 % variant.codes for code in range(32)]
    for text in texts(seed, 30):
        written = f"<s>USER: {text}{variant.span(codes)}{text}\nASSISTANT: {text}{variant.span(codes)}\n"
        assert again_tokenizer(written, add_special_tokens=False).input_ids == variant.authors(written), (seed, text)
        parts = [{"type": "text", "text": text}, {"type": "image", "codes": codes}]
        chat = [{"role": "user", "content": [*parts, parts[0]]}, {"role": "assistant", "content": parts}]
        assert processor.apply_chat_template(chat, tokenize=True)[0].tolist() == variant.authors(written), (seed, text)
    prompt = torch.tensor([[again.config.bos_token_id, 300]])
    for mode in GENERATION_MODES:
        made = again.generate(prompt, generation_mode=mode, max_new_tokens=40, do_sample=True, top_k=0)
        assert not any(isinstance(part, Defect) for part in parse_segments(made[0].tolist(), again.config).parts)
