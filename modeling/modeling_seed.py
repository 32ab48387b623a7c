"""Visual tokenizer and language model in one model, which captions and draws.

Codes stay integers on the device: a visual token is a code plus `visual_token_offset`.
Source: arXiv 2307.08041, sections 1.4 and 2.2.
"""

import torch
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.modeling_utils import PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
)

from .configuration_seed import SeedConfig
from .modeling_seed_text import LANGUAGE_MODELS, VisualVocabularyMixin
from .modeling_seed_tokenizer import SeedTokenizer
from .publishing_seed import PublishedModel
from .whole_weights_seed import WholeWeights


# Parameters of the tokenizer that no block has would be offloaded out of reach, so it stays in one piece.
_IN_ONE_PIECE = ("SeedTokenizer",)


class SeedForConditionalGeneration(PublishedModel, WholeWeights, PreTrainedModel, GenerationMixin):
    r"""Visual tokenizer and language model in one: images and text in, text and visual codes out.

    Args:
        config ([`SeedConfig`]): Weights begin random; `from_pretrained` loads trained ones, and
            [`SeedForConditionalGeneration.from_parts`] combines two trained models.

    Example:

    ```python
    model = SeedForConditionalGeneration.from_pretrained(bundled("seed-tiny", "model"))
    processor = SeedProcessor.from_pretrained(bundled("seed-tiny", "model"))
    ids = model.generate(**processor.caption(image), generation_mode="text")
    ids = model.generate(**processor.draw("a red apple"), generation_mode="image")
    processor.post_process_multimodal_output(ids)
    ```
    """

    config: SeedConfig
    config_class = SeedConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    input_modalities = ("image", "text")
    output_modalities = ("text", "image")
    supports_gradient_checkpointing = True
    _no_split_modules = [*_IN_ONE_PIECE, "OPTDecoderLayer"]
    _supports_sdpa = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _auto_class = "AutoModel"
    _tied_weights_keys = {"language_model.lm_head.weight": "language_model.model.decoder.embed_tokens.weight"}

    def __init__(self, config: SeedConfig):
        super().__init__(config)
        self.visual_tokenizer = SeedTokenizer._from_config(config.tokenizer_config)
        language_model = LANGUAGE_MODELS[config.text_config.model_type]._from_config(config.text_config)
        self.language_model = language_model
        self._tied_weights_keys = {
            f"language_model.{tied}": f"language_model.{source}"
            for tied, source in (language_model._tied_weights_keys or {}).items()
        }
        self._no_split_modules = [*_IN_ONE_PIECE, *(language_model._no_split_modules or ())]
        self.post_init()
        if config.text_config.visual_embedding == "projected":
            codebook, own = self.visual_tokenizer.quantizer.embedding.weight, language_model.visual_codebook
            if codebook.shape == own.shape:  # DeepSpeed's ZeRO-3 has its parts elsewhere, until weights are loaded
                own.copy_(codebook.detach().to(own))

    @classmethod
    def from_parts(
        cls, visual_tokenizer: SeedTokenizer, language_model: VisualVocabularyMixin, **prompts: str
    ) -> "SeedForConditionalGeneration":
        r"""One model of two trained ones. They are shared, not copied.

        Args:
            visual_tokenizer (`SeedTokenizer`): The tokenizer whose codes the language model was trained on.
            language_model (`SeedForCausalLM` or that of another family): Has as many visual tokens as the tokenizer
                has codes.
            prompts (`str`): `caption_prompt`, `image_prompt` and `question_prompt` of [`SeedConfig`].

        Raises:
            ValueError: The two have different sizes, or a `"projected"` language model has another codebook.
        """
        config = SeedConfig(tokenizer_config=visual_tokenizer.config, text_config=language_model.config, **prompts)
        if language_model.config.visual_embedding == "projected":
            codebook = visual_tokenizer.quantizer.embedding.weight
            own = language_model.visual_codebook
            if not torch.allclose(own.float(), codebook.detach().to(own).float(), atol=1e-6):
                raise ValueError(
                    "The codebook of the language model is not that of the visual tokenizer. The language model was "
                    "extended for another tokenizer, or this one was trained further since."
                )
        with torch.device("meta"):
            model = cls(config)
        model.visual_tokenizer = visual_tokenizer
        model.language_model = language_model
        model.generation_config = language_model.generation_config
        return model.train(language_model.training)

    def get_input_embeddings(self):
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value):
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self):
        return self.language_model.get_output_embeddings()

    def set_output_embeddings(self, value):
        self.language_model.set_output_embeddings(value)

    def fill_placeholders(
        self,
        input_ids: torch.Tensor,
        pixel_values: torch.Tensor | None = None,
        codes: torch.Tensor | None = None,
    ) -> torch.Tensor:
        r"""Ids `(batch, length)` in which the `<image>` placeholders are replaced by the codes of images, in order.

        Args:
            input_ids: `(batch, length)`, with `num_query_tokens` placeholders for each image.
            pixel_values: `(images, 3, image_size, image_size)`, encoded here.
            codes: `(images, num_query_tokens)`, instead of images.

        Raises:
            TypeError, ValueError: Codes of a wrong type, shape or range; both pixel values and codes; or a number of
                placeholders that does not fit the number of images.
        """
        if pixel_values is not None and codes is not None:
            raise ValueError("Give pixel_values or codes, not both.")
        if codes is not None:
            codes = self.visual_tokenizer.check_codes(codes)
        elif pixel_values is not None:
            codes = self.visual_tokenizer.encode(pixel_values.to(self.visual_tokenizer.dtype))
        placeholders = input_ids == self.config.text_config.image_token_id
        if not torch.compiler.is_compiling():
            found, given = int(placeholders.sum()), 0 if codes is None else codes.numel()
            if found != given:
                size = self.config.text_config.num_query_tokens
                raise ValueError(
                    f"The prompt has {found} placeholders ({found / size:g} images of {size}), but {given // size} "
                    "images were given. Write <image> once for each."
                )
        if codes is None:
            return input_ids
        ids = codes.to(input_ids.device) + self.config.text_config.visual_token_offset
        return input_ids.masked_scatter(placeholders, ids)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        codes: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        r"""Next-token logits, and with `labels` the loss, of text and images in one sequence.

        Args:
            input_ids: `(batch, length)`; `<image>` placeholders are filled with the codes of the images, in order.
            attention_mask: `(batch, length)`, or another mask that the language model takes.
            pixel_values: `(images, 3, image_size, image_size)`.
            codes: `(images, num_query_tokens)`, instead of `pixel_values`.
            labels: `(batch, length)`, -100 where nothing is learned. Labels that are placeholders become the codes.
            kwargs: As in the `forward` of the language model.

        Raises:
            ValueError: Placeholders that no image fills, or images without placeholders.
        """
        if input_ids is None and (pixel_values is not None or codes is not None):
            raise ValueError("pixel_values and codes need input_ids with placeholders for them.")
        if input_ids is not None:  # without images, this refuses placeholders
            filled = self.fill_placeholders(input_ids, pixel_values, codes)
            if labels is not None:
                labels = torch.where(labels == self.config.text_config.image_token_id, filled, labels)
            input_ids = filled
        return self.language_model(input_ids=input_ids, attention_mask=attention_mask, labels=labels, **kwargs)

    @torch.no_grad()
    def generate(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        codes: torch.Tensor | None = None,
        generation_mode: str = "text",
        generation_config=None,
        **kwargs,
    ):
        r"""Continues a prompt with text (`"text"`), one image (`"image"`), or both (`"interleaved"`).

        Args:
            input_ids, attention_mask: `(batch, length)`, padded on the left, as [`SeedProcessor`] makes them.
            pixel_values, codes: The images of the prompt, as in [`SeedForConditionalGeneration.forward`].
            generation_mode: See [`VisualVocabularyMixin.generate`], which lists the errors too.
            generation_config, kwargs: As in [`VisualVocabularyMixin.generate`], `code_guidance_scale` among them.

        Returns:
            What [`GenerationMixin.generate`] returns: by default ids `(batch, length + new)`. They include the prompt,
            with the codes of its images instead of placeholders.
        """
        self.language_model.generation_config = self.generation_config
        return self.language_model.generate(
            self.fill_placeholders(input_ids, pixel_values, codes),
            generation_config,
            attention_mask=attention_mask,
            generation_mode=generation_mode,
            **kwargs,
        )


# Pipelines look for the names of classes here, and call others "not supported".
for _names in (MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES, MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES):
    _names.setdefault(SeedConfig.model_type, SeedForConditionalGeneration.__name__)


__all__ = ["SeedForConditionalGeneration"]
