"""Whether a processor and a language model belong together. Without diffusers: what draws nothing asks this, too."""


def check_processor(processor, text_config) -> None:
    """Raises `ValueError` if a processor has another visual vocabulary, or writes other prompts, than the language
    model's configuration says."""
    if differing := processor.vocabulary.differences(text_config):
        theirs = {name: getattr(processor.vocabulary, name) for name in differing}
        ours = {name: getattr(text_config, name) for name in differing}
        raise ValueError(
            f"The processor's text tokenizer has {theirs}, the language model {ours}. They do not belong together: "
            "load the processor from the folder of the language model."
        )
    ours = text_config.prompt_format
    if processor.prompt_format != ours:
        raise ValueError(
            f"The processor writes prompts in the format {processor.prompt_format!r}, but the language model reads "
            f"{ours!r}. Make it with SeedProcessor(..., prompt_format={ours!r})."
        )


__all__ = ["check_processor"]
