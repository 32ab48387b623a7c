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
from transformers.masking_utils import create_causal_mask
from transformers.modeling_utils import PreTrainedModel
from transformers.models.blip_2.modeling_blip_2 import Blip2TextEmbeddings

from .configuration_seed import SeedTokenizerConfig
from .empty_batches_seed import takes_empty_batches
from .finite_values_seed import mark_not_finite, require_finite
from .losses_seed import contrastive_loss, quantization_losses
from .modeling_seed_decoders import SeedCodeDecoder, SeedCodeMemory, SeedGenerationDecoder
from .modeling_seed_quantizer import SeedCodebook, SeedVectorQuantizer
from .offloading_seed import at_hand
from .publishing_seed import PublishedModel
from .starting_points_seed import tokenizer_from_blip2, tokenizer_from_stage_one
from .tokenizer_output_seed import SeedTokenizerOutput
from .whole_weights_seed import WholeWeights


class SeedTokenizer(PublishedModel, WholeWeights, PreTrainedModel):
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
    _auto_class = "AutoModel"

    # What each module and parameter is for. Freezing, starting points, fingerprints and conversion read this table.
    PARTS = {
        "seeing": ("vision_model", "query_tokens", "qformer"),  # pixels to causal embeddings
        "matching": ("text_embeddings", "vision_projection", "text_projection", "temperature"),  # images with texts
        "coding": ("code_encoder", "quantizer"),  # causal embeddings to codes
        "drawing": ("code_decoder", "embedding_decoder", "generation_decoder", "generation_memory"),  # codes to images
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
        if config.generation_memory_dim:
            self.generation_memory = SeedCodeMemory(config)
        self._keys_to_ignore_on_load_unexpected = _left_out(config)
        self._frozen_modules: tuple[nn.Module, ...] = ()
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
        elif isinstance(module, SeedCodeMemory):
            init.zeros_(module.projection)
        elif isinstance(module, Blip2TextEmbeddings):
            # A checkpoint does not contain this buffer: without this line it is uninitialised memory after loading.
            init.copy_(module.position_ids, torch.arange(module.position_ids.shape[-1]).expand((1, -1)))
        elif isinstance(module, SeedTokenizer):
            init.normal_(module.query_tokens, std=std)
            if self.config.text_tower:
                init.constant_(module.temperature, self.config.temperature_init)

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

    @takes_empty_batches
    def get_causal_embeddings(
        self, pixel_values: torch.Tensor | None = None, *, vision_embeddings: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Causal embeddings `(batch, num_query_tokens, hidden_size)`, before the codebook (paper 3.1).

        Args:
            pixel_values: `(batch, 3, image_size, image_size)`, normalised by [`SeedImageProcessor`].
            vision_embeddings: `(batch, patches + 1, vision width)`: the ViT's output, computed beforehand.
        """
        if vision_embeddings is None:
            vision_embeddings = self._vision(pixel_values)
        queries = at_hand(self, "query_tokens").expand(vision_embeddings.shape[0], -1, -1)
        mask = None
        if self.config.causal_queries:
            # An explicit mask, in the form of the attention implementation; without it, queries see later ones.
            mask = create_causal_mask(
                config=self.qformer.config,
                inputs_embeds=queries,
                attention_mask=None,
                past_key_values=None,
                allow_is_causal_skip=False,
            )
        return self.qformer(queries, encoder_hidden_states=vision_embeddings, attention_mask=mask).last_hidden_state

    def _vision(self, pixel_values: torch.Tensor | None) -> torch.Tensor:
        size = self.config.vision_config.image_size
        if pixel_values is None:
            raise ValueError("Give pixel_values, or the vision embeddings computed from them.")
        if pixel_values.ndim != 4 or pixel_values.shape[1:] != (3, size, size):
            raise ValueError(
                f"pixel_values must have shape (batch, 3, {size}, {size}), got {tuple(pixel_values.shape)}. "
                "SeedImageProcessor prepares images of any size."
            )
        if not pixel_values.is_floating_point():
            raise TypeError(f"pixel_values must be floating point, got {pixel_values.dtype}: normalise them first.")
        return self.vision_model(pixel_values).last_hidden_state

    @torch.no_grad()
    def encode(self, pixel_values: torch.Tensor, *, wait: bool = True) -> torch.Tensor:
        """Visual codes `(batch, num_query_tokens)`, int64, of images `(batch, 3, image_size, image_size)`.

        The decoder half is not run. Distances are fp32 under any autocast.

        Args:
            pixel_values: Normalised by [`SeedImageProcessor`].
            wait: Whether to wait for a GPU to know that results are finite. With `False` a row that is not finite gets
                -1 in place of its codes, and no error.

        Raises:
            NotFiniteError: Pixels, weights or features are NaN or infinite; it names which.
        """
        embeddings = self.get_causal_embeddings(pixel_values)
        features = self.code_encoder(embeddings)
        # Tanh and the nearest vector would hide infinity.
        hiding = [embeddings, *self.code_encoder.parameters(), self.quantizer.embedding.weight]
        if not wait:
            return mark_not_finite(self.quantizer.encode(features), (features, embeddings), hiding[1:])
        return self.quantizer.encode(require_finite(features, self, ("seeing", "coding"), pixel_values, hiding))

    # Codes

    def check_codes(self, codes: torch.Tensor) -> torch.Tensor:
        """`codes` as int64. Raises `TypeError` or `ValueError` for a wrong type, shape or range."""
        if not isinstance(codes, torch.Tensor) or codes.is_floating_point() or codes.dtype == torch.bool:
            given = codes.dtype if isinstance(codes, torch.Tensor) else type(codes).__name__
            raise TypeError(f"Visual codes must be an integer tensor, got {given}.")
        if codes.ndim != 2 or codes.shape[1] != self.config.num_query_tokens:
            raise ValueError(
                f"Visual codes must have shape (batch, {self.config.num_query_tokens}), got {tuple(codes.shape)}."
            )
        codes = codes.long()
        if not torch.compiler.is_compiling():
            wrong = ((codes < 0) | (codes >= self.config.codebook_size)).nonzero()
            if len(wrong):
                row, column = wrong[0].tolist()
                raise ValueError(
                    f"Visual codes must be in [0, {self.config.codebook_size}): row {row}, position {column} holds "
                    f"{codes[row, column].item()} ({len(wrong)} wrong in all). Language-model ids are codes plus "
                    "visual_token_offset: subtract it first."
                )
        return codes

    @takes_empty_batches
    def embed_codes(self, codes: torch.Tensor) -> torch.Tensor:
        """Reconstructed embeddings `(batch, num_query_tokens, hidden_size)`, for retrieval on codes."""
        if not self.config.embedding_decoder:
            raise ValueError(
                "This tokenizer has no decoder of the causal embeddings (config.embedding_decoder is False); the "
                "authors' inference class lacks it too. Retrieval on codes needs a tokenizer with one."
            )
        embeddings = self.embedding_decoder(self.code_decoder(self.quantizer.lookup(self.check_codes(codes))))
        return require_finite(embeddings, self, ("coding", "drawing"), hiding=self.code_decoder.parameters())

    @takes_empty_batches
    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Generation embeddings of codes `(batch, num_query_tokens)`: `(batch, num_generation_tokens, generation_dim)`
        for the text target, `(batch, generation_dim)` for the image target."""
        code_vectors = self.quantizer.lookup(self.check_codes(codes))
        embeddings = self._generation_embeddings(code_vectors, self.code_decoder(code_vectors))
        return require_finite(embeddings, self, ("coding", "drawing"), hiding=self.code_decoder.parameters())

    def _generation_embeddings(self, code_vectors: torch.Tensor, decoded: torch.Tensor) -> torch.Tensor:
        embeddings = self.generation_decoder(decoded)
        return embeddings + self.generation_memory(code_vectors) if self.config.generation_memory_dim else embeddings

    # The shared space of stage I

    def get_image_features(
        self, pixel_values: torch.Tensor | None = None, *, codes: torch.Tensor | None = None
    ) -> torch.Tensor:
        """L2-normalised `(batch, projection_dim)` from images, or from codes (the paper's "causal code" row)."""
        self._require_text_tower()
        if (pixel_values is None) == (codes is None):
            raise ValueError("Give either pixel_values or codes.")
        embeddings = self.get_causal_embeddings(pixel_values) if codes is None else self.embed_codes(codes)
        return require_finite(self._project_image(embeddings), self, self.PARTS, pixel_values)

    def get_text_features(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """L2-normalised `(batch, projection_dim)` of texts `(batch, length)`, from the first token's state."""
        return require_finite(self._text_features(input_ids, attention_mask), self, ("seeing", "matching"))

    def _text_features(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        self._require_text_tower()
        limit = self.config.qformer_config.max_position_embeddings
        if input_ids.ndim != 2 or not 0 < input_ids.shape[1] <= limit:
            raise ValueError(
                f"input_ids must have shape (batch, length) with length in 1..{limit}, got {tuple(input_ids.shape)}."
            )
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        hidden_states = self.text_embeddings(input_ids)
        hidden_states = self.qformer(hidden_states, query_length=0, attention_mask=attention_mask).last_hidden_state
        return F.normalize(self.text_projection(hidden_states[:, 0]), dim=-1)

    def _project_image(self, embeddings: torch.Tensor) -> torch.Tensor:
        # The last query sees all others; issue 23 of the authors' repository confirms this choice.
        return F.normalize(self.vision_projection(embeddings[:, -1]), dim=-1)

    def _require_text_tower(self):
        if not self.config.text_tower:
            raise ValueError("This tokenizer has no text tower and projections (config.text_tower is False).")

    # Training

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
    ) -> SeedTokenizerOutput:
        r"""The losses of one training stage; without `stage`, everything from images to generation embeddings.

        Args:
            pixel_values: `(batch, 3, image_size, image_size)`.
            input_ids, attention_mask: `(batch, length)`; the captions, for stage I.
            vision_embeddings: `(batch, patches + 1, vision width)`; given, the ViT is not run.
            causal_embeddings: `(batch, num_query_tokens, hidden_size)`; given, ViT and Q-Former are not run.
            target_embeddings: The target of the generation embeddings in stage II, of the same shape: features of the
                diffusion model's text encoder, or one image embedding.
            stage: `"contrastive"` (stage I), `"quantization"` (stage II) or `None`.
            gather_features: For stage I on several processes: returns the features of all processes, with a gradient,
                for those of this one `(batch, projection_dim)`, and the row at which this process's own begin.
        """
        if stage not in (None, "contrastive", "quantization"):
            raise ValueError(f"stage must be 'contrastive', 'quantization' or None, got {stage!r}.")
        if causal_embeddings is None:
            with torch.set_grad_enabled(torch.is_grad_enabled() and stage == "contrastive"):
                causal_embeddings = self.get_causal_embeddings(pixel_values, vision_embeddings=vision_embeddings)
        if stage == "contrastive":
            return self._contrastive(causal_embeddings, input_ids, attention_mask, gather_features)
        codes, quantized, vq_loss = self.quantizer(self.code_encoder(causal_embeddings))
        decoded = self.code_decoder(quantized)
        output = SeedTokenizerOutput(codes=codes, causal_embeddings=causal_embeddings)
        output.generation_embeddings = self._generation_embeddings(quantized, decoded)
        if self.config.embedding_decoder:
            output.reconstructed_embeddings = self.embedding_decoder(decoded)
        if stage == "quantization":
            losses = quantization_losses(
                self.config,
                vq_loss=vq_loss,
                causal_embeddings=causal_embeddings,
                generation_embeddings=output.generation_embeddings,
                reconstructed_embeddings=output.reconstructed_embeddings,
                target_embeddings=target_embeddings,
                image_features=self._project_image,
                temperature=self.temperature if self.config.text_tower else 1.0,
            )
            for name, value in losses.items():
                setattr(output, name, value)
        return output

    def _contrastive(self, causal_embeddings, input_ids, attention_mask, gather_features) -> SeedTokenizerOutput:
        if input_ids is None or len(input_ids) != len(causal_embeddings):
            given = "no input_ids" if input_ids is None else f"{len(input_ids)} texts"
            raise ValueError(f"Stage I needs one caption for each of {len(causal_embeddings)} images, got {given}.")
        image_features = self._project_image(causal_embeddings)
        text_features = self._text_features(input_ids, attention_mask)
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

    def freeze_for(self, stage: str) -> None:
        """Freezes what the paper freezes in `"contrastive"` (stage I) or `"quantization"` (stage II).

        Stage I trains the Q-Former, its queries, the norm after the ViT, both projections and the temperature. Stage
        II trains everything after the Q-Former. Frozen modules stay in eval mode even after `train()`, except the
        Q-Former of stage II with `teacher_dropout`, as in the authors' code.
        """
        if stage not in ("contrastive", "quantization"):
            raise ValueError(f"stage must be 'contrastive' or 'quantization', got {stage!r}.")
        stage_one, stage_two = self._parts("seeing", "matching"), self._parts("coding", "drawing")
        self.requires_grad_(False)
        if stage == "contrastive":
            self._require_text_tower()
            trained, frozen = stage_one, [self.vision_model, *stage_two]
        else:
            trained, frozen = stage_two, [self.vision_model] if self.config.teacher_dropout else stage_one
        for part in trained:
            part.requires_grad_(True)
        if stage == "contrastive":
            self.vision_model.requires_grad_(False)
            self.vision_model.post_layernorm.requires_grad_(True)
        self._frozen_modules = tuple(part for part in frozen if isinstance(part, nn.Module))
        self.train(self.training)

    def _parts(self, *roles: str) -> list[nn.Module | nn.Parameter]:
        """The modules and parameters of these roles that this model has."""
        return [getattr(self, name) for role in roles for name in self.PARTS[role] if hasattr(self, name)]

    def train(self, mode: bool = True):
        super().train(mode)
        self.finite_roles = set()
        for module in getattr(self, "_frozen_modules", ()):
            module.eval()
        return self


def _left_out(config: SeedTokenizerConfig) -> list[str]:
    """Patterns of the weights in a folder that a tokenizer of this configuration does without."""
    names = [r"language_model\."]  # of the whole model that it is a part of
    if not config.text_tower:
        names += [rf"{name}(\.|$)" for name in SeedTokenizer.PARTS["matching"]]
        names.append(r"qformer\.encoder\.layer\.\d+\.(intermediate|output)\.")
    if not config.embedding_decoder:
        names.append(r"embedding_decoder\.")
    return [rf"^(visual_tokenizer\.)?{name}" for name in names]


__all__ = ["SeedTokenizer", "SeedTokenizerOutput", "contrastive_loss"]
