"""Flash attention: where it works, and a clear word where it does not."""

from typing import ClassVar


class FlashByPart:
    """A mix-in for a model of which some parts have no flash attention: the Q-Former's causal mask is explicit."""

    flash_parts: ClassVar[str]  # how to ask for it where it works

    def _check_and_adjust_attn_implementation(self, attn_implementation, *args, **kwargs):
        try:
            return super()._check_and_adjust_attn_implementation(  # type: ignore[misc] # a mix-in
                attn_implementation, *args, **kwargs
            )
        except ValueError as error:
            if "flash" not in str(attn_implementation):
                raise
            raise ValueError(
                f"{type(self).__name__} does not take {attn_implementation!r} as a whole: the Q-Formers need masks "
                f"that it lacks. Ask for it by part: attn_implementation={self.flash_parts}."
            ) from error


__all__ = ["FlashByPart"]
