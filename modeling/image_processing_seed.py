"""From images to the pixel values that the SEED tokenizer reads."""

import base64
import io
import os
from collections.abc import Sequence

import numpy as np
import torch
from huggingface_hub import get_session
from PIL import Image
from transformers.feature_extraction_utils import BatchFeature
from transformers.image_processing_backends import PilBackend
from transformers.image_utils import (
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
    ChannelDimension,
    PILImageResampling,
    infer_channel_dimension_format,
)

from .image_preparation_seed import eight_bit_levels, upright_rgb
from .publishing_seed import PrivateByDefault


class SeedImageProcessor(PrivateByDefault, PilBackend):
    r"""Resizes images to a square by bicubic interpolation, without cropping, and normalises them with CLIP's mean
    and standard deviation, as BLIP-2 does. Needs Pillow and numpy, not torchvision.

    Images are PIL images of any mode but floating point, numpy arrays, torch tensors, paths, addresses or base64. All
    are prepared as the command line and the jobs prepare files (`image_preparation_seed.py`): turned as the EXIF says,
    transparency on white because the colour under it is arbitrary, the current frame of an animation.

    Arrays and tensors are gray, RGB or RGBA, with channels first or last; where both could be, first, as in
    transformers, unless `input_data_format` says otherwise. Integers count as 0..255, but uint16 as 0..65535. A
    floating-point image counts as 0..1 if no value exceeds 1, else as 0..255, and is rounded to 8 bits. `do_rescale`
    says whether the *result* is scaled to 0..1; for a floating-point image that is there already, it changes nothing.

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
    def from_pretrained(cls, pretrained_model_name_or_path, *args, backend: str | None = None, **kwargs):
        """As in transformers.

        Args:
            pretrained_model_name_or_path: Folder or Hub id.
            backend (`str`, *optional*): "pil", which is the only one.
            args, kwargs: As in transformers.

        Raises:
            ValueError: Another backend.
        """
        if backend not in (None, "pil"):
            raise ValueError(f"backend must be 'pil', got {backend!r}: {cls.__name__} prepares images with Pillow.")
        return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)

    @classmethod
    def for_tokenizer(cls, config) -> "SeedImageProcessor":
        """The default image processor of a tokenizer: the image size of its image encoder, and the interpolation of
        the authors' scripts, bicubic for SEED-1 and bilinear for SEED-2, whose codes SEED-LLaMA learned.

        Args:
            config ([`SeedTokenizerConfig`]): The tokenizer's configuration.
        """
        size, bilinear = config.vision_config.image_size, config.generation_target == "image"
        resample = PILImageResampling.BILINEAR if bilinear else cls.resample
        return cls(size={"height": size, "width": size}, resample=resample)

    def preprocess(self, images, *args, **kwargs) -> BatchFeature:
        """As in transformers; an option that is unknown, or would change nothing, is an error.

        Args:
            images: As of a call.
            args, kwargs: The options of a call.

        Raises:
            TypeError: An unknown option.
            ValueError: An option that these images cannot have, or that another one would have to switch on.
        """
        _check_options(kwargs, self)
        return super().preprocess(images, *args, **kwargs)

    def fetch_images(self, image_url_or_urls):
        """Opens paths, addresses and base64 without converting them, unlike transformers, which drops transparency."""
        image = image_url_or_urls
        if isinstance(image, str):
            return _opened(image)
        if isinstance(image, Sequence) and not isinstance(image, list | tuple | bytes):
            image = list(image)  # a column of `datasets`
        image = super().fetch_images(image)
        return image[..., None] if getattr(image, "ndim", None) == 2 else image  # gray without a channel axis

    def _prepare_image_like_inputs(self, images, *args, expected_ndims: int = 3, **kwargs) -> list[np.ndarray]:
        prepared = []
        for image in self._prepare_images_structure(images, expected_ndims=expected_ndims):
            try:
                prepared.append(self.process_image(image, *args, **kwargs))
            except ValueError as error:
                raise ValueError(f"Image {len(prepared)}: {error}") from error
        return prepared

    def process_image(
        self,
        image,
        do_convert_rgb=True,
        input_data_format=None,
        do_rescale=True,
        do_resize=False,
        size=None,
        resample=None,
        **kwargs,
    ) -> np.ndarray:
        """One image as uint8 `(3, height, width)`.

        Args:
            image: PIL image, numpy array or torch tensor.
            do_convert_rgb: `False` leaves a PIL image as it is.
            input_data_format: `"channels_first"` or `"channels_last"`, for arrays and tensors.
            do_rescale: If `False`, a floating-point image in 0..1 is returned in 0..1.
            do_resize, size, resample: Whether to resize, to what, and how.
            kwargs: Ignored; transformers passes all settings.
        """
        is_scaled = False
        if not isinstance(image, Image.Image):
            values = _numpy(image)
            levels = eight_bit_levels(values)
            is_scaled = not do_rescale and values.dtype.kind == "f" and values.max() <= 1
            image = _image_of(levels, input_data_format)
        if do_convert_rgb:
            image = upright_rgb(image)
            if do_resize and size.height and size.width and isinstance(resample, int):
                # Before it becomes an array, which takes more memory.
                image = image.resize((size.width, size.height), resample)
        levels = np.array(image)
        levels = levels[None] if levels.ndim == 2 else np.moveaxis(levels, -1, 0)
        return (levels * (1 / 255)).astype(np.float32) if is_scaled else levels

    def resize(self, image, size, *args, **kwargs):
        if image.shape[-2:] == (size.height, size.width):
            return image
        return super().resize(image, size, *args, **kwargs)

    def _preprocess(self, images, size, return_tensors=None, **kwargs):
        if not images:
            values = np.zeros((0, 3, size.height, size.width), dtype=np.float32)
            return BatchFeature({"pixel_values": values}, tensor_type=return_tensors)
        return super()._preprocess(images, size=size, return_tensors=return_tensors, **kwargs)


def _check_options(given: dict, processor: SeedImageProcessor) -> None:
    known = processor.valid_kwargs.__annotations__
    if unknown := sorted(given.keys() - known.keys() - {"image_like_kwargs"}):
        raise TypeError(f"SeedImageProcessor has no option {', '.join(unknown)}. It has {', '.join(sorted(known))}.")
    wanted = {name: value for name, value in given.items() if value is not None}
    for name, switch in (("crop_size", "do_center_crop"), ("pad_size", "do_pad")):
        if name in wanted and not wanted.get(switch, getattr(processor, switch, False)):
            raise ValueError(f"{name} needs {switch}=True.")
    if (
        str(getattr(wanted.get("data_format"), "value", wanted.get("data_format", "channels_first")))
        != "channels_first"
    ):
        raise ValueError(f"pixel_values are channels_first, as the model reads them; got {wanted['data_format']!r}.")
    if str(wanted.get("device", "cpu")) != "cpu":
        raise ValueError(f"Images are prepared on the CPU, got device={wanted['device']!r}. Move what is returned.")
    if "image_seq_length" in wanted:
        raise ValueError("image_seq_length has no use here: an image has num_query_tokens codes, of the processor.")


def _opened(source: str) -> Image.Image:
    if source.startswith(("http://", "https://")):
        answer = get_session().get(source, follow_redirects=True)
        if answer.status_code >= 400:
            raise ValueError(f"{source}: the address answers with status {answer.status_code}.")
        return Image.open(io.BytesIO(answer.content))
    if os.path.isfile(source):
        return Image.open(source)
    try:
        encoded = source.split(",", 1)[1] if source.startswith("data:image/") else source
        return Image.open(io.BytesIO(base64.decodebytes(encoded.encode())))
    except Exception as error:
        given = source if len(source) <= 80 else f"{source[:77]}..."
        raise ValueError(f"{given}: neither an existing file nor an address nor an image in base64.") from error


def _numpy(image) -> np.ndarray:
    if isinstance(image, torch.Tensor):
        image = image.detach().cpu()
        return (image.float() if image.is_floating_point() else image).numpy()
    return np.asarray(image)


def _image_of(levels: np.ndarray, layout) -> Image.Image:
    """uint8 values of one image with a channel axis as a PIL image."""
    layout = layout or infer_channel_dimension_format(levels, num_channels=(1, 3, 4))
    if layout == ChannelDimension.FIRST:
        levels = np.moveaxis(levels, 0, -1)
    if levels.shape[-1] not in (1, 3, 4):
        raise ValueError(f"an image has 1, 3 or 4 channels, got {levels.shape[-1]}.")
    return Image.fromarray(np.ascontiguousarray(levels[..., 0] if levels.shape[-1] == 1 else levels))


__all__ = ["SeedImageProcessor"]
