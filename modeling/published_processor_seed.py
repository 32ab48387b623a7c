"""What a processor does when it is saved and loaded."""

from transformers.processing_utils import ProcessorMixin

from .prompts_seed import written_chat_template
from .publishing_seed import PrivateByDefault


class PublishedProcessor(PrivateByDefault, ProcessorMixin):
    """A processor that saving leaves as it was.

    It is also the one class between a processor and this package's mix-in: transformers takes the first base of a
    processor's class for one that has all its methods.
    """

    @classmethod
    def from_args_and_dict(cls, args, processor_dict, **kwargs):
        """As in transformers; the template that was written from the folder's prompts does not outlive them.

        Args:
            args, processor_dict, kwargs: As in transformers.
        """
        caption, question = (processor_dict.get(name) for name in ("caption_prompt", "question_prompt"))
        written = written_chat_template(caption, question, processor_dict.get("prompt_format", "seed"))
        if processor_dict.get("chat_template") == written:
            processor_dict = {name: value for name, value in processor_dict.items() if name != "chat_template"}
        return super().from_args_and_dict(args, processor_dict, **kwargs)

    def save_pretrained(self, save_directory, *args, **kwargs):
        parts = [self, *(getattr(self, name) for name in self.get_attributes())]
        plain = [part for part in parts if "auto_map" not in vars(part)]
        saved = super().save_pretrained(save_directory, *args, **kwargs)
        for part in plain:  # transformers leaves there where the code is, for the file
            vars(part).pop("auto_map", None)
        return saved


__all__ = ["PublishedProcessor"]
