"""The SEED language models: an OPT, a Llama or a Qwen3 whose vocabulary also holds the visual codes.

Everything is in one mix-in; a family is a configuration, a `Family`, and a class without code. Weights keep the
names of the plain model, so programs that serve it can serve these. Source: arXiv 2307.08041, sections 1.4 and 2.2.
"""

import copy
import os
from dataclasses import dataclass
from typing import ClassVar

import torch
from transformers import LlamaForCausalLM, OPTForCausalLM, Qwen3ForCausalLM
from transformers.generation import GenerationMixin, LogitsProcessorList
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.modeling_utils import PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_MAPPING_NAMES

from .adapters_seed import check_virtual_tokens
from .cache_name_seed import CACHE, given_cache
from .configuration_seed import (
    TEXT_CONFIGS,
    SeedLlamaConfig,
    SeedQwen3Config,
    SeedTextConfig,
    VisualVocabularyConfig,
)
from .extension_seed import codebook_of_shape, extended, model_type_of, plain, text_tokenizer_of, use_tokens_of
from .generated_length_seed import generated_length
from .generation_seed import GENERATION_MODES, VisualSpanLogitsProcessor, missing_span_tokens
from .guidance_seed import check_code_guidance, check_guided_options, guided_logits, guided_rows
from .model_types_seed import MODEL_TYPES
from .modeling_seed_text_model import SeedLlamaModel, SeedQwen3Model, SeedTextModel, VisualEmbedding
from .next_logits_seed import places_to_keep
from .span_writing_seed import SpanWriter, writes_directly
from .stopping_seed import stop_after_text
from .whole_weights_seed import load_whole


@dataclass(frozen=True)
class Family:
    """What differs between families of language models.

    Args:
        plain: The class of a plain model, without visual tokens.
        headless: The class of the model without its output layer, which `AutoModel` loads.
        plain_logits: Whether logits are what the output layer makes of the hidden states of `model.model`, unchanged.
        linear_layers: Names of the linear layers of a block, which LoRA adapts.
        norms: Names of the normalisation layers.
        rotary: Whether positions rotate queries and keys. Else they are embedded.
    """

    plain: type[PreTrainedModel]
    linear_layers: tuple[str, ...]
    norms: tuple[str, ...]
    rotary: bool = True
    headless: type[PreTrainedModel] | None = None
    plain_logits: bool = False


# The language models with a visual vocabulary, by `model_type`.
LANGUAGE_MODELS: dict[str, type["VisualVocabularyMixin"]] = {}


def language_model(cls):
    """Class decorator: makes a family known to `SeedConfig` and to [`SeedForConditionalGeneration`].

    Args:
        cls: A class with [`VisualVocabularyMixin`], a `config_class` and a `family`.
    """
    plain_type = cls.family.plain.config_class.model_type
    takes = f"{cls.__name__}.from_language_model adds visual tokens to it"
    MODEL_TYPES.setdefault(plain_type, (f"a plain {plain_type!r} model", takes))
    MODEL_TYPES[cls.config_class.model_type] = f"a {cls.__name__}", f"{cls.__name__}.from_pretrained loads it"
    LANGUAGE_MODELS[cls.config_class.model_type] = cls
    TEXT_CONFIGS[cls.config_class.model_type] = cls.config_class
    # Pipelines look for the names of classes here, and call others "not supported".
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.setdefault(cls.config_class.model_type, cls.__name__)
    if cls.family.headless is not None:
        MODEL_MAPPING_NAMES.setdefault(cls.config_class.model_type, cls.family.headless.__name__)
    return cls


class VisualVocabularyMixin(VisualEmbedding, GenerationMixin):
    r"""A language model with a visual vocabulary; [`VisualVocabularyConfig`] describes its layout.

    With `visual_embedding="learned"` this is the plain model with more rows. With `"projected"` a visual token enters
    as its codebook vector through one linear layer (paper 2.2): `visual_codebook` is a frozen buffer,
    `visual_projection` the layer. The embedding rows of the codes are then used by the output layer alone, if it is
    tied to the embedding matrix. `<img>` and `</img>` are learned rows in both cases.

    Args:
        config ([`VisualVocabularyConfig`]): Weights begin random, the codebook of `"projected"` too;
            `from_pretrained` loads trained ones, and [`VisualVocabularyMixin.from_language_model`] starts from a plain
            model.
    """

    config: VisualVocabularyConfig
    family: ClassVar[Family]
    _auto_class = "AutoModelForCausalLM"

    @classmethod
    def from_language_model(
        cls,
        folder,
        *,
        codebook_size: int = 8192,
        num_query_tokens: int = 32,
        code_dim: int = 32,
        visual_embedding: str = "learned",
        codebook: torch.Tensor | None = None,
        text_vocab_size: int | None = None,
        **kwargs,
    ):
        r"""Adds the visual vocabulary to a plain checkpoint of this family.

        The text rows and all other weights stay as they are; new rows are drawn like the text rows
        (`extension_seed.extended`).

        Args:
            folder (`str` or `os.PathLike`): What the `from_pretrained` of the plain class takes.
            codebook_size, num_query_tokens, code_dim (`int`): Of the visual tokenizer.
            visual_embedding (`str`, *optional*, defaults to `"learned"`): `"learned"` or `"projected"`.
            codebook (`torch.Tensor` of shape `(codebook_size, code_dim)`, *optional*): The visual tokenizer's
                `quantizer.embedding.weight`; needed by `"projected"`.
            text_vocab_size (`int`, *optional*): Entries of the text tokenizer. Default: those of the tokenizer in
                `folder`, from which bos is taken, too. Rows of the embedding matrix do not count: OPT and Qwen3 have
                unused ones.
            kwargs: Passed to the `from_pretrained` of the plain class, `dtype` for instance.

        Raises:
            ValueError: The folder holds another type of model, or lacks weights, or has an adapter that is not merged;
                no tokenizer, or one that already has visual tokens, gaps in its ids or more entries than the matrix
                has rows; a bos, eos or padding token beyond the text tokens; a codebook that is missing or has another
                shape.
            TypeError: Something else than a folder or a Hub id.
        """
        if not isinstance(folder, (str, os.PathLike)):
            raise TypeError(
                f"from_language_model takes a folder or a Hub id, got {type(folder).__name__}. Save a model first: "
                "model.save_pretrained(folder)."
            )
        if visual_embedding == "projected":
            codebook_of_shape(codebook, codebook_size, code_dim)
        wanted, found = cls.family.plain.config_class.model_type, model_type_of(folder, **kwargs)
        if found != wanted:
            takers = plain_language_models()
            hint = f"Known: {', '.join(takers)}."
            if found is None:
                hint += " An adapter of peft is no model: merge it into its own, and give the folder of that."
            elif found in takers:
                hint = f"Use {takers[found].__name__}.from_language_model."
            raise ValueError(f"{folder} holds a model of type {found!r}, {cls.__name__} extends {wanted!r}. {hint}")
        source = load_whole(cls.family.plain, folder, **kwargs)
        if text_vocab_size is None:
            tokenizer = text_tokenizer_of(folder, source.get_input_embeddings().num_embeddings, **kwargs)
            text_vocab_size = len(tokenizer)
            use_tokens_of(source, tokenizer)
        return extended(
            cls,
            source,
            text_vocab_size=text_vocab_size,
            codebook_size=codebook_size,
            num_query_tokens=num_query_tokens,
            code_dim=code_dim,
            visual_embedding=visual_embedding,
            codebook=codebook,
        )

    def to_plain(self) -> PreTrainedModel:
        """The same model as one of the plain class, for `transformers serve`, vLLM and other programs that know it.

        Its logits are those of this model for every sequence of ids. A projected visual embedding is written out into
        the input rows; the output rows are then a matrix of their own. Save it together with the text tokenizer:

        ```python
        model.to_plain().save_pretrained("plain")
        processor.plain_tokenizer().save_pretrained("plain")
        ```

        In that folder codes are ordinary tokens, `<img_00000>` and on, and text that spells them *is* them. Raises
        `ValueError` if there are adapters: merge them first.
        """
        return plain(self, self.family.plain)

    @property
    def has_own_forward(self) -> bool:
        """Whether `forward` is the one of this class: a subclass may have its own."""
        return type(self).forward is VisualVocabularyMixin.forward

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
        code_guidance: torch.Tensor | None = None,
        cache=None,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """As the plain model's `forward`; ids of visual tokens are embedded as `config.visual_embedding` says.

        With `code_guidance`, of shape `(batch / 2,)`, the second half of the batch is the first without its prompts:
        the logits are those of one guided step (`guidance_seed.guided_logits`). `generate` passes it.
        """
        outputs = super().forward(
            input_ids=input_ids,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            labels=labels,
            use_cache=use_cache,
            position_ids=position_ids,
            logits_to_keep=places_to_keep(logits_to_keep, input_ids if inputs_embeds is None else inputs_embeds),
            **given_cache(past_key_values, cache),
            **kwargs,
        )
        if code_guidance is not None:
            outputs.logits = guided_logits(outputs.logits, code_guidance)
        return outputs

    def prepare_inputs_for_generation(
        self,
        input_ids,
        *,
        inputs_embeds=None,
        code_guidance_scale=None,
        attention_mask=None,
        position_ids=None,
        **kwargs,
    ):
        """As in [`GenerationMixin`], which looks for `inputs_embeds` here. With a `code_guidance_scale`, of two rows
        for each sample."""
        guidance, cache = {}, kwargs.get(CACHE)
        if code_guidance_scale is not None:
            rows = guided_rows(self.config, code_guidance_scale, input_ids, attention_mask, position_ids)
            input_ids, attention_mask, position_ids = rows.input_ids, rows.attention_mask, rows.position_ids
            guidance = {"code_guidance": rows.scale}
            if cache is not None:
                cache.has_second_rows = True
        settings = {"attention_mask": attention_mask, "position_ids": position_ids, **kwargs}
        return super().prepare_inputs_for_generation(input_ids, inputs_embeds=inputs_embeds, **settings) | guidance

    def _reorder_cache(self, past_key_values, beam_idx: torch.Tensor):
        """Beam search moves rows of the cache; under guidance the second rows move along."""
        if getattr(past_key_values, "has_second_rows", False):
            beam_idx = torch.cat([beam_idx, beam_idx + len(beam_idx)])
        past_key_values.reorder_cache(beam_idx)
        return past_key_values

    def generate(
        self,
        inputs: torch.Tensor | None = None,
        generation_config=None,
        logits_processor=None,
        *,
        generation_mode: str | None = None,
        code_guidance_scale: float | None = None,
        **kwargs,
    ):
        r"""As [`GenerationMixin.generate`]. With a `generation_mode`, every image span is valid by construction.

        Args:
            inputs (`torch.LongTensor` of shape `(batch, length)`): The prompt, padded on the left; also `input_ids`.
            generation_mode (`str`, *optional*): `"text"`: text alone. `"image"`: one image span, then the end.
                `"interleaved"`: text and image spans in any order. `None`: no constraint, as any language model.
            code_guidance_scale (`float`, *optional*): In modes `"image"` and `"interleaved"`: how far codes move away
                from those that the model would write without the prompt, after bos and `<img>` alone, anew in every
                image span. Text is not guided. Each sample then has two rows. 1 and `None`: no guidance.
            generation_config, logits_processor: As in [`GenerationMixin.generate`]. Your own processors run before
                the constraint, so they cannot break a span; those with `runs_behind_constraint = True` behind it.
            kwargs: As in [`GenerationMixin.generate`]. Without `max_new_tokens` or `max_length`, here or in the
                generation config, `"image"` generates a span and the end of the sequence, `"text"` up to 64 tokens and
                `"interleaved"` up to 256. Generation stops, with a warning, at the last position of the model.
                With `cache_implementation="static"` a GPU captures the step of mode `"image"` as a CUDA graph.
                `inputs_embeds` alone count as a prompt that ends outside an image span; with `input_ids` beside them,
                the ids say where it ends. `stop_strings` and `max_time` end a row after text alone, so that a span is
                never cut; `stopping_criteria` of your own may cut one.

        Returns:
            What [`GenerationMixin.generate`] returns: by default ids `(batch, length + new)`, the prompt included.
            Under guidance without `past_key_values`, which have two rows for each sample.

        Raises:
            ValueError: An unknown mode; no room for an image span; a prompt that ends inside a span in mode `"text"`;
                guidance in mode `"text"` or none, or with an option that it cannot go with; a paged cache, for which
                transformers drops all constraints; guidance, embeddings or a static cache with virtual tokens of peft.
        """
        kwargs |= given_cache(kwargs.pop("past_key_values", None), kwargs.pop("cache", None))
        scale = 1.0 if code_guidance_scale is None else float(code_guidance_scale)
        if scale != 1:
            check_code_guidance(scale, generation_mode)
        if self.training and any(getattr(each, "gradient_checkpointing", False) for each in self.modules()):
            kwargs["use_cache"] = False  # such layers keep nothing
        settings = generation_config or self.generation_config
        check_virtual_tokens(self, settings, {**kwargs, "code_guidance_scale": None if scale == 1 else scale})
        if generation_mode is None:
            return super().generate(inputs, generation_config, logits_processor, **kwargs)
        if generation_mode not in GENERATION_MODES:
            raise ValueError(f"generation_mode must be one of {GENERATION_MODES}, got {generation_mode!r}.")
        prompt, embeds = kwargs.get("input_ids") if inputs is None else inputs, kwargs.get("inputs_embeds")
        if prompt is None and embeds is not None:
            prompt = torch.empty(len(embeds), 0, dtype=torch.long, device=embeds.device)
        elif prompt is None or prompt.ndim != 2 or prompt.shape[1] == 0:
            given = None if prompt is None else tuple(prompt.shape)
            raise ValueError(f"generation_mode needs a prompt as input_ids (batch, length), got {given}.")
        # As in transformers: the call's arguments, then the given generation config, then the model's own.
        levels = (kwargs, settings.to_dict(), self.generation_config.to_dict())
        in_force = {name: value for level in levels[::-1] for name, value in level.items() if value is not None}
        eos_token_id = in_force.get("eos_token_id", self.config.eos_token_id)
        start = prompt.shape[1] if embeds is None else embeds.shape[1]
        length = generated_length(self.config, generation_mode, prompt, start, levels)
        if in_force.get("cache_implementation") == "paged":
            raise ValueError(
                "generation_mode does not go with cache_implementation='paged', which has no constraints."
            )
        if scale != 1:
            check_guided_options(self.config, length, in_force)
            kwargs["code_guidance_scale"] = scale
        kwargs.pop("max_length", None)
        kwargs["max_new_tokens"] = length - start
        assert self.config.vocab_size is not None  # the configuration sets it
        constraint = VisualSpanLogitsProcessor(
            self.config,
            generation_mode,
            prompt_length=prompt.shape[1],
            max_length=length - start + prompt.shape[1],
            eos_token_id=eos_token_id,
        ).prepare(self.config.vocab_size, prompt.device)
        replaced = {} if generation_mode == "text" else stop_after_text(self.config, in_force, kwargs)
        if generation_mode == "image":
            missing = missing_span_tokens(prompt, self.config)
            if not logits_processor and writes_directly(self, in_force, missing):  # yours may count its calls
                static = in_force.get("cache_implementation") == "static"
                compiling = kwargs.get("compile_config", settings.compile_config)
                kwargs["custom_generate"] = SpanWriter(constraint, int(missing[0]), static, compiling)
                kwargs |= {"cache_implementation": None, "compile_config": None}
        if generation_config is not None:
            # Transformers takes a generation config or single settings, not both.
            generation_config = copy.deepcopy(generation_config)
            kwargs = generation_config.update(**kwargs, **replaced)
            generation_config.max_length = None
        # None of a generation config is filled in with what the model's own says.
        filled = self.generation_config.to_diff_dict() if generation_config is not None else replaced
        kwargs |= {name: None for name in replaced if name in filled}
        # Those that choose a token come behind the constraint, and see which ones are allowed.
        ordered = [*(logits_processor or []), constraint]
        ordered.sort(key=lambda each: getattr(each, "runs_behind_constraint", False))
        processors = LogitsProcessorList(ordered)
        output = super().generate(inputs, generation_config, processors, **kwargs)
        if scale != 1 and not isinstance(output, torch.Tensor):
            setattr(output, CACHE, None)
        return output


def plain_language_models() -> dict[str, type[VisualVocabularyMixin]]:
    """The classes that extend plain models, by the `model_type` of these."""
    return {cls.family.plain.config_class.model_type: cls for cls in LANGUAGE_MODELS.values()}


def family_of(config) -> Family:
    """The family of a language model, with or without a visual vocabulary.

    Args:
        config: Its configuration.

    Raises:
        ValueError: There is no such family.
    """
    known = {**plain_language_models(), **LANGUAGE_MODELS}
    if config.model_type not in known:
        raise ValueError(f"No family has the model_type {config.model_type!r}. Known: {', '.join(known)}.")
    return known[config.model_type].family


@language_model
class SeedForCausalLM(VisualVocabularyMixin, OPTForCausalLM):
    """SEED-OPT: [`OPTForCausalLM`] with a visual vocabulary. See [`VisualVocabularyMixin`]."""

    config_class = SeedTextConfig
    family = Family(
        plain=OPTForCausalLM,
        linear_layers=("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"),
        norms=("self_attn_layer_norm", "final_layer_norm"),
        rotary=False,
        headless=SeedTextModel,
        plain_logits=True,
    )
    to_opt = VisualVocabularyMixin.to_plain  # its name in version 0.1


_GATED_MLP = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_RMS_NORMS = ("input_layernorm", "post_attention_layernorm", "norm")


@language_model
class SeedLlamaForCausalLM(VisualVocabularyMixin, LlamaForCausalLM):
    """SEED-LLaMA, and any other Llama, such as SmolLM2, with a visual vocabulary. See [`VisualVocabularyMixin`]."""

    config_class = SeedLlamaConfig
    family = Family(
        plain=LlamaForCausalLM,
        linear_layers=_GATED_MLP,
        norms=_RMS_NORMS,
        headless=SeedLlamaModel,
        plain_logits=True,
    )


@language_model
class SeedQwen3ForCausalLM(VisualVocabularyMixin, Qwen3ForCausalLM):
    """[`Qwen3ForCausalLM`] with a visual vocabulary. See [`VisualVocabularyMixin`]."""

    config_class = SeedQwen3Config
    family = Family(
        plain=Qwen3ForCausalLM,
        linear_layers=_GATED_MLP,
        norms=(*_RMS_NORMS, "q_norm", "k_norm"),
        headless=SeedQwen3Model,
        plain_logits=True,
    )


__all__ = [
    "Family",
    "LANGUAGE_MODELS",
    "SeedForCausalLM",
    "SeedLlamaForCausalLM",
    "SeedQwen3ForCausalLM",
    "VisualVocabularyMixin",
    "family_of",
    "language_model",
    "plain_language_models",
]
