"""LoRA weights of the UNet, as for Stable Diffusion."""

from diffusers.loaders import StableDiffusionLoraLoaderMixin
from diffusers.utils import logging


logger = logging.get_logger(__name__)


class UNetLora(StableDiffusionLoraLoaderMixin):
    """`load_lora_weights` and what belongs to it, as a mix-in of the pipeline.

    Weights for the text encoder are left out with a warning: SEED draws from codes, and no text encoder runs.
    """

    _lora_loadable_modules = ["unet"]

    @classmethod
    def load_lora_into_text_encoder(cls, state_dict, *args, **kwargs) -> None:
        """Warns if there are weights for the text encoder.

        Args:
            state_dict: Of the LoRA.
            args, kwargs: As in diffusers.
        """
        names = [name for name in state_dict if name.startswith(f"{cls.text_encoder_name}.")]
        if names:
            logger.warning(
                f"{len(names)} of the LoRA's tensors are for a text encoder, which SEED does not use. They are left "
                "out; the UNet's are loaded."
            )

    def fuse_lora(self, components: list[str] | None = None, **kwargs) -> None:
        """As in diffusers, for the UNet.

        Args:
            components: `["unet"]`, which is the default.
            kwargs: As in diffusers: `lora_scale`, `safe_fusing`, `adapter_names`.
        """
        super().fuse_lora(components=["unet"] if components is None else components, **kwargs)

    def unfuse_lora(self, components: list[str] | None = None, **kwargs) -> None:
        """As in diffusers, for the UNet.

        Args:
            components: `["unet"]`, which is the default.
            kwargs: As in diffusers.
        """
        super().unfuse_lora(components=["unet"] if components is None else components, **kwargs)


__all__ = ["UNetLora"]
