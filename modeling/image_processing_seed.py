"""From images to the pixel values that the SEED tokenizer reads."""

from PIL import Image
from transformers.image_processing_backends import PilBackend
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD, PILImageResampling

from .publishing_seed import PrivateByDefault


class SeedImageProcessor(PrivateByDefault, PilBackend):
    r"""Resizes images to a square by bicubic interpolation, without cropping, and normalises them with CLIP's mean
    and standard deviation, as BLIP-2 does. Needs Pillow and numpy, not torchvision.

    Transparent pixels become white: the colour under them is arbitrary, often black.

    Args:
        size (`dict[str, int]`, *optional*, defaults to 224 by 224): The size that the image
            encoder was built for.
        kwargs: The other settings of transformers' image processors: `resample`, `image_mean`, `image_std`,
            `do_resize`, `do_rescale`, `do_normalize`, `do_convert_rgb`.

    Returns of a call: `pixel_values` of shape `(images, 3, height, width)`.
    """

    resample = PILImageResampling.BICUBIC
    image_mean = OPENAI_CLIP_MEAN
    image_std = OPENAI_CLIP_STD
    size = {"height": 224, "width": 224}
    default_to_square = True
    do_resize = True
    do_rescale = True
    do_normalize = True
    do_convert_rgb = True
    model_input_names = ["pixel_values"]
    _auto_class = "AutoImageProcessor"

    @classmethod
    def for_tokenizer(cls, config) -> "SeedImageProcessor":
        """The default image processor of a tokenizer: all defaults, and the image size of its image encoder.

        Args:
            config ([`SeedTokenizerConfig`]): The tokenizer's configuration.
        """
        size = config.vision_config.image_size
        return cls(size={"height": size, "width": size})

    def convert_to_rgb(self, image, *args, **kwargs):
        if isinstance(image, Image.Image) and image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return super().convert_to_rgb(image, *args, **kwargs)


__all__ = ["SeedImageProcessor"]
