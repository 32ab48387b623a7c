"""`seed-hf bench quantized`: a model with weights of fewer bits: memory, time, and the codes and captions that change.

The language model's blocks are quantized by the integrations of transformers; one whose package is not installed is a
row that says so. The visual tokenizer is left as it is, since rounded weights would give images other codes, and so
are the matrices of the vocabulary, as is usual.
"""

import logging
from collections.abc import Callable
from functools import cache, partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from seed_hf.artifacts.kinds import class_name_in, load_class
from seed_hf.artifacts.loading import Source, load_model, load_pretrained, locate
from seed_hf.pictograms.scene_texts import caption
from seed_hf.pictograms.scenes import World
from seed_hf.pipelines.prompt_codes import generate_codes
from seed_hf.texts import generate_texts

from . import frame
from .frame import Bench, Way, equal_share


KEPT = ["visual_tokenizer", "lm_head"]


def measure(
    *,
    model: Source = None,
    prompts: int = 32,
    device: str | None = None,
    dtype: str | None = None,
    rounds: int = 3,
    seconds: float = 0.2,
    threads: int | None = None,
) -> dict:
    """Measure a model in each of `configs()`, beside itself.

    Args:
        model: Folder, Hub id or bundled checkpoint of the model, or of a pipeline. Default: seed-tiny.
        prompts: Captions of scenes that are drawn as codes, in one batch; the codes are then captioned.
        device, dtype, rounds, seconds: Of [`Bench`].
        threads: Of torch.

    Returns:
        A report for JSON; `weight_bytes` are those of the whole model in each way.
    """
    bench = Bench("quantized", device, dtype, rounds, seconds, threads, model=str(model or "seed-tiny"))
    place = locate(model, "model")
    whole, processor = load_model(model, device=bench.device, dtype=bench.dtype)
    cls = load_class(class_name_in(place.folder, "model"))
    world = World()
    texts = [caption(world.draw("test", 0, index)) for index in range(prompts)]
    weights = bench.report["weight_bytes"] = {}

    @cache
    def loaded(name: str) -> Any:
        if name == "as it is":
            made = whole
        else:
            options = configs()[name]() | {"device_map": {"": bench.device}}
            made = load_pretrained(cls, place.folder, **{"dtype": bench.dtype} | options).eval()
        weights[name] = weight_bytes(made)
        return made

    with torch.inference_mode():
        codes = codes_of(whole, processor, texts)

        def way(run: Callable, asked: Any, name: str) -> Way:
            return Way(lambda: run(loaded(name), processor, asked), prompts)

        def ways(run: Callable, asked: Any) -> dict[str, Way]:
            return {name: way(run, asked, name) for name in ("as it is", *configs())}

        bench.case(f"{prompts} prompts to codes", partial(ways, codes_of, texts), same=equal_share)
        bench.case(f"{prompts} captions of codes", partial(ways, captions_of, codes), "captions", equal_texts)
    return bench.report


def configs() -> dict[str, Callable[[], dict]]:
    """Options of `from_pretrained` by name. To make some of them needs a package that may not be there."""

    def bits_and_bytes(**options) -> dict:
        _need("bitsandbytes")
        from transformers import BitsAndBytesConfig

        # Each product of each step says that it works in float16.
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        return {"quantization_config": BitsAndBytesConfig(**options, llm_int8_skip_modules=KEPT)}

    def torchao() -> dict:
        _need("torchao")
        from torchao.quantization import Int8WeightOnlyConfig
        from transformers import TorchAoConfig

        return {"quantization_config": TorchAoConfig(Int8WeightOnlyConfig(), modules_to_not_convert=KEPT)}

    return {
        "bfloat16": lambda: {"dtype": torch.bfloat16},
        "8 bit, bitsandbytes": partial(bits_and_bytes, load_in_8bit=True),
        "4 bit, bitsandbytes": partial(bits_and_bytes, load_in_4bit=True, bnb_4bit_quant_type="nf4"),
        "8 bit, torchao": torchao,
    }


def codes_of(model: Any, processor: Any, texts: list[str]) -> torch.Tensor:
    """The codes `(texts, num_query_tokens)` that a model writes of texts, without chance.

    Args:
        model: A `SeedForConditionalGeneration`.
        processor: Its processor.
        texts: What to draw.
    """
    return generate_codes(model, processor.draw(texts).to(model.device), None, {"do_sample": False})


def captions_of(model: Any, processor: Any, codes: torch.Tensor) -> list[str]:
    """What a model says of codes, without chance.

    Args:
        model: A `SeedForConditionalGeneration`.
        processor: Its processor.
        codes: `(images, num_query_tokens)`.
    """
    return generate_texts(model, processor, processor.caption(codes=codes))


def equal_texts(first: list[str], other: list[str]) -> float:
    """The share of equal texts.

    Args:
        first, other: Of one length.
    """
    return sum(one == two for one, two in zip(first, other, strict=True)) / len(first)


def weight_bytes(model: nn.Module) -> int:
    """Bytes of parameters and buffers as they are kept: of a quantized one those of its parts.

    Args:
        model: Any.
    """
    return sum(_bytes(tensor) for tensor in (*model.parameters(), *model.buffers()))


def table(report: dict) -> str:
    """Markdown of what `measure` returns.

    Args:
        report: Of `measure`.
    """
    weights = ", ".join(f"{name} {size / 1e6:.1f}" for name, size in report["weight_bytes"].items())
    return f"{frame.table(report)}\n\nweights of the whole model in MB: {weights}"


def _need(package: str) -> None:
    if find_spec(package) is None:
        raise ImportError(f"pip install {package}")


def _bytes(tensor: torch.Tensor) -> int:
    if hasattr(tensor, "__tensor_flatten__"):  # torchao's
        return sum(_bytes(getattr(tensor, name)) for name in tensor.__tensor_flatten__()[0])
    state = getattr(tensor, "quant_state", None)  # of 4 bits of bitsandbytes
    scales = [] if state is None else [value for value in vars(state).values() if isinstance(value, torch.Tensor)]
    rows = getattr(tensor, "SCB", None)  # of its 8 bits
    return tensor.nbytes + sum(each.nbytes for each in [*scales, *([] if rows is None else [rows])])
