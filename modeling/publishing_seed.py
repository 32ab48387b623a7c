"""What all SEED classes do when they are published on the Hub: private repositories, and a usable `auto_map`."""

from pathlib import Path
from typing import ClassVar

from transformers.configuration_utils import PreTrainedConfig


class PrivateByDefault:
    """Makes the repositories that `push_to_hub` creates private, unless told otherwise.

    The libraries' own default is a public repository. Where the package seed_hf is installed, `seed_hf.hub` adds a
    model card.
    """

    def push_to_hub(self, repo_id, *args, private=None, **kwargs):
        private = True if private is None else private
        return super().push_to_hub(repo_id, *args, private=private, **kwargs)  # type: ignore[misc] # a mix-in

    def save_pretrained(self, save_directory, *args, push_to_hub=False, **kwargs):
        if push_to_hub:
            kwargs["private"] = True if kwargs.get("private") is None else kwargs["private"]
        return super().save_pretrained(  # type: ignore[misc] # a mix-in
            save_directory, *args, push_to_hub=push_to_hub, **kwargs
        )


class PublishedModel(PrivateByDefault):
    """A model that says which options it takes when it is saved: diffusers asks the signature what it may pass on.

    Saved in shards, it takes the place of one that the folder holds in one file.
    """

    def save_pretrained(self, save_directory, *args, variant=None, max_shard_size=None, **kwargs):
        given = {"variant": variant, "max_shard_size": max_shard_size}
        given = {name: value for name, value in given.items() if value is not None}
        end = f".{variant}" if variant else ""
        index = Path(save_directory, f"model.safetensors.index{end}.json")
        before = index.is_file() and index.stat().st_mtime_ns
        super().save_pretrained(save_directory, *args, **given, **kwargs)
        if index.is_file() and index.stat().st_mtime_ns != before:
            # Of an earlier save. transformers would load it, and not the shards of this one.
            Path(save_directory, f"model{end}.safetensors").unlink(missing_ok=True)


class PublishedConfig(PrivateByDefault, PreTrainedConfig):
    """A configuration whose `config.json` names its remote code in the form that the Auto classes read.

    transformers takes every class with "Tokenizer" in its name for a text tokenizer and writes a pair of classes for
    it into `auto_map`. `AutoModel` cannot read such a pair.
    """

    def to_dict(self) -> dict:
        values = super().to_dict()
        if values.get("auto_map"):
            values["auto_map"] = {
                name: next(filter(None, found)) if isinstance(found, (list, tuple)) else found
                for name, found in values["auto_map"].items()
            }
        return values


class MoreAutoClasses:
    """A mix-in for configurations: `config.json` names more Auto classes than the one that transformers writes.

    `more_auto_classes` gives for each of them the one whose remote code it shares, and the class in that code, if it
    is another one, as `file.Class`.
    """

    more_auto_classes: ClassVar[dict[str, tuple[str, str | None]]] = {}

    def to_dict(self) -> dict:
        values = super().to_dict()  # type: ignore[misc] # a mix-in
        auto_map = values.get("auto_map") or {}
        for name, (written, other) in self.more_auto_classes.items():
            if written in auto_map and name not in auto_map:
                repository, mark, known = auto_map[written].rpartition("--")
                auto_map[name] = repository + mark + (other or known)
        return values


__all__ = ["MoreAutoClasses", "PrivateByDefault", "PublishedConfig", "PublishedModel"]
