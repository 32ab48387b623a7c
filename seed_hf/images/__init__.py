"""Reads the images that users bring: any common file in, an upright RGB image on white out."""

from .loading import FORMATS, MAX_PIXELS, SeedImageError, load_image, open_image


__all__ = ["FORMATS", "MAX_PIXELS", "SeedImageError", "load_image", "open_image"]
