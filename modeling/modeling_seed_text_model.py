"""The SEED language models without their output layer: hidden states of text and images in one sequence."""

import torch
from torch import nn
from transformers import LlamaModel, OPTModel, Qwen3Model
from transformers import initialization as init
from transformers.modeling_utils import PreTrainedModel

from .adapters_seed import ChoosesAdapted, let_models_choose
from .cache_name_seed import given_cache
from .configuration_seed import SeedLlamaConfig, SeedQwen3Config, SeedTextConfig, VisualVocabularyConfig
from .publishing_seed import PublishedModel
from .visual_vocabulary_seed import check_rows
from .whole_weights_seed import WholeWeights


let_models_choose()


class VisualEmbedding(ChoosesAdapted, PublishedModel, WholeWeights, PreTrainedModel):
    """How visual tokens enter a language model, with or without its output layer. A mix-in.

    Args:
        config ([`VisualVocabularyConfig`]): `visual_embedding` says it.
    """

    config: VisualVocabularyConfig

    def __init__(self, config: VisualVocabularyConfig):
        super().__init__(config)
        if config.visual_embedding == "projected":
            # Drawn here: the plain class has initialised its weights by now, and this module counts as done.
            codebook = torch.empty(config.codebook_size, config.code_dim).normal_(std=self._std())
            self.register_buffer("visual_codebook", codebook)
            self.visual_projection = nn.Linear(config.code_dim, self.get_input_embeddings().embedding_dim)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if module is self and hasattr(module, "visual_codebook"):
            init.normal_(module.visual_codebook, std=self._std())

    def _std(self) -> float:
        """The standard deviation of new weights; OPT's field has a name of its own."""
        return self.config.init_std if hasattr(self.config, "init_std") else self.config.initializer_range

    def resize_token_embeddings(self, new_num_tokens: int | None = None, *args, **kwargs) -> nn.Module:
        """As [`PreTrainedModel.resize_token_embeddings`]. Raises `ValueError` if visual tokens would lose rows."""
        check_rows(self.config, new_num_tokens)
        return super().resize_token_embeddings(new_num_tokens, *args, **kwargs)

    def embed_ids(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Input embeddings `(batch, length, width)` of ids; visual tokens as `visual_embedding` says."""
        embeds = self.get_input_embeddings()(input_ids)
        if self.config.visual_embedding == "learned":
            return embeds
        assert self.config.visual_token_offset is not None  # the configuration sets it
        codes = input_ids - self.config.visual_token_offset
        visual = (codes >= 0) & (codes < self.config.codebook_size)
        vectors = self.visual_codebook[codes.clamp(0, self.config.codebook_size - 1)]
        projected = self.visual_projection(vectors.to(self.visual_projection.weight.dtype))
        return torch.where(visual.unsqueeze(-1), projected.to(embeds.dtype), embeds)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        past_key_values=None,
        inputs_embeds: torch.Tensor | None = None,
        *,
        cache=None,
        **kwargs,
    ):
        """As the plain model's `forward`; ids of visual tokens are embedded as `config.visual_embedding` says.

        Args:
            input_ids, attention_mask: `(batch, length)`. Images are visual tokens: codes plus `visual_token_offset`.
            past_key_values, cache: Keys and values of earlier tokens, by the library's old or new name.
            inputs_embeds: `(batch, length, width)`, instead of ids.
            kwargs: Of the plain model.

        Raises:
            TypeError: Pixel values or codes, which a plain model would ignore.
        """
        if given := {"pixel_values", "codes"} & kwargs.keys():
            raise TypeError(
                f"A language model takes no {' and '.join(sorted(given))}. SeedForConditionalGeneration does; or "
                "write the codes of images into the ids, with visual_token_offset added."
            )
        if self.config.visual_embedding == "projected" and input_ids is not None and inputs_embeds is None:
            inputs_embeds, input_ids = self.embed_ids(input_ids), None
        return super().forward(
            input_ids=input_ids,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            **given_cache(past_key_values, cache),
            **kwargs,
        )


class SeedTextModel(VisualEmbedding, OPTModel):
    """[`OPTModel`] with a visual vocabulary: [`SeedForCausalLM`] without its output layer, from the same folders."""

    config_class = SeedTextConfig
    _auto_class = "AutoModel"
    _keys_to_ignore_on_load_unexpected = [r"^lm_head\."]


class SeedLlamaModel(VisualEmbedding, LlamaModel):
    """[`LlamaModel`] with a visual vocabulary: [`SeedLlamaForCausalLM`] without its output layer."""

    config_class = SeedLlamaConfig
    _auto_class = "AutoModel"
    _keys_to_ignore_on_load_unexpected = [r"^lm_head\."]


class SeedQwen3Model(VisualEmbedding, Qwen3Model):
    """[`Qwen3Model`] with a visual vocabulary: [`SeedQwen3ForCausalLM`] without its output layer."""

    config_class = SeedQwen3Config
    _auto_class = "AutoModel"
    _keys_to_ignore_on_load_unexpected = [r"^lm_head\."]


__all__ = ["SeedLlamaModel", "SeedQwen3Model", "SeedTextModel", "VisualEmbedding"]
