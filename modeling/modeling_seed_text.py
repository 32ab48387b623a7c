"""The SEED language model: an OPT whose vocabulary also holds the visual codes.

Its weights keep OPT's names, so programs that serve OPT can serve it. Source: arXiv 2307.08041, sections 1.4 and 2.2.
"""

import copy

import torch
from torch import nn
from transformers import AutoTokenizer, OPTConfig, OPTForCausalLM
from transformers import initialization as init
from transformers.generation import LogitsProcessorList
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import logging

from .configuration_seed import SeedTextConfig
from .generation_seed import GENERATION_MODES, VisualSpanLogitsProcessor, missing_span_tokens
from .publishing_seed import PrivateByDefault


logger = logging.get_logger(__name__)

# Embedding matrices are padded to multiples of at most this many rows.
_MOST_SPARE_ROWS = 128

# Default lengths. Drawing needs one span and the end of the sequence.
_DEFAULT_NEW_TOKENS = {"text": 64, "interleaved": 256}


class SeedForCausalLM(PrivateByDefault, OPTForCausalLM):
    r"""OPT with a visual vocabulary; [`SeedTextConfig`] describes its layout.

    With `visual_embedding="learned"` this is OPT with more rows. With `"projected"` a visual token enters as its
    codebook vector through one linear layer (paper 2.2): `visual_codebook` is a frozen buffer, `visual_projection` the
    layer. The embedding rows of the codes are then used by the output layer alone, which OPT ties to the embedding
    matrix. `<img>` and `</img>` are learned rows in both cases.

    Args:
        config ([`SeedTextConfig`]): Weights begin random; `from_pretrained` loads trained ones, and
            [`SeedForCausalLM.from_language_model`] starts from a plain OPT.
    """

    config: SeedTextConfig
    config_class = SeedTextConfig
    _auto_class = "AutoModelForCausalLM"

    def __init__(self, config: SeedTextConfig):
        super().__init__(config)
        if config.visual_embedding == "projected":
            self.register_buffer("visual_codebook", torch.zeros(config.codebook_size, config.code_dim))
            self.visual_projection = nn.Linear(config.code_dim, config.word_embed_proj_dim)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, SeedForCausalLM) and self.config.visual_embedding == "projected":
            init.normal_(module.visual_codebook, std=self.config.init_std)

    @classmethod
    def from_language_model(
        cls,
        opt_folder,
        *,
        codebook_size: int = 8192,
        num_query_tokens: int = 32,
        code_dim: int = 32,
        visual_embedding: str = "learned",
        codebook: torch.Tensor | None = None,
        text_vocab_size: int | None = None,
        **kwargs,
    ) -> "SeedForCausalLM":
        r"""Adds the visual vocabulary to a plain OPT checkpoint.

        The text rows and all other weights stay as they are. Each new row is drawn from a normal distribution with
        the mean and standard deviation of the text rows in every dimension, so that new tokens start as likely and as
        different from each other as words. (The default of `resize_token_embeddings` makes all new rows nearly equal,
        and takes minutes.)

        Args:
            opt_folder (`str` or `os.PathLike`): What [`OPTForCausalLM.from_pretrained`] takes.
            codebook_size, num_query_tokens, code_dim (`int`): Of the visual tokenizer.
            visual_embedding (`str`, *optional*, defaults to `"learned"`): `"learned"` or `"projected"`.
            codebook (`torch.Tensor` of shape `(codebook_size, code_dim)`, *optional*): The visual tokenizer's
                `quantizer.embedding.weight`; needed by `"projected"`.
            text_vocab_size (`int`, *optional*): Entries of the text tokenizer. Default: those of the tokenizer in
                `opt_folder`. Rows of the embedding matrix do not count: OPT's has unused ones.
            kwargs: Passed to [`OPTForCausalLM.from_pretrained`], `dtype` for instance.

        Raises:
            ValueError: No tokenizer in the folder, a tokenizer that already has visual tokens or has more entries
                than the matrix has rows, or a codebook that is missing or has another shape.
        """
        if visual_embedding == "projected":
            shape = None if codebook is None else tuple(codebook.shape)
            if shape != (codebook_size, code_dim):
                raise ValueError(
                    f"visual_embedding='projected' needs the visual tokenizer's codebook, of shape "
                    f"{(codebook_size, code_dim)}, got {shape}. Pass codebook=tokenizer.quantizer.embedding.weight."
                )
        source = OPTForCausalLM.from_pretrained(opt_folder, **kwargs)
        rows = source.get_input_embeddings().weight.detach()
        if text_vocab_size is None:
            text_vocab_size = _count_text_tokens(opt_folder, len(rows))
        if not 1 <= text_vocab_size <= len(rows):
            raise ValueError(
                f"The text tokenizer has {text_vocab_size} entries, the language model {len(rows)} rows for them. "
                "They do not belong together."
            )
        opt_config = source.config.to_dict()
        for name in ("vocab_size", "model_type", "architectures", "transformers_version"):
            opt_config.pop(name, None)
        config = SeedTextConfig(
            **opt_config,
            text_vocab_size=text_vocab_size,
            codebook_size=codebook_size,
            num_query_tokens=num_query_tokens,
            code_dim=code_dim,
            visual_embedding=visual_embedding,
        )
        # Built on the meta device, then given the tensors of the source: a large model is never in memory twice.
        with torch.device("meta"):
            model = cls._from_config(config, dtype=rows.dtype)
        state = source.state_dict()
        assert config.vocab_size is not None  # the configuration sets it
        new_rows = _rows_like(rows[:text_vocab_size], config.vocab_size - text_vocab_size)
        embedding = torch.cat([rows[:text_vocab_size], new_rows])
        state["model.decoder.embed_tokens.weight"] = embedding
        state["lm_head.weight"] = embedding
        if not config.tie_word_embeddings:
            head = source.lm_head.weight.detach()[:text_vocab_size]
            state["lm_head.weight"] = torch.cat([head, _rows_like(head, len(new_rows))])
        if visual_embedding == "projected" and codebook is not None:
            weight = torch.empty(config.word_embed_proj_dim, code_dim, dtype=rows.dtype)
            # Scaled so that a codebook vector of average length becomes as large as a text embedding.
            text = rows[:text_vocab_size].float()
            scale = text.std() / codebook.detach().float().norm(dim=-1).mean().clamp(min=1e-6)
            state["visual_projection.weight"] = weight.normal_(std=scale.item())
            state["visual_projection.bias"] = text.mean(0).to(rows.dtype)
            state["visual_codebook"] = codebook.detach().to(rows.device, rows.dtype).clone()
        model.load_state_dict(state, assign=True)
        model.tie_weights()
        model.generation_config = source.generation_config
        return model.train(source.training)

    @torch.no_grad()
    def to_plain(self) -> OPTForCausalLM:
        """The same model as a plain OPT, for `transformers serve`, vLLM and other programs that know OPT.

        Its logits are those of this model for every sequence of ids. A projected visual embedding is written out into
        the input rows; the output rows are then a matrix of their own. Save it together with the text tokenizer:

        ```python
        model.to_plain().save_pretrained("opt")
        processor.opt_tokenizer().save_pretrained("opt")
        ```

        In that folder codes are ordinary tokens, `<img_00000>` and on, and text that spells them *is* them.
        """
        values = self.config.to_dict()
        known = OPTConfig().to_dict()
        # SEED's own fields are dropped; the dtype is set by the weights.
        kept = {name: values[name] for name in known if name in values and name not in ("model_type", "architectures")}
        kept["use_cache"] = True  # training switches it off; a server always wants it
        state = self.state_dict()
        rows = state["model.decoder.embed_tokens.weight"]
        if self.config.visual_embedding == "projected":
            # A code enters as its projected codebook vector and leaves as a row of the output layer: two matrices.
            kept["tie_word_embeddings"] = False
            state = {name: weight for name, weight in state.items() if not name.startswith("visual_")}
            every_id = torch.arange(len(rows), device=rows.device)
            state["model.decoder.embed_tokens.weight"] = self.embed_ids(every_id)
        with torch.device("meta"):
            plain = OPTForCausalLM._from_config(OPTConfig(**kept), dtype=rows.dtype)
        plain.load_state_dict({name: weight.detach().clone() for name, weight in state.items()}, assign=True)
        plain.tie_weights()
        plain.generation_config = self.generation_config
        return plain.train(self.training)

    to_opt = to_plain  # its name in version 0.1

    def embed_ids(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Input embeddings `(batch, length, word_embed_proj_dim)` of ids; visual tokens as `visual_embedding` says."""
        embeds = self.get_input_embeddings()(input_ids)
        if self.config.visual_embedding == "learned":
            return embeds
        assert self.config.visual_token_offset is not None  # the configuration sets it
        codes = input_ids - self.config.visual_token_offset
        visual = (codes >= 0) & (codes < self.config.codebook_size)
        vectors = self.visual_codebook[codes.clamp(0, self.config.codebook_size - 1)]
        projected = self.visual_projection(vectors.to(self.visual_projection.weight.dtype))
        return torch.where(visual.unsqueeze(-1), projected.to(embeds.dtype), embeds)

    # Generation reads these names from the signature to decide what it has to prepare.
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        past_key_values=None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        position_ids: torch.Tensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """As [`OPTForCausalLM.forward`]; ids of visual tokens are embedded as `config.visual_embedding` says."""
        if self.config.visual_embedding == "projected" and input_ids is not None and inputs_embeds is None:
            inputs_embeds = self.embed_ids(input_ids)
            input_ids = None
        return super().forward(
            input_ids=input_ids,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            labels=labels,
            use_cache=use_cache,
            position_ids=position_ids,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )

    def generate(
        self,
        inputs: torch.Tensor | None = None,
        generation_config=None,
        logits_processor=None,
        *,
        generation_mode: str | None = None,
        **kwargs,
    ):
        r"""As [`GenerationMixin.generate`]. With a `generation_mode`, every image span is valid by construction.

        Args:
            inputs (`torch.LongTensor` of shape `(batch, length)`): The prompt, padded on the left; also `input_ids`.
            generation_mode (`str`, *optional*): `"text"`: text alone. `"image"`: one image span, then the end.
                `"interleaved"`: text and image spans in any order. `None`: no constraint, as any OPT.
            generation_config, logits_processor: As in [`GenerationMixin.generate`]. Your own processors run before
                the constraint, so they cannot break a span.
            kwargs: As in [`GenerationMixin.generate`]. Without `max_new_tokens` or `max_length`, here or in the
                generation config, `"image"` generates a span and the end of the sequence, `"text"` up to 64 tokens and
                `"interleaved"` up to 256. Generation stops, with a warning, at the last position of the model.

        Returns:
            What [`GenerationMixin.generate`] returns: by default ids `(batch, length + new)`, the prompt included.

        Raises:
            ValueError: An unknown mode; no room for an image span; a prompt that ends inside a span in mode `"text"`.
        """
        if generation_mode is None:
            return super().generate(inputs, generation_config, logits_processor, **kwargs)
        if generation_mode not in GENERATION_MODES:
            raise ValueError(f"generation_mode must be one of {GENERATION_MODES}, got {generation_mode!r}.")
        prompt = kwargs.get("input_ids") if inputs is None else inputs
        if prompt is None or prompt.ndim != 2 or prompt.shape[1] == 0:
            given = None if prompt is None else tuple(prompt.shape)
            raise ValueError(f"generation_mode needs a prompt as input_ids (batch, length), got {given}.")
        settings = generation_config or self.generation_config
        eos_token_id = kwargs.get("eos_token_id", settings.eos_token_id)
        length = self._length_for(generation_mode, prompt, settings, kwargs)
        kwargs.pop("max_length", None)
        kwargs["max_new_tokens"] = length - prompt.shape[1]
        if generation_config is not None:
            # Transformers takes a generation config or single settings, not both.
            generation_config = copy.deepcopy(generation_config)
            kwargs = generation_config.update(**kwargs)
            generation_config.max_length = None
        constraint = VisualSpanLogitsProcessor(
            self.config,
            generation_mode,
            prompt_length=prompt.shape[1],
            max_length=length,
            eos_token_id=self.config.eos_token_id if eos_token_id is None else eos_token_id,
        )
        processors = LogitsProcessorList([*(logits_processor or []), constraint])
        return super().generate(inputs, generation_config, processors, **kwargs)

    def _length_for(self, mode: str, prompt: torch.Tensor, settings, kwargs: dict) -> int:
        """The length of prompt and new tokens together. Raises `ValueError` if it would cut an image span."""
        span = self.config.num_query_tokens + 2
        start, limit = prompt.shape[1], self.config.max_position_embeddings
        if (new_tokens := kwargs.get("max_new_tokens")) is not None:
            length = start + new_tokens
        elif kwargs.get("max_length") is not None:
            length = kwargs["max_length"]
        elif settings.max_new_tokens is not None:
            length = start + settings.max_new_tokens
        elif settings.max_length is not None:
            length = settings.max_length
        else:
            length = min(start + _DEFAULT_NEW_TOKENS.get(mode, span + 2), limit)
        if length > limit:
            logger.warning_once(
                f"{length} tokens were requested, prompt included, but the model has {limit} positions. Generation "
                "stops there."
            )
            length = limit
        if length <= start:
            raise ValueError(f"The prompt has {start} tokens; with a total of {length} there is room for no more.")
        missing = int(missing_span_tokens(prompt, self.config).max())
        if mode == "text" and missing:
            raise ValueError(
                "The prompt ends inside an image span, which generation_mode='text' cannot finish. "
                "Complete the span, or use 'image' or 'interleaved'."
            )
        needed = max(missing, span if mode == "image" else 0)
        if length - start < needed:
            raise ValueError(
                f"An image span needs {needed} new tokens, but there is room for {length - start} (prompt {start}, "
                f"total {length}). Raise max_new_tokens, or shorten the prompt."
            )
        return length


def _count_text_tokens(folder, rows: int) -> int:
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{folder} has no tokenizer to count the text tokens with. Pass text_vocab_size=len(tokenizer)."
        ) from error
    if "<img>" in tokenizer.get_vocab():
        raise ValueError(f"The tokenizer in {folder} already has visual tokens. Use SeedForCausalLM.from_pretrained.")
    # transformers returns an empty tokenizer for a folder without tokenizer files. Padding adds few rows.
    if rows - len(tokenizer) >= _MOST_SPARE_ROWS:
        raise ValueError(
            f"The tokenizer found for {folder} has {len(tokenizer)} entries, the language model {rows} rows for them. "
            "Put its own tokenizer there, or pass text_vocab_size=len(tokenizer)."
        )
    return len(tokenizer)


def _rows_like(rows: torch.Tensor, count: int) -> torch.Tensor:
    """`(count, width)` draws from a normal distribution with the mean and deviation of each column of `rows`."""
    values = rows.float()
    noise = torch.randn(count, values.shape[1], device=values.device)
    return (values.mean(0) + noise * values.std(0)).to(rows.dtype)


__all__ = ["SeedForCausalLM"]
