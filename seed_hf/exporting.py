"""The models as ONNX graphs: images to codes, the language model, codes to generation embeddings.

    export_onnx(model, "onnx")
    compare_onnx("onnx", model, processor)  # runs both, in onnxruntime and in PyTorch

Each graph takes any batch size. Source: `torch.onnx.export`; needs the extra `export`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn
from transformers import DynamicCache

from seed_hf.extras import how_to_install
from seed_hf.files import whole_file
from seed_hf.modeling.cache_name_seed import CACHE
from seed_hf.modeling.modeling_seed import SeedForConditionalGeneration
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from seed_hf.modeling.processing_seed import SeedProcessor
from seed_hf.modeling.visual_vocabulary_seed import VisualVocabulary
from seed_hf.texts import MAX_NEW_TOKENS, describe


NAMES = ("encoder", "language_model", "decoder")
_INLINE = 1 << 30  # bytes of weights up to which a graph is one file; an ONNX file holds 2 GB


class EncoderHalf(nn.Module):
    """Pixel values `(batch, 3, image_size, image_size)` to codes `(batch, num_query_tokens)`; -1 where they are not
    finite.

    Args:
        tokenizer: With the encoder.
    """

    def __init__(self, tokenizer: SeedTokenizer):
        super().__init__()
        self.tokenizer = tokenizer

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.tokenizer.encode(pixel_values, check_finite=False)


class DecoderHalf(nn.Module):
    """Codes `(batch, num_query_tokens)` to generation embeddings, which condition a diffusion model.

    Args:
        tokenizer: With the decoder.
    """

    def __init__(self, tokenizer: SeedTokenizer):
        super().__init__()
        self.tokenizer = tokenizer

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        return self.tokenizer.decode(codes)


class LanguageModelStep(nn.Module):
    """One step of a language model with a cache, of one token or many: ids `(batch, length)`, a mask over the past and
    these, and the keys and values of the past, to logits and all keys and values.

    Args:
        language_model: Of any family. Visual tokens are ids like others.
    """

    def __init__(self, language_model: nn.Module):
        super().__init__()
        self.language_model = language_model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, past: list[tuple[torch.Tensor, ...]]):
        positions = (attention_mask.cumsum(-1) - 1).clamp_min(0)[:, -input_ids.shape[1] :]
        outputs = self.language_model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=positions,
            **{CACHE: DynamicCache(past)},
            use_cache=True,
        )
        return outputs.logits, [(layer.keys, layer.values) for layer in outputs[CACHE].layers]


def check_installed(*packages: str) -> None:
    """Raise `ImportError` if a package is not there."""
    if missing := [package for package in packages if find_spec(package) is None]:
        raise ImportError(f"{', '.join(missing)} not installed: {how_to_install('export')}.")


@dataclass
class Part:
    """What `torch.export` and `torch.onnx.export` need to know of a part.

    Args:
        module: The part.
        inputs: An example.
        shapes: Which of their dimensions may change.
        input_names, output_names: Of the graph; those of the language model are as in transformers.js.
    """

    module: nn.Module
    inputs: tuple
    shapes: dict[str, Any]
    input_names: list[str]
    output_names: list[str] = field(default_factory=list)


def exported_parts(model: SeedForConditionalGeneration) -> dict[str, Part]:
    """The three parts, by the names of `NAMES`.

    Args:
        model: In fp32 and eval mode.
    """
    tokenizer, config = model.visual_tokenizer, model.config.get_text_config()
    size, free = tokenizer.config.vision_config.image_size, torch.export.Dim.DYNAMIC
    codes = torch.zeros(2, tokenizer.config.num_query_tokens, dtype=torch.int64)
    layers = range(config.num_hidden_layers)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    past = [(torch.zeros(2, heads, 5, width), torch.zeros(2, heads, 5, width)) for _ in layers]
    ids, mask = torch.zeros(2, 3, dtype=torch.int64), torch.ones(2, 8, dtype=torch.int64)
    of_past = [f"past_key_values.{layer}.{name}" for layer in layers for name in ("key", "value")]
    step_shapes: dict[str, Any] = {"input_ids": {0: free, 1: free}, "attention_mask": {0: free, 1: free}}
    step_shapes["past"] = [({0: free, 2: free}, {0: free, 2: free}) for _ in layers]
    pixels = torch.zeros(2, 3, size, size)
    return {
        "encoder": Part(EncoderHalf(tokenizer), (pixels,), {"pixel_values": {0: free}}, ["pixel_values"], ["codes"]),
        "language_model": Part(
            LanguageModelStep(model.language_model),
            (ids, mask, past),
            step_shapes,
            ["input_ids", "attention_mask", *of_past],
            ["logits", *(name.replace("past_key_values", "present") for name in of_past)],
        ),
        "decoder": Part(DecoderHalf(tokenizer), (codes,), {"codes": {0: free}}, ["codes"], ["embeddings"]),
    }


@torch.no_grad()
def export_onnx(model: SeedForConditionalGeneration, folder: str | Path, names: Sequence[str] = NAMES) -> list[Path]:
    """Write `encoder.onnx`, `language_model.onnx` and `decoder.onnx`. Weights of more than 1 GB go into a file beside.

    Args:
        model: In fp32.
        folder: Made if missing.
        names: Which of them.

    Raises:
        ImportError: onnx or onnxscript is not installed.
        ValueError: There is no part of a name.
    """
    check_installed("onnx", "onnxscript")
    if unknown := sorted(set(names) - set(NAMES)):
        raise ValueError(f"There are the parts {', '.join(NAMES)}; got {', '.join(unknown)}.")
    folder, parts, written = Path(folder), exported_parts(model.eval().float()), []
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        part = parts[name]
        part.module.eval()  # its weights are already; what only wraps them is not
        program = torch.onnx.export(
            part.module,
            part.inputs,
            dynamo=True,
            dynamic_shapes=part.shapes,
            input_names=part.input_names,
            output_names=part.output_names,
            verbose=False,
        )
        assert program is not None  # with dynamo=True there is one
        weights = sum(weight.numel() * weight.element_size() for weight in part.module.parameters())
        written.append(folder / f"{name}.onnx")
        if weights > _INLINE:
            program.save(written[-1], external_data=True)
        else:
            with whole_file(written[-1]) as temporary:
                program.save(temporary, external_data=False)
    return written


@torch.inference_mode()
def compare_onnx(
    folder: str | Path,
    model: SeedForConditionalGeneration,
    processor: SeedProcessor,
    images: Sequence[Image.Image],
    prompts: Sequence[str],
) -> dict[str, Any]:
    """Run the graphs and the model on the same images and prompts, greedily.

    Args:
        folder: What [`export_onnx`] wrote.
        model: What was exported.
        processor: The model's.
        images: To encode and to caption.
        prompts: To draw.

    Returns:
        `codes`: the share of codes of the images that are equal. `drawn_codes`: the same of the codes that the
        language model writes for the prompts. `captions`: the share of equal captions. `embeddings`: the largest
        difference of generation embeddings of the images, measured in the largest value.

    Raises:
        ImportError: onnxruntime is not installed.
    """
    graphs = OnnxModel(folder)
    pixels = processor(images=list(images)).pixel_values
    codes, expected = graphs.encode(pixels), model.visual_tokenizer.encode(pixels)
    drawn = model.generate(**processor.draw(list(prompts)), generation_mode="image", do_sample=False)
    wanted = torch.cat(processor.post_process_multimodal_output(drawn, generation_mode="image"))
    vocabulary = processor.vocabulary
    told = processor.caption(list(images))["input_ids"].tolist()
    filled = [_filled(row, code, vocabulary) for row, code in zip(told, codes.tolist())]
    captions = [graphs.say(row, vocabulary, processor.tokenizer.eos_token_id) for row in filled]
    said = [text.strip() for text in processor.batch_decode(captions, skip_special_tokens=True)]
    embeddings, right = graphs.decode(expected), model.visual_tokenizer.decode(expected)
    written = [graphs.draw(processor.sequences.prompt("draw", text=prompt), vocabulary) for prompt in prompts]
    return {
        "codes": _share(codes, expected),
        "drawn_codes": _share(torch.tensor(written), wanted),
        "captions": sum(map(str.__eq__, said, describe(model, processor, images))) / len(images),
        "embeddings": ((embeddings - right).abs().max() / right.abs().max()).item(),
    }


class OnnxModel:
    """The three graphs in onnxruntime, on the CPU.

    Args:
        folder: What [`export_onnx`] wrote.

    Raises:
        ImportError: onnxruntime is not installed.
        FileNotFoundError: A graph that is used is not there.
    """

    def __init__(self, folder: str | Path):
        check_installed("onnxruntime")
        self.folder = Path(folder)

    @cached_property
    def encoder(self) -> Any:
        """A session of onnxruntime; opened when it is needed, as the other two, because not all may be there."""
        return self._session("encoder")

    @cached_property
    def decoder(self) -> Any:
        """As `encoder`."""
        return self._session("decoder")

    @cached_property
    def language_model(self) -> Any:
        """As `encoder`."""
        return self._session("language_model")

    def _session(self, name: str) -> Any:
        import onnxruntime

        path = self.folder / f"{name}.onnx"
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file. `seed-hf export --part {name}` writes it.")
        return onnxruntime.InferenceSession(str(path))

    def encode(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Codes `(batch, num_query_tokens)` of images `(batch, 3, image_size, image_size)`."""
        return torch.from_numpy(self.encoder.run(None, {"pixel_values": pixel_values.numpy()})[0])

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Generation embeddings of codes `(batch, num_query_tokens)`.

        Raises:
            ValueError: A negative code: an image that could not be encoded. The graph would take another one for it.
        """
        _check_encoded(codes)
        return torch.from_numpy(self.decoder.run(None, {"codes": codes.numpy()})[0])

    def draw(self, prompt: Sequence[int], vocabulary: VisualVocabulary) -> list[int]:
        """The codes of the image that follows a prompt: the likeliest code at each place.

        Args:
            prompt: Ids.
            vocabulary: Where the codes lie.
        """
        first, last = vocabulary.visual_token_offset, vocabulary.visual_token_offset + vocabulary.codebook_size
        ids, codes, past = [*prompt, vocabulary.boi_token_id], [], None
        for _ in range(vocabulary.num_query_tokens):
            logits, past = self._step(ids, past)
            codes.append(int(logits[first:last].argmax()))
            ids = [codes[-1] + first]
        return codes

    def say(self, prompt: Sequence[int], vocabulary: VisualVocabulary, eos: int) -> list[int]:
        """The text that follows a prompt, greedily.

        Args:
            prompt: Ids, with the codes of images in it.
            vocabulary: Which ids are not text.
            eos: Where the text ends.
        """
        ids, past = list(prompt), None
        said: list[int] = []
        while len(said) < MAX_NEW_TOKENS and (not said or said[-1] != eos):
            logits, past = self._step(ids, past)
            visual = [token for token in range(len(logits)) if not vocabulary.is_text(token)]
            logits[visual] = -torch.inf
            ids = [int(logits.argmax())]
            said += ids
        return said

    def _step(self, ids: Sequence[int], past: dict[str, Any] | None) -> tuple[torch.Tensor, dict[str, Any]]:
        """Logits after the last of the ids, and the cache."""
        graph = self.language_model
        if past is None:
            empty = {one.name: one.shape for one in graph.get_inputs()[2:]}
            past = {name: torch.zeros(1, shape[1], 0, shape[3]).numpy() for name, shape in empty.items()}
        length = len(ids) + next(iter(past.values())).shape[2]
        feeds = {"input_ids": torch.tensor([ids]).numpy(), "attention_mask": torch.ones(1, length).long().numpy()}
        logits, *present = graph.run(None, feeds | past)
        return torch.from_numpy(logits[0, -1]), dict(zip(past, present))


def _check_encoded(codes: torch.Tensor) -> None:
    if (codes < 0).any():
        raise ValueError("Codes must not be negative: -1 stands for an image whose encoding is not finite.")


def _filled(row: list[int], codes: list[int], vocabulary: VisualVocabulary) -> list[int]:
    """A prompt with the codes of its image in the place of the placeholders."""
    _check_encoded(torch.tensor(codes))
    tokens = iter(codes)
    return [
        next(tokens) + vocabulary.visual_token_offset if token == vocabulary.image_token_id else token for token in row
    ]


def _share(one: torch.Tensor, other: torch.Tensor) -> float:
    return (one == other).double().mean().item()
