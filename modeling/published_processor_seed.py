"""What a processor does when it is saved."""

from transformers.processing_utils import ProcessorMixin

from .publishing_seed import PrivateByDefault


class PublishedProcessor(PrivateByDefault, ProcessorMixin):
    """A processor that saving leaves as it was.

    It is also the one class between a processor and this package's mix-in: transformers takes the first base of a
    processor's class for one that has all its methods.
    """

    def save_pretrained(self, save_directory, *args, **kwargs):
        parts = [self, *(getattr(self, name) for name in self.get_attributes())]
        plain = [part for part in parts if "auto_map" not in vars(part)]
        saved = super().save_pretrained(save_directory, *args, **kwargs)
        for part in plain:  # transformers leaves there where the code is, for the file
            vars(part).pop("auto_map", None)
        return saved


__all__ = ["PublishedProcessor"]
