"""The SEED visual tokenizer: images to 32 causal codes, codes to the embeddings that condition a diffusion model.

    image -> ViT -> Causal Q-Former -> causal embeddings -> codebook -> visual codes            (`encode`)
    visual codes -> decoder -> reconstructed embeddings                                         (`embed_codes`)
    visual codes -> decoder -> Reverse Q-Former -> generation embeddings                        (`decode`)

Source: arXiv 2307.08041, sections 3.1 to 3.3. The ViT and both Q-Formers are transformers' own BLIP-2 modules.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F
from transformers import Blip2QFormerModel, Blip2VisionModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.modeling_utils import PreTrainedModel
from transformers.models.blip_2.modeling_blip_2 import BaseModelOutputWithVisionQformerOutputs, Blip2TextEmbeddings
from transformers.utils import can_return_tuple

from .attention_by_part_seed import FlashByPart
from .checked_inputs_seed import check_codes
from .compiled_blocks_seed import CompiledBlocks
from .configuration_seed import SeedTokenizerConfig
from .empty_batches_seed import takes_empty_batches
from .finite_values_seed import mark_not_finite, require_finite
from .freezing_seed import freeze
from .losses_seed import contrastive_loss, quantization_losses
from .modeling_seed_decoders import SeedCodeDecoder, SeedGenerationDecoder
from .modeling_seed_quantizer import SeedCodebook, SeedVectorQuantizer
from .publishing_seed import PublishedModel
from .seeing_seed import asked_outputs, read_texts, see_images
from .starting_points_seed import tokenizer_from_blip2, tokenizer_from_stage_one
from .tokenizer_output_seed import SeedTokenizerOutput
from .unused_weights_seed import weights_left_out
from .whole_weights_seed import WholeWeights


class SeedTokenizer(CompiledBlocks, FlashByPart, PublishedModel, WholeWeights, PreTrainedModel):
    r"""The SEED visual tokenizer.

    Args:
        config ([`SeedTokenizerConfig`]): Weights begin random; `from_pretrained` loads trained ones.

    Example:

    ```python
    tokenizer = SeedTokenizer.from_pretrained(bundled("seed-tiny", "tokenizer"))
    codes = tokenizer.encode(pixel_values)  # LongTensor (batch, 32)
    embeddings = tokenizer.decode(codes)  # the condition of the diffusion model
    ```
    """

    config: SeedTokenizerConfig
    config_class = SeedTokenizerConfig
    base_model_prefix = "visual_tokenizer"
    main_input_name = "pixel_values"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _no_split_modules = ["Blip2EncoderLayer", "Blip2QFormerLayer"]
    _supports_sdpa = True
    _supports_attention_backend = True
    flash_parts = '{"vision_config": "flash_attention_2"}'
    _auto_class = "AutoModel"

    # What each module and parameter is for. Freezing, starting points, fingerprints and conversion read this table.
    PARTS = {
        "seeing": ("vision_model", "query_tokens", "qformer"),  # pixels to causal embeddings
        "matching": ("text_embeddings", "vision_projection", "text_projection", "temperature"),  # images with texts
        "coding": ("code_encoder", "quantizer"),  # causal embeddings to codes
        "drawing": ("code_decoder", "embedding_decoder", "generation_decoder"),  # codes to images
    }

    def __init__(self, config: SeedTokenizerConfig):
        super().__init__(config)
        # The decoder blocks are plain modules, so the attention implementation is not passed on to them.
        config.decoder_config._attn_implementation = config._attn_implementation
        hidden = config.qformer_config.hidden_size
        self.vision_model = Blip2VisionModel._from_config(config.vision_config)
        self.vision_model.post_layernorm.eps = config.vision_norm_eps
        self.query_tokens = nn.Parameter(torch.zeros(1, config.num_query_tokens, hidden))
        self.qformer = Blip2QFormerModel._from_config(config.qformer_config)
        if config.text_tower:
            self.text_embeddings = Blip2TextEmbeddings(config.qformer_config)
            self.vision_projection = nn.Linear(hidden, config.projection_dim)
            self.text_projection = nn.Linear(hidden, config.projection_dim)
            # One element, not a scalar: FSDP2 and DeepSpeed do not support scalars.
            self.temperature = nn.Parameter(torch.tensor([config.temperature_init]))
        self.code_encoder = nn.Sequential(nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, config.code_dim))
        self.quantizer = SeedVectorQuantizer(
            config.codebook_size, config.code_dim, config.vq_beta, config.vq_legacy_beta
        )
        self.code_decoder = nn.Sequential(
            nn.Linear(config.code_dim, config.code_dim), nn.Tanh(), nn.Linear(config.code_dim, hidden)
        )
        if config.embedding_decoder:
            self.embedding_decoder = SeedCodeDecoder(config)
        self.generation_decoder = SeedGenerationDecoder(config)
        self._keys_to_ignore_on_load_unexpected = weights_left_out(config, self.PARTS)
        self._frozen_modules: tuple[nn.Module, ...] = ()
        self._qformer_learns = False  # in stage II
        self.finite_roles: set[str] = set()  # whose weights were found finite since the last call of `train`
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        std = self.config.initializer_range
        if isinstance(module, SeedCodebook):
            bound = 1.0 / self.config.codebook_size
            init.uniform_(module.weight, -bound, bound)
        elif isinstance(module, SeedGenerationDecoder) and module.has_queries:
            init.normal_(module.query_tokens, std=std)
        elif isinstance(module, SeedCodeDecoder):
            init.zeros_(module.position_embeddings)
        elif isinstance(module, Blip2TextEmbeddings):
            # A checkpoint does not contain this buffer: without this line it is uninitialised memory after loading.
            init.copy_(module.position_ids, torch.arange(module.position_ids.shape[-1]).expand((1, -1)))
        elif isinstance(module, SeedTokenizer):
            init.normal_(module.query_tokens, std=std)
            if self.config.text_tower:
                init.constant_(module.temperature, self.config.temperature_init)

    def get_input_embeddings(self) -> nn.Module:
        """The embeddings of the ViT: pixels are what comes in."""
        return self.vision_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module):
        self.vision_model.embeddings = value

    # Starting points

    @classmethod
    def from_blip2(cls, blip2, **settings) -> "SeedTokenizer":
        r"""Starting point of stage I: the ViT, Q-Former, queries and, if it has one, the text tower of a BLIP-2.

        All other weights and the temperature are newly initialised.

        Args:
            blip2: A `Blip2ForImageTextRetrieval` or `Blip2Model` of transformers, or its folder. Only the first class
                has a text tower, which stage I needs.
            settings: Other fields of [`SeedTokenizerConfig`]. By default queries are causal, as in the paper; with
                `causal_queries=False` the image features are BLIP-2's own (of the last query). `vision_norm_eps` is
                that of the given model; the original BLIP-2 in LAVIS has 1e-5.

        Raises:
            TypeError, ValueError: `blip2` is no BLIP-2, or it lacks the text tower that the settings ask for.
        """
        return tokenizer_from_blip2(cls, blip2, **settings)

    @classmethod
    def from_stage_one(cls, stage_one, **settings) -> "SeedTokenizer":
        r"""Starting point of stage II: the weights of stage I, a new codebook and new decoders.

        Args:
            stage_one: A [`SeedTokenizer`] or its folder.
            settings: Fields of [`SeedTokenizerConfig`] that belong to stage II: `codebook_size`, `code_dim`,
                `generation_target`, `generation_head`, `decoder_config`, `text_tower=False` to drop it ...

        Raises:
            ValueError: A setting that belongs to stage I.
        """
        return tokenizer_from_stage_one(cls, stage_one, **settings)

    # Seeing

    def get_causal_embeddings(
        self, pixel_values: torch.Tensor | None = None, *, vision_embeddings: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Causal embeddings `(batch, num_query_tokens, hidden_size)`, before the codebook (paper 3.1).

        Args:
            pixel_values: `(batch, 3, image_size, image_size)`, normalised by [`SeedImageProcessor`].
            vision_embeddings: `(batch, patches + 1, vision width)`: the ViT's output, computed beforehand.
        """
        return see_images(self, pixel_values, vision_embeddings)[1].last_hidden_state

    @torch.no_grad()
    def encode(
        self,
        pixel_values: torch.Tensor | None = None,
        *,
        causal_embeddings: torch.Tensor | None = None,
        check_finite: bool = True,
    ) -> torch.Tensor:
        """Visual codes `(batch, num_query_tokens)`, int64, of images `(batch, 3, image_size, image_size)`.

        The decoder half is not run. Distances are fp32 under any autocast.

        Args:
            pixel_values: Normalised by [`SeedImageProcessor`].
            causal_embeddings: `(batch, num_query_tokens, hidden_size)`, of these images, computed beforehand.
            check_finite: Whether to check that results are finite, for which a GPU has to be waited for. With `False`
                a row that is not finite gets -1 in place of its codes, and no error.

        Raises:
            NotFiniteError: Pixels, weights or features are NaN or infinite; it names which.
        """
        embeddings = self.get_causal_embeddings(pixel_values) if causal_embeddings is None else causal_embeddings
        features = self.code_encoder(embeddings)
        # Tanh and the nearest vector would hide infinity.
        hiding = [embeddings, *self.code_encoder.parameters(), self.quantizer.embedding.weight]
        if not check_finite:
            return mark_not_finite(self.quantizer.encode(features), (features, embeddings), hiding[1:])
        return self.quantizer.encode(require_finite(features, self, ("seeing", "coding"), pixel_values, hiding))

    # Codes

    def check_codes(self, codes: torch.Tensor) -> torch.Tensor:
        """`codes` as int64. Raises `TypeError` or `ValueError` for a wrong type, shape or range."""
        return check_codes(codes, self.config)

    @takes_empty_batches
    def embed_codes(self, codes: torch.Tensor) -> torch.Tensor:
        """Reconstructed embeddings `(batch, num_query_tokens, hidden_size)`, for retrieval on codes."""
        if not self.config.embedding_decoder:
            raise ValueError(
                "This tokenizer has no decoder of the causal embeddings (config.embedding_decoder is False); the "
                "authors' class for SEED-1 lacks it too. Retrieval on codes needs a tokenizer with one."
            )
        embeddings = self.embedding_decoder(self.code_decoder(self.quantizer.lookup(self.check_codes(codes))))
        return require_finite(embeddings, self, ("coding", "drawing"), hiding=self.code_decoder.parameters())

    @takes_empty_batches
    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Generation embeddings of codes `(batch, num_query_tokens)`: `(batch, num_generation_tokens, generation_dim)`
        for the text target, `(batch, generation_dim)` for the image target."""
        embeddings = self.generation_decoder(self.code_decoder(self.quantizer.lookup(self.check_codes(codes))))
        return require_finite(embeddings, self, ("coding", "drawing"), hiding=self.code_decoder.parameters())

    # The shared space of stage I

    @can_return_tuple
    def get_image_features(
        self,
        pixel_values: torch.Tensor | None = None,
        *,
        codes: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> BaseModelOutputWithVisionQformerOutputs:
        r"""Features of images, from their pixels or from their codes (the paper's "causal code" row).

        Args:
            pixel_values: `(batch, 3, image_size, image_size)`.
            codes: `(batch, num_query_tokens)`, instead of pixel values.
            output_hidden_states, output_attentions: As in [`SeedTokenizer.forward`].

        Returns:
            As that of [`Blip2ForConditionalGeneration.get_image_features`]. `pooler_output` is L2-normalised,
            `(batch, projection_dim)`; `last_hidden_state`, `hidden_states` and `attentions` are those of the ViT, and
            `qformer_outputs.last_hidden_state` are the causal embeddings. From codes, `last_hidden_state` holds the
            reconstructed embeddings, and there is nothing else. `return_dict=False` gives a tuple.

        Raises:
            ValueError: No text tower; both or neither of pixel values and codes; hidden states or attentions of codes,
                or attentions of another implementation than eager.
        """
        self._require_text_tower()
        if (pixel_values is None) == (codes is None):
            raise ValueError("Give either pixel_values or codes.")
        outputs = asked_outputs(self, output_hidden_states, output_attentions)
        if codes is not None:
            if output_hidden_states or output_attentions:
                raise ValueError("Codes have no hidden states and attentions: give pixel_values.")
            embeddings = self.embed_codes(codes)
            features = require_finite(self._project_image(embeddings), self, self.PARTS)
            return BaseModelOutputWithVisionQformerOutputs(last_hidden_state=embeddings, pooler_output=features)
        vision, qformer = see_images(self, pixel_values, **outputs)
        features = self._project_image(qformer.last_hidden_state)
        return BaseModelOutputWithVisionQformerOutputs(
            last_hidden_state=vision.last_hidden_state,
            pooler_output=require_finite(features, self, self.PARTS, pixel_values),
            hidden_states=vision.hidden_states,
            attentions=vision.attentions,
            vision_outputs=vision,
            qformer_outputs=qformer,
        )

    @can_return_tuple
    def get_text_features(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        *,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> BaseModelOutputWithPooling:
        r"""Features of texts, from the first token's state.

        Args:
            input_ids, attention_mask: `(batch, length)`.
            output_hidden_states, output_attentions: As in [`SeedTokenizer.forward`]; of the Q-Former, which reads.

        Returns:
            `pooler_output` is L2-normalised, `(batch, projection_dim)`; `last_hidden_state` is
            `(batch, length, hidden_size)`. `return_dict=False` gives a tuple.

        Raises:
            ValueError: No text tower, or too long a text.
        """
        self._require_text_tower()
        outputs = asked_outputs(self, output_hidden_states, output_attentions)
        found = read_texts(self, input_ids, attention_mask, **outputs)
        require_finite(found.pooler_output, self, ("seeing", "matching"))
        return found

    def _project_image(self, embeddings: torch.Tensor) -> torch.Tensor:
        # The last query sees all others; issue 23 of the authors' repository confirms this choice.
        return F.normalize(self.vision_projection(embeddings[:, -1]), dim=-1)

    def _require_text_tower(self):
        if not self.config.text_tower:
            raise ValueError("This tokenizer has no text tower and projections (config.text_tower is False).")

    # Training

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        *,
        vision_embeddings: torch.Tensor | None = None,
        causal_embeddings: torch.Tensor | None = None,
        target_embeddings: torch.Tensor | None = None,
        stage: str | None = None,
        gather_features: Callable[[torch.Tensor], tuple[torch.Tensor, int]] | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> SeedTokenizerOutput:
        r"""The losses of one training stage; without `stage`, everything from images to generation embeddings.

        Args:
            pixel_values: `(batch, 3, image_size, image_size)`.
            input_ids, attention_mask: `(batch, length)`; the captions, for stage I's loss.
            vision_embeddings: `(batch, patches + 1, vision width)`; given, the ViT is not run.
            causal_embeddings: `(batch, num_query_tokens, hidden_size)`; given, ViT and Q-Former are not run.
            target_embeddings: The target of the generation embeddings in stage II, of the same shape: features of the
                diffusion model's text encoder, or one image embedding.
            stage: `"contrastive"` (stage I), `"quantization"` (stage II) or `None`.
            gather_features: For stage I's loss on several processes: returns the features of all processes, with a
                gradient, for those of this one `(batch, projection_dim)`, and the row at which its own begin.
            output_hidden_states, output_attentions: Whether the output also holds those of ViT and Causal Q-Former.
                Attentions need eager attention. Default: what the configuration says.

        Returns:
            With `return_dict=False`, a tuple of the fields that are not `None`.

        Raises:
            ValueError: An unknown stage; a wrong shape; hidden states or attentions of modules that are not run.
        """
        if stage not in (None, "contrastive", "quantization"):
            raise ValueError(f"stage must be 'contrastive', 'quantization' or None, got {stage!r}.")
        outputs = asked_outputs(self, output_hidden_states, output_attentions)
        seen: dict = {}
        if causal_embeddings is None:
            learns = stage == "contrastive" or (stage == "quantization" and self._qformer_learns)
            with torch.set_grad_enabled(torch.is_grad_enabled() and learns):
                vision, qformer = see_images(self, pixel_values, vision_embeddings, **outputs)
            causal_embeddings = qformer.last_hidden_state
            if outputs:
                seen = {"vision_outputs": vision, "qformer_outputs": qformer}
                of = qformer if vision is None else vision
                seen |= {"hidden_states": of.hidden_states, "attentions": of.attentions}
        elif output_hidden_states or output_attentions:
            raise ValueError("causal_embeddings have no hidden states and attentions: give pixel_values.")
        if stage == "contrastive":
            output = self._contrastive(causal_embeddings, input_ids, attention_mask, gather_features)
            return SeedTokenizerOutput(**output, **seen)
        codes, quantized, vq_loss = self.quantizer(self.code_encoder(causal_embeddings))
        decoded = self.code_decoder(quantized)
        output = SeedTokenizerOutput(codes=codes, causal_embeddings=causal_embeddings, **seen)
        output.generation_embeddings = self.generation_decoder(decoded)
        if self.config.embedding_decoder:
            output.reconstructed_embeddings = self.embedding_decoder(decoded)
        if stage == "quantization":
            matched = None
            if self.config.contrastive_loss_weight and self._qformer_learns:
                matched = self._contrastive(causal_embeddings, input_ids, attention_mask, gather_features).loss
            losses = quantization_losses(
                self.config,
                vq_loss=vq_loss,
                contrastive_loss=matched,
                causal_embeddings=causal_embeddings,
                generation_embeddings=output.generation_embeddings,
                reconstructed_embeddings=output.reconstructed_embeddings,
                target_embeddings=target_embeddings,
                image_features=self._project_image,
                temperature=self.temperature if self.config.text_tower else 1.0,
                gather_features=gather_features,
            )
            for name, value in losses.items():
                setattr(output, name, value)
        return output

    def _contrastive(self, causal_embeddings, input_ids, attention_mask, gather_features) -> SeedTokenizerOutput:
        if input_ids is None or len(input_ids) != len(causal_embeddings):
            given = "no input_ids" if input_ids is None else f"{len(input_ids)} texts"
            raise ValueError(f"Stage I needs one caption for each of {len(causal_embeddings)} images, got {given}.")
        self._require_text_tower()
        image_features = self._project_image(causal_embeddings)
        text_features = read_texts(self, input_ids, attention_mask).pooler_output
        loss, per_image, per_text = contrastive_loss(
            image_features,
            text_features,
            self.temperature,
            label_smoothing=self.config.label_smoothing,
            gather_features=gather_features,
        )
        return SeedTokenizerOutput(
            loss=loss,
            contrastive_loss=loss,
            causal_embeddings=causal_embeddings,
            image_features=image_features,
            text_features=text_features,
            logits_per_image=per_image,
            logits_per_text=per_text,
        )

    def freeze_for(self, stage: str, train_qformer: bool = False) -> None:
        """Freezes what the paper freezes in `"contrastive"` (stage I) or `"quantization"` (stage II).

        Stage I trains the Q-Former, its queries, the norm after the ViT, both projections and the temperature. Stage
        II trains everything after the Q-Former; with `train_qformer`, which the paper does not have, it also trains
        Q-Former, queries and, if there is one, the text tower. Frozen modules stay in eval mode even after `train()`,
        except the Q-Former of stage II with `teacher_dropout`, as in the authors' code.
        """
        if stage == "contrastive":
            self._require_text_tower()
        self._frozen_modules = freeze(self, stage, train_qformer)
        self._qformer_learns = train_qformer
        self.train(self.training)

    def train(self, mode: bool = True):
        super().train(mode)
        self.finite_roles = set()
        for module in getattr(self, "_frozen_modules", ()):
            module.eval()
        return self


__all__ = ["SeedTokenizer", "SeedTokenizerOutput", "contrastive_loss"]
