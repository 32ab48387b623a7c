"""Converts a released SEED-LLaMA: its folder, and the tokenizer that comes in another, into one artifact.

The weights are those of a plain Llama with the rows of the visual tokens behind its text tokens: the codes, then
`<img>` and `</img>`. Sources of all facts: the files of `AILab-CVC/seed-llama-8b-sft`, `-14b-sft`, `-8b-pretrain`,
`-14b-pretrain` and `seed-tokenizer-2`.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path

import torch
from transformers import GenerationConfig, LlamaConfig
from transformers.dynamic_module_utils import custom_object_save
from transformers.modeling_utils import PreTrainedModel

from seed_hf.files import check_new_folder, disk_errors, read_json, whole_folder
from seed_hf.modeling.configuration_seed import SeedConfig, SeedLlamaConfig, SeedTokenizerConfig
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from seed_hf.modeling.modeling_seed import SeedForConditionalGeneration
from seed_hf.modeling.modeling_seed_text import SeedLlamaForCausalLM
from seed_hf.modeling.processing_seed import SeedProcessor, read_vocabulary
from seed_hf.modeling.prompts_seed import find_format, written_chat_template
from seed_hf.modeling.visual_tokens_seed import with_bos
from seed_hf.modeling.visual_vocabulary_seed import VisualVocabulary

from .checkpoint_files import read_file, unwrapped
from .language_parity import compare_language_model
from .llama_tokenizer import read_llama_tokenizer
from .parity import TOLERANCE, Parity
from .report import ConversionError
from .seed_x import are_continuous, decline_seed_x, no_codes
from .weight_shards import WeightShardWriter, weight_files
from .whole_weights import WholeWeightsReader


DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Values of the authors' class that are computed, not learned.
_COMPUTED = ".rotary_emb.inv_freq"
# Fields of the released config.json that say nothing of the weights, or say it wrong.
_DROPPED = ("pretraining_tp", "bos_token_id", "eos_token_id", "pad_token_id", "use_cache")
_OLD_NAMES = ("rope_scaling", "rope_theta")  # of today's rope_parameters
# The matrices have a row for each token; some programs add rows up to a multiple of these.
_MULTIPLES = (1, 8, 16, 32, 64, 128, 256)
_LAYERS_OF_14B = 40


@dataclass
class SeedLlamaReport:
    """What was done with each key of a SEED-LLaMA. `print` shows it.

    Args:
        files: The files with weights, in order.
        used: Key -> the parameter of the converted model.
        computed: Keys that the model computes itself: the frequencies of rotary positions.
        replaced: Field -> (value in the released files, value in the converted ones).
        parameters: Number of weights of the language model.
        dtype: Number type that is stored.
        prompt_format: How its prompts are written.
    """

    files: list[str] = field(default_factory=list)
    used: dict[str, str] = field(default_factory=dict)
    computed: list[str] = field(default_factory=list)
    replaced: dict[str, tuple] = field(default_factory=dict)
    parameters: int = 0
    dtype: str = ""
    prompt_format: str = ""

    def __str__(self) -> str:
        lines = ["SEED-LLaMA", *(f"  {'from':<18}{file}" for file in self.files)]
        lines += [f"  {'parameters':<18}{self.parameters:,}", f"  {'stored as':<18}{self.dtype}"]
        lines += [f"  {'used':<18}{len(self.used)}", f"  {'computed':<18}{len(self.computed)}"]
        lines += [f"  {'prompt format':<18}{self.prompt_format}"]
        lines += [f"  {name} = {new}, was {old}" for name, (old, new) in self.replaced.items()]
        return "\n".join(lines)


class SeedLlamaConversion:
    """One conversion. It has a `report` and a `config` from the start, and files after `write`.

    Args:
        checkpoint: Folder of the language model, as released.
        tokenizer: Folder with `tokenizer.model` and `added_tokens.json`.
        out: Folder to write: new or empty.
        visual_tokenizer: Folder of a converted SEED-2 tokenizer (`seed-hf convert seed2`). With it the result is a
            whole model that sees and draws, without it the language model alone.
        dtype: "auto" (as stored), or one of "float32", "bfloat16", "float16".
        prompt_format: One of `prompts_seed.FORMATS`. Default: "llama2" for a model of 40 layers, the 14B, else
            "vicuna". The models before instruction tuning take "plain".

    Raises:
        ConversionError: The folders hold something else, or do not belong together. Nothing is written then.
        ValueError: `out` is not empty.
    """

    def __init__(
        self,
        checkpoint: Path,
        tokenizer: Path,
        out: Path,
        *,
        visual_tokenizer: Path | None = None,
        dtype: str = "auto",
        prompt_format: str | None = None,
    ):
        self.checkpoint, self.out = Path(checkpoint), Path(out)
        self.visual_tokenizer = None if visual_tokenizer is None else Path(visual_tokenizer)
        check_new_folder(self.out)
        if dtype != "auto" and dtype not in DTYPES:
            raise ValueError(f"dtype must be auto, {', '.join(DTYPES)}; got {dtype!r}.")
        if prompt_format is not None:
            find_format(prompt_format)  # raises if there is none
        released = _released_config(self.checkpoint)
        self.files = weight_files(self.checkpoint)
        visual = None if self.visual_tokenizer is None else _visual_config(self.visual_tokenizer)
        self.tokenizer = read_llama_tokenizer(Path(tokenizer))
        self.vocabulary = _vocabulary(Path(tokenizer), self.tokenizer, visual.num_query_tokens if visual else 32)
        _check_rows(released.get("vocab_size"), self.vocabulary)
        try:
            self.config = _config(released, self.tokenizer, self.vocabulary, prompt_format)
            with torch.device("meta"):
                self.model = SeedLlamaForCausalLM(self.config)
        except Exception as error:  # a foreign configuration can make the library raise anything
            kind = "" if isinstance(error, (TypeError, ValueError)) else f"{type(error).__name__}: "
            said = " ".join(str(error).split())
            raise ConversionError(
                f"{self.checkpoint / 'config.json'}: no sound configuration. {kind}{said}"
            ) from error
        self.tokenizer.model_max_length = self.config.max_position_embeddings
        self.dtype = DTYPES.get(dtype)
        self.whole: SeedConfig | None = None
        if visual is not None and self.visual_tokenizer is not None:
            self.whole = _whole_config(self.visual_tokenizer, visual, self.config)
        self.report = SeedLlamaReport(
            files=[str(file) for file in self.files],
            parameters=self.model.num_parameters(),
            dtype=dtype,
            prompt_format=self.config.prompt_format,
            replaced=_replaced(released, self.config) | _left_behind(self.checkpoint / "generation_config.json"),
        )

    def write(self, recorded: Path | None = None, tolerance: float = TOLERANCE) -> Parity | None:
        """Convert and save everything, one weight at a time.

        Args:
            recorded: Folder with results of the authors' code ([`compare_language_model`]). The model is then loaded
                and compared before the folder gets its name.
            tolerance: Largest relative difference.

        Returns:
            The comparison, if there are recorded results.

        Raises:
            ConversionError: A key is missing, unknown or of a wrong shape, or the model does not compute the recorded
                results; nothing is left behind.
        """
        with whole_folder(self.out) as folder:
            writer = WeightShardWriter(folder, self.out)
            model: PreTrainedModel = self.model
            if self.whole is not None:
                with torch.device("meta"):
                    model = SeedForConditionalGeneration(self.whole)
                for name, tensor in self._weights_of_the_visual_tokenizer(model):
                    writer.add(name, tensor)
            for name, tensor in self._weights():
                writer.add(name, tensor)
            writer.close()
            with disk_errors(self.out):
                self._write_settings(model, folder)
            if recorded is None:
                return None
            parity = compare_language_model(folder, Path(recorded), tolerance)
            if not parity.holds:
                raise ConversionError(
                    f"{self.out}: not written. The converted model does not compute the recorded results:\n{parity}"
                )
            return parity

    def _weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        prefix = "" if self.whole is None else "language_model."
        weights = WholeWeightsReader(self.checkpoint, self.model, "not converted as a SEED-LLaMA")
        types: list[torch.dtype] = []
        for name, tensor in weights.read(self.files, self.dtype, computed=_COMPUTED):
            types.append(tensor.dtype)
            yield prefix + name, tensor
        self.dtype = functools.reduce(torch.promote_types, types)  # one that holds all, where they differ
        self.report.used, self.report.computed = {name: name for name in weights.used}, weights.computed
        self.report.dtype = ", ".join(sorted({str(dtype).removeprefix("torch.") for dtype in types}))

    def _weights_of_the_visual_tokenizer(self, model: PreTrainedModel) -> Iterator[tuple[str, torch.Tensor]]:
        assert self.visual_tokenizer is not None
        weights = WholeWeightsReader(self.visual_tokenizer, model.visual_tokenizer, "not a whole visual tokenizer")
        for name, tensor in weights.read(weight_files(self.visual_tokenizer), part="visual_tokenizer."):
            yield f"visual_tokenizer.{name}", tensor

    def _write_settings(self, model: PreTrainedModel, folder: Path) -> None:
        model.config.architectures = [type(model).__name__]
        model.config.dtype = self.dtype
        custom_object_save(model, folder, config=model.config)
        model.config.save_pretrained(folder)
        ids = {name: getattr(self.config, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        GenerationConfig(**ids).save_pretrained(folder)
        if self.whole is None:
            template = written_chat_template(prompt_format=self.config.prompt_format)
            self.tokenizer.chat_template = with_bos(template, self.tokenizer)
            self.tokenizer.save_pretrained(folder)
            return
        SeedProcessor(
            SeedImageProcessor.for_tokenizer(self.whole.tokenizer_config),
            self.tokenizer,
            num_query_tokens=self.config.num_query_tokens,
            prompt_format=self.config.prompt_format,
        ).save_pretrained(folder)


def _released_config(folder: Path) -> dict:
    if not folder.is_dir():
        raise ConversionError(f"{folder}: no such folder. Give the folder of a released language model.")
    decline_seed_x(folder)
    if not (folder / "config.json").is_file():
        weights = folder / "pytorch_model.bin"
        if weights.is_file() and are_continuous(unwrapped(read_file(weights), str(weights))):
            raise no_codes(folder)
        raise ConversionError(f"{folder}: no config.json. Give the folder of a released language model.")
    values = read_json(folder / "config.json")
    if values.get("model_type") != LlamaConfig.model_type:
        raise ConversionError(
            f"{folder}: holds a model of type {values.get('model_type')!r}; a released SEED-LLaMA is of type 'llama'."
        )
    return values


def _check_rows(rows, vocabulary: VisualVocabulary) -> None:
    tokens = vocabulary.vocab_size or 0
    if rows not in [-(-tokens // multiple) * multiple for multiple in _MULTIPLES]:
        raise ConversionError(
            f"The language model has {rows!r} rows, the tokenizer {tokens} tokens. A released "
            "SEED-LLaMA has one row for each. The two folders do not belong together."
        )
    if vocabulary.rows() != list(range(min(vocabulary.rows()), tokens)):
        raise ConversionError(f"The visual tokens must be the last of the {tokens}, without a gap.")


def _config(released: dict, tokenizer, vocabulary, prompt_format: str | None) -> SeedLlamaConfig:
    if released.get("num_attention_heads") is None:  # no weight shows it
        raise ValueError("num_attention_heads is missing.")
    known = {*(field.name for field in fields(LlamaConfig)), *_OLD_NAMES} - {*_DROPPED}
    values = LlamaConfig(**{name: value for name, value in released.items() if name in known}).to_dict()
    for name in ("model_type", "architectures", "transformers_version", "dtype", "_name_or_path", *_DROPPED):
        values.pop(name, None)
    usual = "llama2" if values["num_hidden_layers"] == _LAYERS_OF_14B else "vicuna"
    return SeedLlamaConfig(
        **{
            **values,
            "text_vocab_size": min(vocabulary.rows()),
            "codebook_size": vocabulary.codebook_size,
            "num_query_tokens": vocabulary.num_query_tokens,
            "visual_token_offset": vocabulary.visual_token_offset,
            "boi_token_id": vocabulary.boi_token_id,
            "eoi_token_id": vocabulary.eoi_token_id,
            "image_token_id": vocabulary.image_token_id,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "use_cache": True,
            "prompt_format": prompt_format or usual,
        }
    )


def _replaced(released: dict, config: SeedLlamaConfig) -> dict[str, tuple]:
    names = ("bos_token_id", "eos_token_id", "pad_token_id", "use_cache")
    pairs = {name: (released.get(name), getattr(config, name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _left_behind(file: Path) -> dict[str, tuple]:
    """Settings of generation that the result does not have: greedy decoding is its default, whatever is sampled."""
    settings = read_json(file) if file.is_file() else {}
    kept = ("bos_token_id", "eos_token_id", "pad_token_id", "transformers_version")
    named = {name: value for name, value in settings.items() if name not in kept and not name.startswith("_")}
    return {f"generation_config.{name}": (value, None) for name, value in named.items()}


def _visual_config(folder: Path) -> SeedTokenizerConfig:
    if not folder.is_dir():
        raise ConversionError(f"{folder}: no such folder. Give that of a converted SEED-2 tokenizer.")
    if (folder / "seed_quantizer.pt").is_file():
        raise ConversionError(
            f"{folder}: the authors' SEED-2, which is to be converted first: seed-hf convert seed2 --checkpoint "
            f"{folder / 'seed_quantizer.pt'} eva_vit_g.pth --out seed2. Then give --visual-tokenizer seed2."
        )
    weight_files(folder)  # raises if there are none
    try:
        config = SeedTokenizerConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ConversionError(f"{folder}: no visual tokenizer. {error}") from error
    if config.generation_target != "image":
        raise ConversionError(
            f"{folder}: a tokenizer whose generation embeddings are aligned with text, as those of SEED-1 are. "
            "SEED-LLaMA reads and writes the codes of SEED-2: give the folder of that."
        )
    return config


def _whole_config(folder: Path, visual_config: SeedTokenizerConfig, text_config: SeedLlamaConfig) -> SeedConfig:
    try:
        return SeedConfig(visual_config, text_config)
    except ValueError as error:
        raise ConversionError(f"{folder}: not the visual tokenizer of this language model. {error}") from error


def _vocabulary(folder: Path, tokenizer, num_query_tokens: int) -> VisualVocabulary:
    try:
        return read_vocabulary(tokenizer, num_query_tokens)
    except ValueError as error:
        raise ConversionError(
            f"{folder}: not the tokenizer of a SEED-LLaMA. {str(error).partition(' Make ')[0]} (A plain Llama gets "
            "visual tokens by SeedLlamaForCausalLM.from_language_model.)"
        ) from error
