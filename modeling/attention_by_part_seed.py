"""The attention implementation of a model's parts: flash and flex where they work, and each as it was chosen."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from transformers.configuration_utils import PreTrainedConfig


class FlashByPart:
    """A mix-in for a model of which a part has no flash and flex attention: the Q-Former's causal mask is explicit."""

    flash_parts: ClassVar[str]  # how to ask for it where it works

    def _check_and_adjust_attn_implementation(self, attn_implementation, *args, **kwargs):
        try:
            return super()._check_and_adjust_attn_implementation(  # type: ignore[misc] # a mix-in
                attn_implementation, *args, **kwargs
            )
        except ValueError as error:
            if not any(kernel in str(attn_implementation) for kernel in ("flash", "flex")):
                raise
            raise ValueError(
                f"{type(self).__name__} does not take {attn_implementation!r} as a whole: the Q-Formers need masks "
                f"that it lacks. Ask for it by part: attn_implementation={self.flash_parts}, say."
            ) from error


@contextmanager
def attention_kept(*parts: PreTrainedConfig | None) -> Iterator[None]:
    """Each part, and what is within it, keeps its attention implementation.

    A configuration that takes others as its parts sets theirs to its own, which is none when it is made. Those of a
    model that runs would be without one, and its attention no longer causal.

    Args:
        parts: Configurations; `None` among them is left out.
    """
    before = [(config, config._attn_implementation) for part in parts if part is not None for config in _within(part)]
    try:
        yield
    finally:
        for config, implementation in before:
            config._attn_implementation_internal = implementation  # the setter goes down into the parts


def _within(config: PreTrainedConfig) -> Iterator[PreTrainedConfig]:
    yield config
    for name in config.sub_configs:
        if isinstance(part := getattr(config, name, None), PreTrainedConfig):
            yield from _within(part)


__all__ = ["FlashByPart", "attention_kept"]
