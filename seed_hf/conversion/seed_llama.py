"""Converts a released SEED-LLaMA: its folder, and the tokenizer that comes in another, into one artifact.

The weights are those of a plain Llama with the rows of the visual tokens behind its text tokens: the codes, then
`<img>` and `</img>`. Sources of all facts: the files of `AILab-CVC/seed-llama-8b-sft`, `-14b-sft`, `-8b-pretrain`,
`-14b-pretrain` and `seed-tokenizer-2`.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import GenerationConfig, LlamaConfig
from transformers.dynamic_module_utils import custom_object_save
from transformers.modeling_utils import PreTrainedModel

from seed_hf.files import check_new_folder, read_json, whole_folder
from seed_hf.modeling.configuration_seed import SeedConfig, SeedLlamaConfig, SeedTokenizerConfig
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from seed_hf.modeling.modeling_seed import SeedForConditionalGeneration
from seed_hf.modeling.modeling_seed_text import SeedLlamaForCausalLM
from seed_hf.modeling.processing_seed import SeedProcessor, read_vocabulary
from seed_hf.modeling.prompts_seed import written_chat_template

from .language_parity import compare_language_model
from .llama_tokenizer import read_llama_tokenizer
from .parity import TOLERANCE, Parity
from .report import ConversionError, shown
from .weight_shards import ShardWriter, read_tensors, weight_files


DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Values of the authors' class that are computed, not learned.
_COMPUTED = ".rotary_emb.inv_freq"
# What training left in the released config.json, and today's library does not know.
_DROPPED = ("pretraining_tp", "max_sequence_length", "bos_token_id", "eos_token_id", "pad_token_id", "use_cache")
_SEED_X_ROWS = 32330
_LAYERS_OF_14B = 40
_BILINEAR = 2


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
    """

    files: list[str] = field(default_factory=list)
    used: dict[str, str] = field(default_factory=dict)
    computed: list[str] = field(default_factory=list)
    replaced: dict[str, tuple] = field(default_factory=dict)
    parameters: int = 0
    dtype: str = ""

    def __str__(self) -> str:
        lines = ["SEED-LLaMA", *(f"  {'from':<18}{file}" for file in self.files)]
        lines += [f"  {'parameters':<18}{self.parameters:,}", f"  {'stored as':<18}{self.dtype}"]
        lines += [f"  {'used':<18}{len(self.used)}", f"  {'computed':<18}{len(self.computed)}"]
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
        self.checkpoint, self.out, self.visual_tokenizer = Path(checkpoint), Path(out), visual_tokenizer
        check_new_folder(self.out)
        if dtype != "auto" and dtype not in DTYPES:
            raise ValueError(f"dtype must be auto, {', '.join(DTYPES)}; got {dtype!r}.")
        released = _released_config(self.checkpoint)
        self.files = weight_files(self.checkpoint)
        self.tokenizer = read_llama_tokenizer(Path(tokenizer))
        self.vocabulary = read_vocabulary(self.tokenizer)
        self.config = _config(released, self.tokenizer, self.vocabulary, prompt_format)
        self.tokenizer.model_max_length = self.config.max_position_embeddings
        self.dtype = DTYPES.get(dtype)
        self.whole = None if visual_tokenizer is None else _whole_config(Path(visual_tokenizer), self.config)
        with torch.device("meta"):
            self.model = SeedLlamaForCausalLM(self.config)
        self.shapes = {name: tuple(weight.shape) for name, weight in self.model.state_dict().items()}
        self.report = SeedLlamaReport(
            files=[str(file) for file in self.files],
            parameters=self.model.num_parameters(),
            dtype=dtype,
            replaced=_replaced(released, self.config),
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
            writer = ShardWriter(folder)
            prefix = "" if self.whole is None else "language_model."
            for name, tensor in self._weights():
                writer.add(prefix + name, tensor)
            model: PreTrainedModel = self.model
            if self.whole is not None:
                assert self.visual_tokenizer is not None
                for name, tensor, _ in read_tensors(weight_files(Path(self.visual_tokenizer))):
                    writer.add(f"visual_tokenizer.{name}", tensor)
                with torch.device("meta"):
                    model = SeedForConditionalGeneration(self.whole)
            writer.close()
            self._write_settings(model, folder)
            if recorded is None:
                return None
            parity = compare_language_model(folder, Path(recorded), tolerance)
            if not parity.holds:
                raise ConversionError(
                    f"{self.out}: not written. The converted model does not compute the recorded results:\n{parity}"
                )
            return parity

    def _weights(self):
        strange, misshapen = [], []
        for name, tensor, file in read_tensors(self.files):
            if name.endswith(_COMPUTED):
                self.report.computed.append(name)
            elif name not in self.shapes:
                strange.append(f"{name} ({file.name})")
            elif tuple(tensor.shape) != self.shapes[name]:
                misshapen.append(f"{name} is {tuple(tensor.shape)}, must be {self.shapes[name]}")
            else:
                self.report.used[name] = name
                if self.dtype is None:
                    self.dtype = tensor.dtype  # one type for all: the released files differ in computed values alone
                yield name, tensor.to(self.dtype)
        missing = [name for name in self.shapes if name not in self.report.used]
        if missing or strange or misshapen:
            message = [f"{self.checkpoint}: not converted as a SEED-LLaMA."]
            for title, keys in (("Missing", missing), ("Unknown", strange), ("Of the wrong shape", misshapen)):
                if keys:
                    message.append(f"{title} ({len(keys)}): {', '.join(shown(keys))}.")
            raise ConversionError(" ".join(message), missing=missing, unknown=strange, misshapen=misshapen)
        self.report.dtype = str(self.dtype).removeprefix("torch.")

    def _write_settings(self, model: PreTrainedModel, folder: Path) -> None:
        model.config.architectures = [type(model).__name__]
        model.config.dtype = self.dtype
        custom_object_save(model, folder, config=model.config)
        model.config.save_pretrained(folder)
        ids = {name: getattr(self.config, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        GenerationConfig(**ids).save_pretrained(folder)
        if self.whole is None:
            self.tokenizer.chat_template = written_chat_template(prompt_format=self.config.prompt_format)
            self.tokenizer.save_pretrained(folder)
            return
        size = self.whole.tokenizer_config.vision_config.image_size
        # The authors' scripts, and the codes that the language model was trained on, come from bilinear pixels.
        images = SeedImageProcessor(size={"height": size, "width": size}, resample=_BILINEAR)
        SeedProcessor(
            images,
            self.tokenizer,
            num_query_tokens=self.config.num_query_tokens,
            prompt_format=self.config.prompt_format,
        ).save_pretrained(folder)


def _released_config(folder: Path) -> dict:
    if not (folder / "config.json").is_file():
        if (folder / "agent" / "pytorch_model.bin").is_file():
            raise _no_codes(folder)
        raise ConversionError(f"{folder}: no config.json. Give the folder of a released language model.")
    values = read_json(folder / "config.json")
    if values.get("vocab_size") == _SEED_X_ROWS:
        raise _no_codes(folder)
    if values.get("model_type") != LlamaConfig.model_type:
        raise ConversionError(
            f"{folder}: holds a model of type {values.get('model_type')!r}; a released SEED-LLaMA is of type 'llama'."
        )
    return values


def _no_codes(folder: Path) -> ConversionError:
    return ConversionError(
        f"{folder}: looks like SEED-X or SEED-Story. Their images are continuous features for SDXL, not visual codes, "
        "so this package cannot hold them. Use the authors' code: github.com/AILab-CVC/SEED-X, TencentARC/SEED-Story."
    )


def _config(released: dict, tokenizer, vocabulary, prompt_format: str | None) -> SeedLlamaConfig:
    rows = vocabulary.vocab_size
    if released.get("vocab_size") != rows:
        raise ConversionError(
            f"The language model has {released.get('vocab_size')} rows, the tokenizer {rows} tokens. A released "
            "SEED-LLaMA has one row for each. The two folders do not belong together."
        )
    text = min(vocabulary.rows())
    if vocabulary.rows() != list(range(text, rows)):
        raise ConversionError(f"The visual tokens must be the last of the {rows}, without a gap.")
    fields = LlamaConfig(**{name: value for name, value in released.items() if name not in _DROPPED}).to_dict()
    for name in ("model_type", "architectures", "transformers_version", "dtype", "_name_or_path"):
        fields.pop(name, None)
    usual = "llama2" if fields["num_hidden_layers"] == _LAYERS_OF_14B else "vicuna"
    return SeedLlamaConfig(
        **{
            **fields,
            "text_vocab_size": text,
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


def _whole_config(folder: Path, text_config: SeedLlamaConfig) -> SeedConfig:
    try:
        return SeedConfig(SeedTokenizerConfig.from_pretrained(folder), text_config)
    except (OSError, ValueError) as error:
        raise ConversionError(f"{folder}: not the visual tokenizer of this language model. {error}") from error
