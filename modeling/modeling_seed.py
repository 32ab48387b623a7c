"""Visual tokenizer and language model in one model, which captions and draws.

Codes stay integers on the device: a visual token is a code plus `visual_token_offset`.
Source: arXiv 2307.08041, sections 1.4 and 2.2.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers.generation import GenerationConfig, GenerationMixin
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.modeling_utils import PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
)
from transformers.models.blip_2.modeling_blip_2 import BaseModelOutputWithVisionQformerOutputs
from transformers.utils import can_return_tuple

from .adapters_seed import ChoosesAdapted
from .attention_by_part_seed import FlashByPart
from .configuration_seed import SeedConfig
from .modeling_seed_text import LANGUAGE_MODELS, VisualVocabularyMixin
from .modeling_seed_tokenizer import SeedTokenizer
from .placeholders_seed import check_filled, find_placeholders
from .publishing_seed import PublishedModel
from .seeing_seed import asked_outputs, see_images
from .visual_vocabulary_seed import check_rows
from .whole_weights_seed import WholeWeights


# Parameters of the tokenizer that no block has would be offloaded out of reach, so it stays in one piece.
_IN_ONE_PIECE = ("SeedTokenizer",)


class SeedForConditionalGeneration(
    ChoosesAdapted, FlashByPart, PublishedModel, WholeWeights, PreTrainedModel, GenerationMixin
):
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
    flash_parts = '{"text_config": "flash_attention_2"}'
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
        self.visual_tokenizer.eval()
        self.post_init()
        if config.text_config.visual_embedding == "projected":
            codebook, own = self.visual_tokenizer.quantizer.embedding.weight, language_model.visual_codebook
            if codebook.shape == own.shape:  # DeepSpeed's ZeRO-3 has its parts elsewhere, until weights are loaded
                own.copy_(codebook.detach().to(own))

    @classmethod
    def from_parts(
        cls, visual_tokenizer: SeedTokenizer, language_model: VisualVocabularyMixin, **prompts: str
    ) -> "SeedForConditionalGeneration":
        r"""One model of two trained ones. They are shared, not copied; the tokenizer is put into eval mode.

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
            codebook, own = visual_tokenizer.quantizer.embedding.weight.detach(), language_model.visual_codebook
            if torch.finfo(codebook.dtype).bits < torch.finfo(own.dtype).bits:
                own = own.to(codebook.dtype)
            if not torch.allclose(own.float(), codebook.to(own).float(), atol=1e-6):
                raise ValueError(
                    "The codebook of the language model is not that of the visual tokenizer. The language model was "
                    "extended for another tokenizer, or this one was trained further since."
                )
        with torch.device("meta"):
            model = cls(config)
        model.visual_tokenizer = visual_tokenizer
        model.language_model = language_model
        return model.train(language_model.training)

    def train(self, mode: bool = True):
        """As [`torch.nn.Module.train`], of the language model: images have the same codes as when it is used."""
        super().train(mode)
        self.visual_tokenizer.eval()  # no gradient enters it, so dropout would only make other codes of an image
        return self

    @property
    def dtype(self) -> torch.dtype:
        """The wider of the types of the two parts. A saved model is loaded in this one, and loses nothing by it."""
        parts = [part.dtype for part in self.children() if isinstance(part, PreTrainedModel)]
        return functools.reduce(torch.promote_types, parts) if len(set(parts)) > 1 else super().dtype

    @property
    def generation_config(self):
        """That of the language model, which generates."""
        language_model = self._modules.get("language_model")
        return self._first_generation_config if language_model is None else language_model.generation_config

    @generation_config.setter
    def generation_config(self, value):
        if (language_model := self._modules.get("language_model")) is not None:
            language_model.generation_config = value
        else:  # within the constructor of the base class
            self._first_generation_config = value

    def get_input_embeddings(self):
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value):
        self.language_model.set_input_embeddings(value)

    def get_encoder(self, modality: str | None = None):
        """As in BLIP-2: the ViT for the `modality` "image", else as [`PreTrainedModel.get_encoder`]."""
        if modality == "image":
            return self.visual_tokenizer.get_encoder(modality=modality)
        return super().get_encoder(modality=modality)

    def get_output_embeddings(self):
        return self.language_model.get_output_embeddings()

    def set_output_embeddings(self, value):
        self.language_model.set_output_embeddings(value)

    def resize_token_embeddings(self, new_num_tokens: int | None = None, *args, **kwargs) -> torch.nn.Module:
        """As [`PreTrainedModel.resize_token_embeddings`]. Raises `ValueError` if visual tokens would lose rows."""
        check_rows(self.config.text_config, new_num_tokens)
        return super().resize_token_embeddings(new_num_tokens, *args, **kwargs)

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
        codes = self._codes(pixel_values, codes)
        placeholders = find_placeholders(self.language_model, input_ids, None)
        check_filled(placeholders, codes, self.config.text_config)
        if codes is None:
            return input_ids
        ids = codes.to(input_ids.device) + self.config.text_config.visual_token_offset
        return input_ids.masked_scatter(placeholders, ids)

    def _codes(self, pixel_values: torch.Tensor | None, codes: torch.Tensor | None) -> torch.Tensor | None:
        if pixel_values is not None and codes is not None:
            raise ValueError("Give pixel_values or codes, not both.")
        if codes is not None:
            return self.visual_tokenizer.check_codes(codes)
        if pixel_values is None:
            return None
        return self.visual_tokenizer.encode(pixel_values.to(self.visual_tokenizer.dtype))

    def _fill_embeddings(
        self,
        inputs_embeds: torch.Tensor,
        input_ids: torch.Tensor | None,
        codes: torch.Tensor,
        labels: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Embeddings, and labels, in which placeholders are replaced by codes. Ids, if given, say where those are."""
        placeholders = find_placeholders(self.language_model, input_ids, inputs_embeds)
        check_filled(placeholders, codes, self.config.text_config)
        ids = codes.to(inputs_embeds.device) + self.config.text_config.visual_token_offset
        values = self.language_model.embed_ids(ids).to(inputs_embeds.dtype)
        if labels is not None:
            filled = labels.masked_scatter(placeholders, ids)
            labels = torch.where(labels == self.config.text_config.image_token_id, filled, labels)
        return inputs_embeds.masked_scatter(placeholders.unsqueeze(-1), values), labels

    @can_return_tuple
    def get_image_features(
        self,
        pixel_values: torch.Tensor | None = None,
        *,
        codes: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> BaseModelOutputWithVisionQformerOutputs:
        r"""What the language model reads in place of images. Features for retrieval are
        [`SeedTokenizer.get_image_features`].

        Args:
            pixel_values: `(images, 3, image_size, image_size)`.
            codes: `(images, num_query_tokens)`, instead of `pixel_values`.
            output_hidden_states, output_attentions: As in [`SeedTokenizer.forward`].

        Returns:
            As that of [`Blip2ForConditionalGeneration.get_image_features`]. `pooler_output` are the embeddings of the
            visual tokens `(images, num_query_tokens, width)`; `last_hidden_state`, `hidden_states` and `attentions`
            are those of the ViT, and `qformer_outputs` those of the Causal Q-Former. Codes give `pooler_output` alone.

        Raises:
            ValueError: Both or neither of `pixel_values` and `codes`; hidden states or attentions of codes, or
                attentions of another implementation than eager.
        """
        if (pixel_values is None) == (codes is None):
            raise ValueError("Give either pixel_values or codes.")
        tokenizer, offset = self.visual_tokenizer, self.config.text_config.visual_token_offset
        if codes is not None:
            if output_hidden_states or output_attentions:
                raise ValueError("Codes have no hidden states and attentions: give pixel_values.")
            features = self.language_model.embed_ids(tokenizer.check_codes(codes) + offset)
            return BaseModelOutputWithVisionQformerOutputs(pooler_output=features)
        assert pixel_values is not None  # or codes were
        pixel_values = pixel_values.to(tokenizer.dtype)
        asked = asked_outputs(tokenizer, output_hidden_states, output_attentions)
        with torch.no_grad():
            vision, qformer = see_images(tokenizer, pixel_values, **asked)
        codes = tokenizer.encode(pixel_values, causal_embeddings=qformer.last_hidden_state)
        return BaseModelOutputWithVisionQformerOutputs(
            last_hidden_state=vision.last_hidden_state,
            pooler_output=self.language_model.embed_ids(codes + offset),
            hidden_states=vision.hidden_states,
            attentions=vision.attentions,
            vision_outputs=vision,
            qformer_outputs=qformer,
        )

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        codes: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        r"""Next-token logits, and with `labels` the loss, of text and images in one sequence.

        Args:
            input_ids: `(batch, length)`; `<image>` placeholders are filled with the codes of the images, in order.
            attention_mask: `(batch, length)`, or another mask that the language model takes.
            pixel_values: `(images, 3, image_size, image_size)`.
            codes: `(images, num_query_tokens)`, instead of `pixel_values`.
            labels: `(batch, length)`, -100 where nothing is learned. Labels that are placeholders become the codes.
            inputs_embeds: `(batch, length, width)`, instead of ids. With images, embeddings that equal the row of the
                placeholder are filled, as in BLIP-2.
            kwargs: As in the `forward` of the language model, `return_dict`, `output_hidden_states` and
                `output_attentions` among them; what the configuration says of these is the default.

        Raises:
            ValueError: Placeholders that no image fills, or images without placeholders; ids and embeddings together.
        """
        if input_ids is not None and inputs_embeds is not None:
            raise ValueError("Give input_ids or inputs_embeds, not both.")
        if inputs_embeds is not None:
            if (filling := self._codes(pixel_values, codes)) is not None:
                inputs_embeds, labels = self._fill_embeddings(inputs_embeds, None, filling, labels)
        elif input_ids is not None:  # without images, this refuses placeholders
            filled = self.fill_placeholders(input_ids, pixel_values, codes)
            if labels is not None:
                labels = torch.where(labels == self.config.text_config.image_token_id, filled, labels)
            input_ids = filled
        elif pixel_values is not None or codes is not None:
            raise ValueError("pixel_values and codes need input_ids, or inputs_embeds, with placeholders for them.")
        for name, usual in (("return_dict", True), ("output_hidden_states", False), ("output_attentions", False)):
            if kwargs.get(name) is None and getattr(self.config, name) != usual:
                kwargs[name] = not usual
        return self.language_model(
            input_ids=input_ids, attention_mask=attention_mask, inputs_embeds=inputs_embeds, labels=labels, **kwargs
        )

    @torch.no_grad()
    def generate(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        codes: torch.Tensor | None = None,
        generation_mode: str | None = "text",
        generation_config=None,
        *,
        inputs: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs,
    ):
        r"""Continues a prompt with text (`"text"`), one image (`"image"`), or both (`"interleaved"`).

        Args:
            input_ids, attention_mask: `(batch, length)`, padded on the left, as [`SeedProcessor`] makes them.
            pixel_values, codes: The images of the prompt, as in [`SeedForConditionalGeneration.forward`].
            generation_mode: See [`VisualVocabularyMixin.generate`], which lists the errors too.
            inputs: Another name of `input_ids`, as in [`GenerationMixin.generate`].
            inputs_embeds: `(batch, length, width)`, what enters in place of the embeddings of the ids. Images fill its
                placeholders: where those of `input_ids` are, or, without ids, where it equals the placeholder's row.
            generation_config, kwargs: As in [`VisualVocabularyMixin.generate`], `code_guidance_scale` among them.

        Returns:
            What [`GenerationMixin.generate`] returns: by default ids `(batch, length + new)`. They include the prompt,
            with the codes of its images instead of placeholders. With `inputs_embeds` alone, the new ids.

        Raises:
            ValueError: No prompt, or two; see also [`VisualVocabularyMixin.generate`].
            TypeError: A generation config by its place: the second argument is the mask.
        """
        if isinstance(attention_mask, GenerationConfig):
            raise TypeError("Give the generation config by its name: generate(input_ids, generation_config=...).")
        if inputs is not None and input_ids is not None:
            raise ValueError("inputs and input_ids are two names of one argument: give one.")
        input_ids = inputs if input_ids is None else input_ids
        prompt: dict[str, torch.Tensor] = {}
        if inputs_embeds is not None:
            if (filling := self._codes(pixel_values, codes)) is not None:
                inputs_embeds, _ = self._fill_embeddings(inputs_embeds, input_ids, filling)
                codes, pixel_values = filling, None
            prompt["inputs_embeds"] = inputs_embeds
        if input_ids is not None:
            prompt["input_ids"] = self.fill_placeholders(input_ids, pixel_values, codes)
        if not prompt:
            raise ValueError(
                "Give a prompt: input_ids (or inputs, their other name) or inputs_embeds. SeedProcessor.caption, .ask "
                "and .draw make prompts, of an image too."
            )
        assistant = kwargs.get("assistant_model")
        if isinstance(assistant, SeedForConditionalGeneration):  # it goes on from ids, which have codes by now
            kwargs["assistant_model"] = assistant.language_model
        with self._preparing():
            return self.language_model.generate(
                generation_config=generation_config,
                attention_mask=attention_mask,
                generation_mode=generation_mode,
                **prompt,
                **kwargs,
            )

    def prepare_inputs_for_generation(self, input_ids, *, inputs_embeds=None, **kwargs):
        """As the language model, which generates."""
        prepare = type(self.language_model).prepare_inputs_for_generation
        return prepare(self.language_model, input_ids, inputs_embeds=inputs_embeds, **kwargs)

    @contextmanager
    def _preparing(self) -> Iterator[None]:
        """Whoever has replaced `prepare_inputs_for_generation` of this model meant the one that generates.

        peft does: its virtual tokens and prefixes come before the prompt that way.
        """
        replaced = self.__dict__.get("prepare_inputs_for_generation")
        if replaced is not None:
            self.language_model.prepare_inputs_for_generation = replaced
        try:
            yield
        finally:
            if replaced is not None:
                del self.language_model.prepare_inputs_for_generation


# Pipelines look for the names of classes here, and call others "not supported".
for _names in (MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES, MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES):
    _names.setdefault(SeedConfig.model_type, SeedForConditionalGeneration.__name__)


__all__ = ["SeedForConditionalGeneration"]
