"""Flash and flex attention: where they work, and a clear word where they do not."""

from typing import ClassVar


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


__all__ = ["FlashByPart"]
