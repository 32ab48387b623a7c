"""What every family is tried on: `tests/modeling/test_families.py` takes a sample, `tests/soak` the whole."""

import torch

from released_seed_llama import LAYOUT
from seed_hf.conversion.llama_tokenizer import read_llama_tokenizer
from seed_hf.modeling.generation_seed import CodeSegment, parse_segments
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from seed_hf.modeling.processing_seed import SeedProcessor, extend_text_tokenizer
from seed_hf.modeling.prompts_seed import FORMATS
from tiny import tiny_text_tokenizer
from tiny_families import FAMILIES, plain_model
from tiny_language import CODEBOOK_SIZE


def extended_family(name: str, folder, **settings):
    """A tiny model of a family with a visual vocabulary.

    Args:
        name: Of `FAMILIES`.
        folder: Where the plain model lies; it is made if it is not there.
        settings: Of `from_language_model`.
    """
    if not (folder / "config.json").exists():
        plain_model(name).save_pretrained(folder)
        tiny_text_tokenizer().save_pretrained(folder)
    torch.manual_seed(1)
    settings = {"codebook_size": CODEBOOK_SIZE, "code_dim": 8, **settings}
    return FAMILIES[name][1].from_language_model(folder, **settings).eval()


def images_of_samples(model, mode: str, count: int, **settings) -> int:
    """Generates samples after four prompts, and raises `AssertionError` if one is not valid.

    Args:
        model: Of any family.
        mode: The `generation_mode`.
        count: How many samples, a multiple of four.
        settings: Others of `generate`.

    Returns:
        How many images there are.
    """
    prompts = torch.randint(3, model.config.text_vocab_size, (4, 5))
    begin = model.config.boi_token_id
    settings = {
        "do_sample": True, "temperature": 1.5, "top_k": 0, "num_return_sequences": count // 4,
        "max_new_tokens": 80 if mode == "interleaved" else 40, "eos_token_id": 2, "pad_token_id": 1, **settings,
    }  # fmt: skip
    if mode == "interleaved":  # a random model seldom begins an image
        settings["sequence_bias"] = [[[begin], 5.0]]
    rows = model.generate(prompts, attention_mask=torch.ones_like(prompts), generation_mode=mode, **settings)
    assert len(rows) == count and len(rows.unique(dim=0)) > count // 2
    images = 0
    for row in rows[:, 5:].tolist():
        parsed = parse_segments(row, model.config)
        assert not parsed.defects, parsed.defects
        found = [part for part in parsed.parts if isinstance(part, CodeSegment)]
        if mode == "image":
            assert len(found) == 1 and found[0].position == 0 and row[34] == 2
        images += len(found)
    assert {"text": images == 0, "image": images == count, "interleaved": images > count // 4}[mode]
    return images


def text_processors() -> dict[str, list[SeedProcessor]]:
    """Processors with each kind of text tokenizer, one for each format of prompts."""
    without = tiny_text_tokenizer()
    without.bos_token = None
    extended = {
        "byte level": extend_text_tokenizer(tiny_text_tokenizer(), CODEBOOK_SIZE),
        "without bos": extend_text_tokenizer(without, CODEBOOK_SIZE),
        "sentencepiece": read_llama_tokenizer(LAYOUT),
    }
    images = SeedImageProcessor(size={"height": 28, "width": 28})
    return {
        name: [SeedProcessor(images, tokenizer, prompt_format=chosen) for chosen in FORMATS]
        for name, tokenizer in extended.items()
    }
