"""From a plain language model to one with a visual vocabulary, and back.

The text rows and all other weights stay as they are, in both directions.
"""

import copy
from typing import Any

import torch
from transformers import AutoTokenizer
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from .model_types_seed import read_config
from .visual_tokens_seed import BOI_TOKEN, EOI_TOKEN, IMAGE_TOKEN, check_no_gaps


# Embedding matrices are padded: to multiples of at most 128 rows, or, Qwen3's of 151,936 rows, by 267.
_MOST_SPARE_ROWS, _MOST_SPARE_SHARE = 128, 1 / 200

# Fields of a configuration that belong to its class, not to its weights.
_OF_THE_CLASS = ("model_type", "architectures", "auto_map", "transformers_version")


def embedding_names(model: PreTrainedModel) -> tuple[str, str]:
    """The names of a language model's embedding matrix and of its output matrix, which may be the same tensor."""
    wanted = (model.get_input_embeddings(), model.get_output_embeddings())
    names = {id(module): f"{name}.weight" for name, module in model.named_modules()}
    first, last = (names[id(module)] for module in wanted)
    return first, last


def extended_config(cls: type[PreTrainedModel], plain: PreTrainedConfig, **visual) -> PreTrainedConfig:
    """The configuration of a plain language model as one of the class `cls`, with a visual vocabulary.

    Args:
        cls: The class with a visual vocabulary.
        plain: Of the same family.
        visual: Fields of `VisualVocabularyConfig`, `text_vocab_size` among them.
    """
    left = ("vocab_size", *_OF_THE_CLASS)
    kept = {name: value for name, value in plain.to_dict().items() if name not in left}
    return cls.config_class(**kept, **visual)


def extended(
    cls: type[PreTrainedModel],
    source: PreTrainedModel,
    *,
    text_vocab_size: int,
    codebook: torch.Tensor | None,
    **visual,
) -> PreTrainedModel:
    r"""A model of the class `cls` with the weights of `source` and new rows for the visual tokens.

    Each new row is drawn from a normal distribution with the mean and standard deviation of the text rows in every
    dimension, so that new tokens start as likely and as different from each other as words. (The default of
    `resize_token_embeddings` makes all new rows nearly equal, and takes minutes.)

    Args:
        cls: The class with a visual vocabulary.
        source: A plain language model of the same family.
        text_vocab_size: Entries of its text tokenizer; further rows of the source are dropped.
        codebook: For the projected embedding: `(codebook_size, code_dim)`.
        visual: Fields of `VisualVocabularyConfig`.

    Raises:
        ValueError: More text tokens than rows; a bos, eos or padding token that is none of the text tokens; adapters
            that are not merged.
    """
    _check_merged(source)
    rows = source.get_input_embeddings().weight.detach()
    check_entries(text_vocab_size, len(rows))
    for settings in (source.config, source.generation_config):
        check_special_tokens(settings, text_vocab_size)
        if (settings.pad_token_id or 0) < 0:  # as the first Llamas say that there is none
            settings.pad_token_id = None
    config = extended_config(cls, source.config, text_vocab_size=text_vocab_size, **visual)
    config.tie_word_embeddings &= _tied(source)
    # Built on the meta device, then given the tensors of the source: a large model is never in memory twice.
    with torch.device("meta"):
        model = cls._from_config(config, dtype=rows.dtype, attn_implementation=source.config._attn_implementation)
    state = source.state_dict()
    embedding_name, head_name = embedding_names(source)
    new_rows = _rows_like(rows[:text_vocab_size], config.vocab_size - text_vocab_size)
    embedding = torch.cat([rows[:text_vocab_size], new_rows])
    state[embedding_name] = state[head_name] = embedding
    if not config.tie_word_embeddings:
        head = source.get_output_embeddings().weight.detach()[:text_vocab_size]
        state[head_name] = torch.cat([head, _rows_like(head, len(new_rows))])
    if (bias := getattr(source.get_output_embeddings(), "bias", None)) is not None:  # Phi's and GPT-J's have one
        bias = bias.detach()[:text_vocab_size, None]
        name = f"{head_name.removesuffix('weight')}bias"
        state[name] = torch.cat([bias, _rows_like(bias, len(new_rows))]).squeeze(1)
    if codebook is not None and config.visual_embedding == "projected":
        width = rows.shape[1]
        weight = torch.empty(width, config.code_dim, dtype=rows.dtype, device=rows.device)
        # Scaled so that a codebook vector of average length becomes as large as a text embedding.
        text = rows[:text_vocab_size].float() * _scale(source)
        scale = text.std() / codebook.detach().float().norm(dim=-1).mean().clamp(min=1e-6)
        state["visual_projection.weight"] = weight.normal_(std=scale.item())
        state["visual_projection.bias"] = text.mean(0).to(rows.dtype)
        state["visual_codebook"] = codebook.detach().to(rows.device, rows.dtype).clone()
    return _filled(model, state, source)


@torch.no_grad()
def plain(model: PreTrainedModel, cls: type[PreTrainedModel]) -> PreTrainedModel:
    """The same model as one of the plain class `cls`: logits are equal for every sequence of ids.

    A projected visual embedding is written out into the input rows; the output rows are then a matrix of their own.

    Args:
        model: A language model with a visual vocabulary.
        cls: The plain class of its family.

    Raises:
        ValueError: Adapters that are not merged.
    """
    _check_merged(model)
    values = model.config.to_dict()
    # SEED's own fields are dropped; the dtype is set by the weights.
    names = (*cls.config_class().to_dict(), "derived_from")  # the last: whose licence goes along
    kept = {name: values[name] for name in names if name in values and name not in _OF_THE_CLASS}
    kept["tie_word_embeddings"] &= _tied(model)
    kept["use_cache"] = True  # training switches it off; a server always wants it
    state = model.state_dict()
    embedding_name, head_name = embedding_names(model)
    if model.config.visual_embedding == "projected":
        # A code enters as its projected codebook vector and leaves as a row of the output layer: two matrices.
        kept["tie_word_embeddings"] = False
        state = {name: weight for name, weight in state.items() if not name.startswith("visual_")}
        rows, first = state[embedding_name].detach().clone(), model.config.visual_token_offset
        codes = torch.arange(first, first + model.config.codebook_size, device=rows.device)
        rows[codes] = model.embed_ids(codes) / _scale(model)
        state[embedding_name] = rows
    with torch.device("meta"):
        attention = model.config._attn_implementation
        made = cls._from_config(cls.config_class(**kept), dtype=state[head_name].dtype, attn_implementation=attention)
    return _filled(made, {name: weight.detach().clone() for name, weight in state.items()}, model)


def _tied(model: PreTrainedModel) -> bool:
    """Whether input and output rows are one matrix. Configurations are not always told when they become two."""
    return model.get_input_embeddings().weight is model.get_output_embeddings().weight


def _check_merged(model: PreTrainedModel) -> None:
    """Raises `ValueError` if peft has put adapters around layers of a model."""
    wrapped = [name for name, _ in model.named_parameters() if {"base_layer", "original_module"} & {*name.split(".")}]
    if wrapped:
        raise ValueError(
            f"This {type(model).__name__} has adapters beside its own weights ({wrapped[0]}, {len(wrapped)} in all). "
            "Merge them first: merge_and_unload() of the PeftModel gives the model to take."
        )


def check_entries(entries: int, rows: int) -> None:
    """Raises `ValueError` if a plain model has too few rows for its text tokenizer.

    Args:
        entries: Of the text tokenizer.
        rows: Of the embedding matrix.
    """
    if not 1 <= entries <= rows:
        raise ValueError(
            f"The text tokenizer has {entries} entries, the language model {rows} rows for them. They do not belong "
            "together."
        )


def check_special_tokens(settings: Any, text_vocab_size: int) -> None:
    """Raises `ValueError` if a special token of a plain model would become a visual token.

    Args:
        settings: Its configuration or generation config.
        text_vocab_size: Entries of its text tokenizer.
    """
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        ids = getattr(settings, name, None)
        beyond = [id for id in (ids if isinstance(ids, list) else [ids]) if id is not None and id >= text_vocab_size]
        if beyond:
            raise ValueError(
                f"The language model has {name}={beyond[0]}, but its text tokens are 0 .. {text_vocab_size - 1}: "
                f"visual tokens follow. Set {name} to one of the text tokenizer's, in config.json and "
                "generation_config.json, or take the tokenizer that has this token."
            )


def _scale(model: PreTrainedModel) -> float | torch.Tensor:
    """What a row of the embedding matrix is multiplied by when it enters the model: Gemma's has a factor."""
    return getattr(model.get_input_embeddings(), "embed_scale", 1.0)


def _filled(model: PreTrainedModel, state: dict[str, torch.Tensor], source: PreTrainedModel) -> PreTrainedModel:
    """A model on the meta device, filled with `state` and with what `source`, of the same structure, does not save."""
    model.load_state_dict(state, assign=True)
    for name, buffer in source.named_buffers():
        if name not in state and not name.startswith("visual_"):  # the frequencies of rotary positions
            owner, _, last = name.rpartition(".")
            setattr(model.get_submodule(owner), last, buffer.clone())
    model.tie_weights()
    model.generation_config = copy.deepcopy(source.generation_config)
    return model.train(source.training)


def text_tokenizer_of(folder, rows: int, **kwargs) -> PreTrainedTokenizerBase:
    """The text tokenizer in a folder.

    Args:
        folder: Of a plain language model.
        rows: Of its embedding matrix.
        kwargs: `revision`, `token` and the like.

    Raises:
        ValueError: No tokenizer, one that already has visual tokens, or gaps in its ids, or that is not this model's.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **_place(kwargs))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{folder} has no tokenizer to count the text tokens with. Pass text_vocab_size=len(tokenizer)."
        ) from error
    if {BOI_TOKEN, EOI_TOKEN, IMAGE_TOKEN} & tokenizer.get_vocab().keys():
        raise ValueError(f"The tokenizer in {folder} already has visual tokens. Use from_pretrained.")
    # transformers returns an empty tokenizer for a folder without tokenizer files. Padding adds few rows.
    if rows - len(tokenizer) >= max(_MOST_SPARE_ROWS, _MOST_SPARE_SHARE * rows):
        raise ValueError(
            f"The tokenizer found for {folder} has {len(tokenizer)} entries, the language model {rows} rows for them. "
            "Put its own tokenizer there, or pass text_vocab_size=len(tokenizer)."
        )
    check_no_gaps(tokenizer)
    return tokenizer


def use_tokens_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Makes the bos of a language model that of its text tokenizer, which writes its sequences, or none.

    Qwen3 names a bos in its configuration that its tokenizer never writes. Where the tokenizer ends sequences with an
    eos at which generation would not stop, it stops there too.

    Args:
        model: Whose settings are changed.
        tokenizer: Its text tokenizer.
    """
    model.config.bos_token_id, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    for settings in (model.config, model.generation_config):
        ends = settings.eos_token_id if isinstance(settings.eos_token_id, list) else [settings.eos_token_id]
        if end is not None and end not in ends:
            settings.eos_token_id = end if ends == [None] else [*ends, end]


def model_type_of(folder, **kwargs) -> str | None:
    """The `model_type` in a folder's configuration; `None` if it has none.

    Args:
        folder: A folder or a Hub id.
        kwargs: `revision`, `token` and the like.

    Raises:
        ValueError: The configuration is no JSON object.
    """
    return read_config(PreTrainedConfig, folder, **_place(kwargs)).get("model_type")


def _place(kwargs: dict) -> dict:
    names = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")
    return {name: kwargs[name] for name in names if name in kwargs}


def codebook_of_shape(codebook: torch.Tensor | None, codebook_size: int, code_dim: int) -> None:
    """Raise `ValueError` unless there is a codebook `(codebook_size, code_dim)`."""
    shape = None if codebook is None else tuple(codebook.shape)
    if shape != (codebook_size, code_dim):
        raise ValueError(
            f"visual_embedding='projected' needs the visual tokenizer's codebook, of shape "
            f"{(codebook_size, code_dim)}, got {shape}. Pass codebook=tokenizer.quantizer.embedding.weight."
        )


def _rows_like(rows: torch.Tensor, count: int) -> torch.Tensor:
    """`(count, width)` draws from a normal distribution with the mean and deviation of each column of `rows`."""
    values = rows.float()
    noise = torch.randn(count, values.shape[1], device=values.device)
    return (values.mean(0) + noise * values.std(0)).to(rows.dtype)


__all__ = [
    "check_entries",
    "check_special_tokens",
    "codebook_of_shape",
    "embedding_names",
    "extended",
    "extended_config",
    "model_type_of",
    "plain",
    "text_tokenizer_of",
    "use_tokens_of",
]
