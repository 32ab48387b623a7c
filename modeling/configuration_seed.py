"""Configurations of the SEED models.

`SeedTokenizerConfig` describes the visual tokenizer; `SeedTextConfig`, `SeedLlamaConfig` and `SeedQwen3Config` a
language model whose vocabulary also holds the visual codes; `SeedConfig` both. Most debatable choices of the paper or
of the authors' code are fields; the default is the original, but for `teacher_dropout`.
"""

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, Blip2QFormerConfig, Blip2VisionConfig, LlamaConfig, OPTConfig, Qwen3Config
from transformers.configuration_utils import PreTrainedConfig

from .attention_by_part_seed import attention_kept
from .checked_fields_seed import check_sizes, check_types, forget_code_memory
from .language_model_fields_seed import OfLanguageModel
from .model_types_seed import OwnModelType
from .prompts_seed import check_question_prompt, find_format
from .publishing_seed import MoreAutoClasses, PrivateByDefault, PublishedConfig
from .visual_vocabulary_seed import fill_layout, placeholder_hidden, visual_vocabulary  # noqa: F401 - version 0.1's


# Sizes of the published model (BLIP-2's EVA ViT-g and bert-base) that differ from transformers' defaults.
_VISION_DEFAULTS = {"initializer_range": 0.02}
_QFORMER_DEFAULTS = {"vocab_size": 30523, "cross_attention_frequency": 2, "encoder_hidden_size": 1408}


class SeedTokenizerConfig(OwnModelType, PublishedConfig):
    r"""Configuration of [`SeedTokenizer`]. The defaults give SEED-1 at full size (arXiv 2307.08041).

    Args:
        vision_config (`Blip2VisionConfig` or `dict`, *optional*): The frozen image encoder; defaults to ViT-g/14.
        qformer_config (`Blip2QFormerConfig` or `dict`, *optional*): The Causal Q-Former; defaults to bert-base with
            cross-attention in every second layer.
        reverse_qformer_config (`Blip2QFormerConfig` or `dict`, *optional*): The Reverse Q-Former; defaults to the
            Q-Former's sizes with four layers, attending to the decoded codes.
        num_query_tokens (`int`, *optional*, defaults to 32): Causal queries, and so visual codes, per image.
        codebook_size (`int`, *optional*, defaults to 8192): Number of visual codes.
        code_dim (`int`, *optional*, defaults to 32): Width of one codebook vector.
        projection_dim (`int`, *optional*, defaults to 256): Width of the shared image-text space of stage I.
        causal_queries (`bool`, *optional*, defaults to `True`): Whether query i sees only queries 0..i. `False` gives
            the bilateral variant of the SEED-LLaMA paper's ablation.
        text_tower (`bool`, *optional*, defaults to `False`): Whether the text path of the Q-Former and the projections
            of stage I are part of the model. The authors' inference class lacks them.
        embedding_decoder (`bool`, *optional*, defaults to `True`): Whether the decoder that reconstructs the causal
            embeddings is part of the model. Retrieval on codes needs it.
        decoder_config (`Blip2VisionConfig` or `dict`, *optional*): The ViT blocks of each code decoder; defaults to
            four blocks of the Q-Former's width, LayerNorm epsilon 1e-6. Image and patch size are not used.
        vision_norm_eps (`float`, *optional*, defaults to 1e-5): Epsilon of the LayerNorm after the image encoder
            (`ln_vision`). The encoder's own blocks have another one.
        generation_target (`str`, *optional*, defaults to `"text"`): `"text"`: `num_generation_tokens` embeddings in
            the space of the diffusion model's text encoder (SEED-1). `"image"`: one image embedding (SEED-2, unCLIP).
        generation_head (`str`, *optional*, defaults to `"qformer"`): `"qformer"`: Reverse Q-Former. `"mlp"`: the
            per-token bottleneck of SEED-2's inference class; only with the image target.
        num_generation_tokens (`int`, *optional*, defaults to 77 for text and 1 for image): Generation embeddings.
        generation_dim (`int`, *optional*, defaults to 768 for text and 1024 for image): Their width.
        mlp_head_dims (`tuple[int]`, *optional*, defaults to `(256, 128, 32)`): Widths of the `"mlp"` head.
        vq_beta (`float`, *optional*, defaults to 0.25): Commitment weight of the VQ loss.
        vq_legacy_beta (`bool`, *optional*, defaults to `True`): `True`: `vq_beta` weighs the codebook side, as in the
            authors' code (and taming-transformers). `False`: the encoder side, as in the VQ-VAE paper.
        vq_loss_weight, reconstruction_loss_weight, generation_loss_weight (`float`, *optional*): 5, 2 and 0.5 by
            default: weights of the three losses of stage II (`SEED_Tokenizer/` of the authors' release).
        feature_loss_weight (`float`, *optional*, defaults to 0): Weight of a loss that is not in the paper: 1 - cosine
            between the image features (stage I) of the reconstructed and of the causal embeddings. It helps where the
            causal embeddings of all images are similar, because their cosine alone hardly separates images.
        feature_contrast_loss_weight (`float`, *optional*, defaults to 0): Weight of another such loss: the
            cross-entropy of finding the image features of the causal embeddings, among those of the batch, by those of
            the reconstructed ones, with stage I's temperature. It needs no captions.
        contrastive_loss_weight (`float`, *optional*, defaults to 0): Weight of stage I's loss in stage II, for a
            Q-Former that is trained, too (`QuantizationConfig.train_qformer`). Rows then need captions; with a frozen
            Q-Former there is no such loss. Not in the paper.
        teacher_dropout (`bool`, *optional*, defaults to `False`): Whether the frozen Q-Former keeps its dropout in
            stage II. The authors' code keeps it, because it puts only the ViT into eval mode; the paper does not
            mention it.
        label_smoothing (`float`, *optional*, defaults to 0.1): Label smoothing of the contrastive loss.
        temperature_init (`float`, *optional*, defaults to 0.07): Initial value of the learned temperature, which
            divides the cosines.
        initializer_range (`float`, *optional*, defaults to 0.02): Standard deviation of new weights.
    """

    model_type = "seed_tokenizer"
    _auto_class = "AutoConfig"
    base_config_key = "tokenizer_config"
    sub_configs = {
        "vision_config": Blip2VisionConfig,
        "qformer_config": Blip2QFormerConfig,
        "reverse_qformer_config": Blip2QFormerConfig,
        "decoder_config": Blip2VisionConfig,
    }

    def __init__(
        self,
        vision_config=None,
        qformer_config=None,
        reverse_qformer_config=None,
        decoder_config=None,
        num_query_tokens: int = 32,
        codebook_size: int = 8192,
        code_dim: int = 32,
        projection_dim: int = 256,
        causal_queries: bool = True,
        text_tower: bool = False,
        embedding_decoder: bool = True,
        vision_norm_eps: float = 1e-5,
        generation_target: str = "text",
        generation_head: str = "qformer",
        num_generation_tokens: int | None = None,
        generation_dim: int | None = None,
        mlp_head_dims=(256, 128, 32),
        vq_beta: float = 0.25,
        vq_legacy_beta: bool = True,
        vq_loss_weight: float = 5.0,
        reconstruction_loss_weight: float = 2.0,
        generation_loss_weight: float = 0.5,
        feature_loss_weight: float = 0.0,
        feature_contrast_loss_weight: float = 0.0,
        contrastive_loss_weight: float = 0.0,
        teacher_dropout: bool = False,
        label_smoothing: float = 0.1,
        temperature_init: float = 0.07,
        initializer_range: float = 0.02,
        **kwargs,
    ):
        self.num_query_tokens = num_query_tokens
        self.codebook_size = codebook_size
        self.code_dim = code_dim
        self.projection_dim = projection_dim
        self.causal_queries = causal_queries
        self.text_tower = text_tower
        self.embedding_decoder = embedding_decoder
        self.vision_norm_eps = vision_norm_eps
        self.generation_target = generation_target
        self.generation_head = generation_head
        image_target = generation_target == "image"
        self.num_generation_tokens = num_generation_tokens or (1 if image_target else 77)
        self.generation_dim = generation_dim or (1024 if image_target else 768)
        self.mlp_head_dims = mlp_head_dims
        self.vq_beta = vq_beta
        self.vq_legacy_beta = vq_legacy_beta
        self.vq_loss_weight = vq_loss_weight
        self.reconstruction_loss_weight = reconstruction_loss_weight
        self.generation_loss_weight = generation_loss_weight
        self.feature_loss_weight = feature_loss_weight
        self.feature_contrast_loss_weight = feature_contrast_loss_weight
        self.contrastive_loss_weight = contrastive_loss_weight
        self.teacher_dropout = teacher_dropout
        self.label_smoothing = label_smoothing
        self.temperature_init = temperature_init
        self.initializer_range = initializer_range
        check_types(self)
        forget_code_memory(kwargs)
        self._build_sub_configs(vision_config, qformer_config, reverse_qformer_config, decoder_config)
        self._check()
        parts = [getattr(self, name) for name in self.sub_configs]
        with attention_kept(*parts if kwargs.get("attn_implementation") is None else ()):
            super().__init__(**kwargs)

    def _build_sub_configs(self, vision_config, qformer_config, reverse_qformer_config, decoder_config):
        self.vision_config = _sub_config(Blip2VisionConfig, vision_config, _VISION_DEFAULTS)
        width = self.vision_config.hidden_size
        self.qformer_config = _sub_config(
            Blip2QFormerConfig, qformer_config, {**_QFORMER_DEFAULTS, "encoder_hidden_size": width}
        )
        self.qformer_config.use_qformer_text_input = self.text_tower
        hidden = self.qformer_config.hidden_size
        self.reverse_qformer_config = _sub_config(
            Blip2QFormerConfig,
            reverse_qformer_config,
            {
                "hidden_size": hidden,
                "encoder_hidden_size": hidden,
                "num_attention_heads": self.qformer_config.num_attention_heads,
                "intermediate_size": self.qformer_config.intermediate_size,
                "num_hidden_layers": 4,
                "use_qformer_text_input": False,
            },
        )
        self.decoder_config = _sub_config(
            Blip2VisionConfig,
            decoder_config,
            {
                "hidden_size": hidden,
                "intermediate_size": 4 * hidden,
                "num_hidden_layers": 4,
                "num_attention_heads": self.qformer_config.num_attention_heads,
                "layer_norm_eps": 1e-6,
                "initializer_range": self.initializer_range,
            },
        )

    def _check(self):
        if self.generation_target not in ("text", "image"):
            raise ValueError(f"generation_target must be 'text' or 'image', got {self.generation_target!r}.")
        if self.generation_head not in ("qformer", "mlp"):
            raise ValueError(f"generation_head must be 'qformer' or 'mlp', got {self.generation_head!r}.")
        if self.generation_head == "mlp" and self.generation_target != "image":
            raise ValueError("generation_head='mlp' gives one image embedding: it needs generation_target='image'.")
        if self.generation_target == "image" and self.num_generation_tokens != 1:
            raise ValueError(
                "generation_target='image' is one embedding: num_generation_tokens must be 1, "
                f"got {self.num_generation_tokens}."
            )
        for name in ("feature_loss_weight", "feature_contrast_loss_weight"):
            if getattr(self, name) and not (self.text_tower and self.embedding_decoder):
                raise ValueError(f"{name} needs text_tower=True and embedding_decoder=True.")
        if self.contrastive_loss_weight and not self.text_tower:
            raise ValueError("contrastive_loss_weight needs text_tower=True.")
        check_sizes(self, "num_query_tokens", "codebook_size", "code_dim", "projection_dim")
        check_sizes(self, "num_generation_tokens", "generation_dim")
        for name in self.sub_configs:
            check_sizes(getattr(self, name), *_LAYER_SIZES, part=f"{name}.")
        check_sizes(self.vision_config, "image_size", "patch_size", part="vision_config.")
        widths = self.mlp_head_dims
        if not isinstance(widths, (list, tuple)) or not all(isinstance(width, int) and width > 0 for width in widths):
            raise ValueError(f"mlp_head_dims must be widths of at least 1, got {widths!r}.")
        self.mlp_head_dims = tuple(widths)


_LAYER_SIZES = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers")


def _sub_config(cls, value, defaults):
    if isinstance(value, cls):
        return value
    return cls(**{**defaults, **_fields(cls, value)})


def _fields(cls, value) -> dict:
    if not isinstance(value, (dict, type(None))):
        raise TypeError(f"A {cls.__name__} is made of a dictionary of its fields, got {value!r}.")
    return value or {}


class VisualVocabularyConfig(MoreAutoClasses, OwnModelType, PrivateByDefault, PreTrainedConfig):
    r"""What the configuration of a language model gains with a visual vocabulary. A mix-in of the classes below.

    By default the visual tokens follow the text tokens, with V = `text_vocab_size` and K = `codebook_size`:

    | ids | token |
    | --- | --- |
    | 0 .. V-1 | text, as the text tokenizer numbers it |
    | V | `<img>`, begins an image span |
    | V+1 | `</img>`, ends it |
    | V+2 .. V+1+K | the visual codes 0 .. K-1, so `visual_token_offset` is V+2 |
    | V+2+K | `<image>`, stands for a code that is yet to be filled in; in prompts only, never generated |
    | .. `vocab_size`-1 | unused rows that pad the matrix to a multiple of 64 |

    A model that has its visual tokens elsewhere gives all four ids, in any order; SEED-LLaMA's codes come before the
    marks, and its placeholder has no row. The saved file stores every id, so that other programs can read them; all
    code that needs an id reads the stored one ([`VisualVocabulary`]).

    Args:
        text_vocab_size (`int`, *optional*, defaults to 50265): V, the number of entries of the text tokenizer. The
            embedding matrix of a plain model may have more rows, which are unused.
        codebook_size (`int`, *optional*, defaults to 8192): K, the number of visual codes.
        num_query_tokens (`int`, *optional*, defaults to 32): Codes in an image span.
        code_dim (`int`, *optional*, defaults to 32): Width of a codebook vector; used by `"projected"` alone.
        visual_embedding (`str`, *optional*, defaults to `"learned"`): How a visual token enters the model.
            `"learned"`: as a row of the embedding matrix, like any token. `"projected"`: as its codebook vector
            through one linear layer (SEED paper, 2.2; issue 3 of the authors' repository confirms it).
        prompt_format (`str`, *optional*, defaults to `"seed"`): How its sequences are written: `"seed"` (SEED-OPT),
            `"vicuna"` and `"llama2"` (SEED-LLaMA 8B and 14B after instruction tuning) or `"plain"` (before it).
        boi_token_id, eoi_token_id, visual_token_offset, image_token_id (`int`, *optional*): The ids of the table.
            Either none of them, or all.
        vocab_size (`int`, *optional*): Rows of the embedding matrix. Default: as in the table; for a layout of your
            own, what it needs.
        kwargs: As in the configuration of the plain model.

    Raises:
        ValueError: Some ids are given and not those of the table, an id has two meanings, or `vocab_size` has no room
            for the visual tokens.
    """

    text_vocab_size: int = 50265
    vocab_size: int | None = None
    codebook_size: int = 8192
    num_query_tokens: int = 32
    code_dim: int = 32
    visual_embedding: str = "learned"
    prompt_format: str = "seed"
    visual_token_offset: int | None = None
    boi_token_id: int | None = None
    eoi_token_id: int | None = None
    image_token_id: int | None = None

    def __post_init__(self, **kwargs):
        check_sizes(self, "text_vocab_size", "codebook_size", "num_query_tokens", "code_dim")
        # OPT's inner width has a name of its own.
        sizes = (*_LAYER_SIZES, "ffn_dim", "max_position_embeddings")
        check_sizes(self, *(name for name in sizes if hasattr(self, name)))
        if self.visual_embedding not in ("learned", "projected"):
            raise ValueError(f"visual_embedding must be 'learned' or 'projected', got {self.visual_embedding!r}.")
        find_format(self.prompt_format)  # raises if there is none
        fill_layout(self)
        super().__post_init__(**kwargs)

    def validate_token_ids(self):
        """As transformers does, which would warn of a placeholder beyond the rows."""
        with placeholder_hidden(self):
            super().validate_token_ids()


@strict
class SeedTextConfig(VisualVocabularyConfig, OPTConfig):
    """Configuration of [`SeedForCausalLM`]: [`OPTConfig`] with the fields of [`VisualVocabularyConfig`]."""

    model_type = "seed_text"
    more_auto_classes = {"AutoModel": ("AutoModelForCausalLM", "modeling_seed_text_model.SeedTextModel")}
    _auto_class = "AutoConfig"
    base_config_key = "text_config"


@strict
class SeedLlamaConfig(VisualVocabularyConfig, LlamaConfig):
    """Configuration of [`SeedLlamaForCausalLM`]: [`LlamaConfig`] with the fields of [`VisualVocabularyConfig`]."""

    model_type = "seed_llama"
    more_auto_classes = {"AutoModel": ("AutoModelForCausalLM", "modeling_seed_text_model.SeedLlamaModel")}
    _auto_class = "AutoConfig"
    base_config_key = "text_config"


@strict
class SeedQwen3Config(VisualVocabularyConfig, Qwen3Config):
    """Configuration of [`SeedQwen3ForCausalLM`]: [`Qwen3Config`] with the fields of [`VisualVocabularyConfig`]."""

    model_type = "seed_qwen3"
    more_auto_classes = {"AutoModel": ("AutoModelForCausalLM", "modeling_seed_text_model.SeedQwen3Model")}
    _auto_class = "AutoConfig"
    base_config_key = "text_config"


# The language models that a `SeedConfig` may hold, by `model_type`.
TEXT_CONFIGS = {config.model_type: config for config in (SeedTextConfig, SeedLlamaConfig, SeedQwen3Config)}


class SeedConfig(MoreAutoClasses, OwnModelType, PublishedConfig):
    r"""Configuration of [`SeedForConditionalGeneration`]: a visual tokenizer and a language model.

    Args:
        tokenizer_config (`SeedTokenizerConfig` or `dict`, *optional*): The visual tokenizer.
        text_config (`SeedTextConfig`, `SeedLlamaConfig`, `SeedQwen3Config` or `dict`, *optional*): The language
            model. The `model_type` of a `dict` names its class, without one it is an OPT. Default: OPT's defaults with
            the codebook of the tokenizer.
        caption_prompt (`str`, *optional*): Goes with an image to be captioned. Default: that of the language model's
            `prompt_format`; `"a photo of"` for SEED-OPT (paper 2.2).
        image_prompt (`str`, *optional*): Goes with the description of an image to be drawn; `"Generate an image"`.
        question_prompt (`str`, *optional*): Goes with an image in question answering; `{}` stands for the question.
            `"Question: {} Short answer."`.

    `vocab_size`, `bos_token_id`, `eos_token_id`, `pad_token_id`, `boi_token_id`, `eoi_token_id`, `image_token_id` and
    `tie_word_embeddings` are those of `text_config`: read there, set there, and all but the last saved there alone.

    Raises:
        ValueError: The two parts disagree on the codebook or on the number of codes per image, or the language model
            is of an unknown type.
    """

    model_type = "seed"
    _auto_class = "AutoConfig"
    sub_configs = {"tokenizer_config": SeedTokenizerConfig, "text_config": AutoConfig}
    # What the pipelines "any-to-any" and "image-text-to-text" open a model with.
    more_auto_classes = dict.fromkeys(("AutoModelForMultimodalLM", "AutoModelForImageTextToText"), ("AutoModel", None))
    vocab_size, image_token_id = OfLanguageModel(), OfLanguageModel()
    boi_token_id, eoi_token_id = OfLanguageModel(), OfLanguageModel()
    bos_token_id, eos_token_id, pad_token_id = OfLanguageModel(), OfLanguageModel(), OfLanguageModel()
    tie_word_embeddings = OfLanguageModel()

    def __init__(
        self,
        tokenizer_config=None,
        text_config=None,
        caption_prompt: str | None = None,
        image_prompt: str | None = None,
        question_prompt: str | None = None,
        **kwargs,
    ):
        self.tokenizer_config = _sub_config(SeedTokenizerConfig, tokenizer_config, {})
        shared = {name: getattr(self.tokenizer_config, name) for name in _SHARED_SIZES}
        self.text_config = _text_config(text_config, shared)
        for name, value in shared.items():
            matters = name != "code_dim" or self.text_config.visual_embedding == "projected"
            if matters and getattr(self.text_config, name) != value:
                raise ValueError(
                    f"The visual tokenizer has {name}={value}, the language model {getattr(self.text_config, name)}. "
                    "Extend the language model for this tokenizer."
                )
        defaults = find_format(self.text_config.prompt_format)
        for name, prompt in (("caption_prompt", caption_prompt), ("image_prompt", image_prompt)):
            if not isinstance(prompt, str | None):
                raise TypeError(f"{name} must be a text, got {prompt!r}.")
        self.caption_prompt = defaults.caption_prompt if caption_prompt is None else caption_prompt
        self.image_prompt = defaults.image_prompt if image_prompt is None else image_prompt
        self.question_prompt = defaults.question_prompt if question_prompt is None else question_prompt
        check_question_prompt(self.question_prompt)
        fields = [name for name, field in vars(SeedConfig).items() if isinstance(field, OfLanguageModel)]
        of_text = {name: kwargs.pop(name, getattr(self.text_config, name)) for name in fields}
        parts = (self.tokenizer_config, self.text_config) if kwargs.get("attn_implementation") is None else ()
        with placeholder_hidden(self.text_config), attention_kept(*parts):
            super().__init__(**kwargs)
        for name, value in of_text.items():
            setattr(self, name, value)

    @property
    def vision_config(self) -> Blip2VisionConfig:
        """The image encoder's, where programs look for it. It belongs to `tokenizer_config`, and is saved there."""
        return self.tokenizer_config.vision_config

    @vision_config.setter
    def vision_config(self, value: Blip2VisionConfig):
        self.tokenizer_config.vision_config = value

    def to_dict(self) -> dict:
        """As [`PreTrainedConfig.to_dict`], with `tie_word_embeddings`, which peft reads and sets at the top."""
        return {**super().to_dict(), "tie_word_embeddings": self.tie_word_embeddings}

    def validate(self):
        """As transformers does, when it saves, without a warning of a placeholder beyond the rows."""
        with placeholder_hidden(self.text_config):
            super().validate()


_SHARED_SIZES = ("codebook_size", "num_query_tokens", "code_dim")


def _text_config(value, shared: dict):
    if isinstance(value, VisualVocabularyConfig):
        return value
    values = _fields(VisualVocabularyConfig, value)
    model_type = values.get("model_type", SeedTextConfig.model_type)
    if not isinstance(model_type, str) or model_type not in TEXT_CONFIGS:
        raise ValueError(f"text_config: model_type must be one of {', '.join(TEXT_CONFIGS)}; got {model_type!r}.")
    return TEXT_CONFIGS[model_type](**{**shared, **values})


__all__ = [
    "SeedConfig",
    "SeedLlamaConfig",
    "SeedQwen3Config",
    "SeedTextConfig",
    "SeedTokenizerConfig",
    "TEXT_CONFIGS",
    "VisualVocabularyConfig",
]
