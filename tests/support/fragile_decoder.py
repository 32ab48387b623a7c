"""A decoder that dies of one image. Worker processes import this file, so it imports little."""

import os
from dataclasses import dataclass

from seed_hf.data.jobs.decoding import ImageDecoder


@dataclass(frozen=True)
class FragileDecoder(ImageDecoder):
    """Ends its process at b"poison", as a codec with a bug would."""

    def __call__(self, images):
        if b"poison" in images:
            os._exit(1)
        return super().__call__(images)
