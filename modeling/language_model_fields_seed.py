"""Fields of a whole model's configuration that are those of its language model."""

from .visual_vocabulary_seed import VisualVocabulary


class OfLanguageModel:
    """A field that `text_config` has: read, set and saved there, so that there is one value of it.

    Raises:
        ValueError: The visual tokens would have no place, or two meanings, with the value that is set.
    """

    def __set_name__(self, owner, name: str):
        self.name = name

    def __get__(self, config, owner=None):
        return self if config is None else getattr(config.text_config, self.name)

    def __set__(self, config, value):
        before = getattr(config.text_config, self.name)
        setattr(config.text_config, self.name, value)
        try:
            VisualVocabulary.of(config.text_config)
        except (TypeError, ValueError):
            setattr(config.text_config, self.name, before)
            raise


__all__ = ["OfLanguageModel"]
