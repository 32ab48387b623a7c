"""LoRA on a language model, with peft."""

from seed_hf.modeling.extension_seed import embedding_names
from seed_hf.modeling.modeling_seed_text import LANGUAGE_MODELS, family_of
from seed_hf.modeling.visual_vocabulary_seed import VisualVocabulary


def add_lora(
    model,
    *,
    r: int,
    alpha: int,
    dropout: float,
    target_modules: list[str] | None = None,
    token_ids: list[int] | None = None,
    norms: bool = False,
    embeddings: bool = False,
):
    """A `peft.PeftModel` in which LoRA and some rows of the vocabulary are trained.

    Args:
        model: A language model, or a `SeedForConditionalGeneration`, whose language model alone gets LoRA.
        r, alpha, dropout: Rank, scale and dropout of LoRA.
        target_modules: Names of the linear layers that get LoRA. Default: all of a block of the model's family.
        token_ids: Rows of the vocabulary that are trained, of the embedding and of the output layer. Default: `<img>`,
            `</img>` and the codes; none of a plain language model.
        norms: Whether the normalisation layers of the model's family are trained, too.
        embeddings: Whether all rows of the vocabulary are trained, and not some.

    Raises:
        ValueError: The vocabulary has no such row, or all rows are trained anyway.
    """
    from peft import LoraConfig, get_peft_model  # takes seconds to import

    config = model.config.get_text_config()
    has_codes = config.model_type in LANGUAGE_MODELS
    if embeddings and token_ids is not None:
        raise ValueError("lora_token_ids is not used: with lora_embeddings all rows of the vocabulary are trained.")
    if embeddings:
        token_ids = list(range(config.vocab_size))
    elif token_ids is None:
        token_ids = VisualVocabulary.of(config).rows() if has_codes else []
    if wrong := [token for token in token_ids if not 0 <= token < config.vocab_size]:
        raise ValueError(f"lora_token_ids must lie in 0..{config.vocab_size - 1}, got {wrong[:5]}.")
    is_whole_model = hasattr(model, "visual_tokenizer")
    if target_modules is None:
        target_modules = list(family_of(config).linear_layers)
    targets: list[str] | str = list(target_modules)
    if is_whole_model:  # its visual tokenizer has layers of the same names
        targets = rf"language_model\..*\.({'|'.join(target_modules)})"
    saved = ["visual_projection"] if has_codes and config.visual_embedding == "projected" else []
    if norms:
        within = "language_model." if is_whole_model else ""
        names = [name for name, _ in model.named_modules() if name.startswith(within)]
        saved += [name for name in names if name.rpartition(".")[-1] in family_of(config).norms]
    # An output layer that is not tied to the embedding has rows of its own to train.
    first, last = (name.removesuffix(".weight").rpartition(".")[-1] for name in embedding_names(model))
    layers = [first] if config.tie_word_embeddings else [first, last]
    if embeddings and not config.tie_word_embeddings:
        saved, token_ids = [*saved, *layers], []
    lora = LoraConfig(
        task_type=None if is_whole_model else "CAUSAL_LM",
        r=r,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=targets,
        trainable_token_indices={layer: token_ids for layer in layers} if token_ids else None,
        modules_to_save=saved or None,
    )
    return get_peft_model(model, lora)
