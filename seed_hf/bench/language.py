"""`seed-hf bench language`: prompts to codes and codes to text, against the default `generate` of transformers."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from transformers import CompileConfig, DynamicCache

from seed_hf.artifacts.bundled import bundled
from seed_hf.modeling.generation_seed import VisualSpanLogitsProcessor
from seed_hf.modeling.modeling_seed_text import VisualVocabularyMixin
from seed_hf.modeling.next_logits_seed import next_logits
from seed_hf.modeling.static_step_seed import StaticStep, drop_steps

from .frame import Bench, Way
from .full_size import llama_7b, opt_2_7b
from .limits import bytes_of


MODELS = ("tiny", "opt-2.7b", "llama-7b")
PROMPT = 16  # tokens
SCALE = 3.0  # of the guidance on codes


def measure(
    *,
    model: str = "tiny",
    layers: int | None = None,
    batches: Sequence[int] = (1, 8),
    lengths: Sequence[int] = (32, 576, 1024, 4096),
    compiled: bool = False,
    device: str | None = None,
    dtype: str | None = None,
    rounds: int = 5,
    seconds: float = 0.2,
    threads: int | None = None,
) -> dict:
    """Measure a language model.

    Args:
        model: Of `MODELS`: seed-tiny's, or one of full size with random weights.
        layers: Blocks at full size; all by default.
        batches: Batch sizes of prompts to codes, a case each.
        lengths: Tokens of an image, for the comparison with tokenizers that spend more.
        compiled: Also a step that torch compiles, at the first batch size.
        device, dtype, rounds, seconds: Of [`Bench`].
        threads: Of torch.

    Returns:
        A report for JSON.
    """
    bench = Bench(
        "language",
        device,
        dtype,
        rounds,
        seconds,
        threads,
        model=model,
        layers=layers,
        compiled=compiled,
        prompt=PROMPT,
    )
    lm = _language_model(model, layers, bench)
    add_cases(bench, lm, batches, lengths, compiled)
    return bench.report


def add_cases(bench: Bench, lm: Any, batches: Sequence[int], lengths: Sequence[int], compiled: bool = False) -> None:
    """Measures the cases of a language model.

    Args:
        bench: Gets them.
        lm: The language model.
        batches, lengths, compiled: Of `measure`.
    """
    for batch in batches:
        # Compiling takes long, so it is done for one batch size.
        ways = partial(codes_ways, lm, batch, compiled and batch == batches[0])
        bench.case(f"prompt to codes, batch {batch}", ways, same=_same)
        drop_steps(lm)
    bench.case("8 drawings of a prompt", partial(shared_ways, lm), same=_same)
    bench.case("8 captions of codes", partial(text_ways, lm), unit="captions", same=_same)
    _constraint(bench, lm)
    bench.case("tokens of an image, batch 1", partial(length_ways, lm, lengths))
    drop_steps(lm)


def codes_ways(lm: Any, batch: int, compiled: bool = False) -> dict[str, Way]:
    """From a prompt to 32 codes.

    Args:
        lm: The language model.
        batch: Prompts; all but the first are padded.
        compiled: Also with a compiled step.
    """
    prompts = _prompts(lm, batch)
    passes = lm.config.num_query_tokens
    flops, moved = _flops(lm, batch * (PROMPT + passes), batch * passes), passes * _step_bytes(lm)

    def way(rows: int = 1, **options) -> Way:
        def run():
            output = lm.generate(**prompts, generation_mode="image", do_sample=False, **options)
            return _codes(lm, getattr(output, "sequences", output))

        return Way(run, batch, rows * flops, moved)

    ways = {
        "transformers' loop, default cache": way(return_dict_in_generate=True),
        "generate, growing cache": way(cache_implementation="dynamic"),
        "generate, static cache": way(cache_implementation="static"),
        "the same, guided": way(2, cache_implementation="static", code_guidance_scale=SCALE),
    }
    if compiled:
        compiling = CompileConfig(fullgraph=True, mode=None, dynamic=False)
        ways["static cache, compiled"] = way(cache_implementation="static", compile_config=compiling)
    return ways


def shared_ways(lm: Any, drawings: int = 8) -> dict[str, Way]:
    """Several sampled images of one long prompt.

    Args:
        lm: The language model.
        drawings: How many.
    """
    room = lm.config.max_position_embeddings - lm.config.num_query_tokens - 8
    prompt = _prompts(lm, 1, min(512, room))

    def run(prompts, **options):
        torch.manual_seed(0)
        return _codes(lm, lm.generate(**prompts, generation_mode="image", do_sample=True, top_k=0, **options))

    repeated = {name: value.expand(drawings, -1) for name, value in prompt.items()}
    return {
        "the prompt for each drawing": Way(lambda: run(repeated), drawings),
        "the prompt once": Way(lambda: run(prompt, num_return_sequences=drawings), drawings),
    }


def text_ways(lm: Any, captions: int = 8, tokens: int = 8) -> dict[str, Way]:
    """From codes to a text.

    Args:
        lm: The language model.
        captions: How many.
        tokens: Of each text.
    """
    config = lm.config
    codes = torch.randint(config.codebook_size, (captions, config.num_query_tokens), device=lm.device)
    marks = torch.full((captions, 1), config.boi_token_id, device=lm.device)
    start, end = torch.full_like(marks, config.bos_token_id or 0), torch.full_like(marks, config.eoi_token_id)
    ids = torch.cat([start, marks, codes + config.visual_token_offset, end], 1)
    settings: dict[str, Any] = {"generation_mode": "text", "do_sample": False, "pad_token_id": 1}
    settings |= {"max_new_tokens": tokens, "min_new_tokens": tokens}

    def run(rows):
        return torch.cat([lm.generate(part, attention_mask=torch.ones_like(part), **settings) for part in rows])

    return {
        "one by one": Way(lambda: run(ids.split(1)), captions),
        "in one batch": Way(lambda: run([ids]), captions),
    }


@torch.no_grad()
def length_ways(lm: Any, lengths: Sequence[int]) -> dict[str, Way]:
    """Images of more tokens on the same model: 32 steps of each, so many times as the image needs them.

    Args:
        lm: The language model.
        lengths: Tokens of an image.
    """
    steps, prompt = lm.config.num_query_tokens, _prompts(lm, 1)["input_ids"]

    def way(length: int) -> Way:
        # The mask of a static cache hides what is not there yet: each step reads the whole of it.
        step = StaticStep(lm, 1, PROMPT + max(length, steps), codes_alone=True)

        def run():
            cache = _read(lm, prompt)
            step.begin(lm, cache, None, torch.tensor([PROMPT - 1], device=lm.device), None)
            ids = torch.full((1,), lm.config.visual_token_offset, device=lm.device)
            for _ in range(steps):
                ids = step(lm, ids).argmax(-1) + lm.config.visual_token_offset
            return ids

        return Way(run, steps / length, _flops(lm, steps + PROMPT, steps), steps * _step_bytes(lm))

    return {f"{length} tokens": way(length) for length in lengths}


@torch.no_grad()
def _constraint(bench: Bench, lm: Any) -> None:
    """The constraint by itself, beside a step of the model."""
    batch, length = 8, PROMPT + 20
    ids = _prompts(lm, batch, PROMPT)["input_ids"]
    codes = torch.full((batch, length - PROMPT), lm.config.visual_token_offset, device=lm.device)
    ids = torch.cat([ids, torch.full_like(codes[:, :1], lm.config.boi_token_id), codes], 1)
    scores = torch.randn(batch, lm.config.vocab_size, device=lm.device)

    def ways() -> dict[str, Way]:
        step = StaticStep(lm, batch, length + 1)
        cache = _read(lm, ids[:, :-1])
        last = torch.full((batch,), length - 1, device=lm.device)
        found = {}

        def run():
            step.begin(lm, cache, None, last, None)
            return step(lm, ids[:, -1])

        found["a step of the model"] = Way(run, 1, _flops(lm, batch, batch), _step_bytes(lm))
        for mode in ("image", "interleaved", "text"):
            room = {"prompt_length": PROMPT, "max_length": length + 40, "eos_token_id": 2}
            constraint = VisualSpanLogitsProcessor(lm.config, mode, **room)
            constraint.prepare(lm.config.vocab_size, lm.device)
            found[f"its constraint, {mode}"] = Way(partial(constraint, ids, scores), 1)
        return found

    case = bench.case(f"the constraint, batch {batch}", ways, unit="steps")
    measured = case.get("ways", {})
    step = measured.get("a step of the model", {}).get("seconds")
    for found in measured.values():
        if step and "seconds" in found:
            found["share_of_step"] = found["seconds"] / step


def _read(lm: Any, ids: torch.Tensor) -> DynamicCache:
    """What the model keeps of a prompt without padding."""
    cache = DynamicCache(config=lm.config)
    positions = torch.arange(ids.shape[1], device=lm.device).expand(len(ids), -1)
    next_logits(lm, ids, None, positions, cache, None, True)
    return cache


def _language_model(name: str, layers: int | None, bench: Bench) -> VisualVocabularyMixin:
    if name == "tiny":
        from seed_hf.modeling.modeling_seed import SeedForConditionalGeneration

        whole = SeedForConditionalGeneration.from_pretrained(bundled("seed-tiny", "model"))
        whole.language_model.generation_config = whole.generation_config  # as its own `generate` does
        return whole.language_model.to(bench.device, bench.dtype).eval()
    make = opt_2_7b if name == "opt-2.7b" else llama_7b
    return make(bench.device, bench.dtype, **({"layers": layers} if layers else {}))


def _prompts(lm: Any, batch: int, length: int = PROMPT) -> dict[str, torch.Tensor]:
    """Random prompts, padded on the left, but for the first."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, min(1000, lm.config.text_vocab_size), (batch, length), generator=generator)
    ids[:, 0] = lm.config.bos_token_id or 0
    mask = torch.ones_like(ids)
    for row in range(1, batch):
        mask[row, : row % (length // 2)] = 0
    return {"input_ids": ids.to(lm.device), "attention_mask": mask.to(lm.device)}


def _codes(lm: Any, ids: torch.Tensor) -> torch.Tensor:
    """Of the span that follows prompts of text."""
    begin = (ids == lm.config.boi_token_id).long().argmax(1, keepdim=True)
    places = begin + 1 + torch.arange(lm.config.num_query_tokens, device=ids.device)
    return ids.gather(1, places) - lm.config.visual_token_offset


def _same(first: torch.Tensor, other: torch.Tensor) -> float:
    return (first == other).float().mean().item() if first.shape == other.shape else 0.0


def _step_bytes(lm: Any) -> int:
    """What one step reads: the blocks, and the rows of the codes in the output layer."""
    tables = sum(bytes_of(module) for module in lm.model.modules() if isinstance(module, torch.nn.Embedding))
    return bytes_of(lm.model) - tables + _head(lm) * lm.get_output_embeddings().weight.element_size()


def _flops(lm: Any, tokens: int, written: int) -> int:
    """Operations of the matrices, without those of attention, for tokens that are read and codes that are written."""
    blocks = sum(layer.weight.numel() for layer in lm.model.modules() if isinstance(layer, torch.nn.Linear))
    return 2 * (tokens * blocks + written * _head(lm))


def _head(lm: Any) -> int:
    """Numbers in the rows of the codes in the output layer."""
    return lm.config.codebook_size * lm.get_output_embeddings().weight.shape[1]
