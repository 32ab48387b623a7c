"""`push_to_hub` of the SEED classes: what `save_pretrained` writes, with a card, in one commit."""

import tempfile
from pathlib import Path

from .artifact import files_of, kind_of
from .card import write_card
from .upload import PushReport, upload_folder


_WITH_CARD = ("SeedTokenizer", "SeedForCausalLM", "SeedForConditionalGeneration", "SeedImagePipeline")


def has_card(thing) -> bool:
    """Whether it is an artifact of its own, and not a part of one such as a processor."""
    return any(cls.__name__ in _WITH_CARD for cls in type(thing).__mro__)


def push_object(
    thing,
    repo_id: str,
    *,
    private: bool = True,
    revision: str | None = None,
    token: str | None = None,
    commit_message: str | None = None,
    **save_options,
) -> PushReport:
    """Save a model or pipeline and publish it with a card from the template of its kind.

    The usage snippet is shown and not run: it needs the processor, which is pushed on its own. To publish results and
    a training record too, save into a folder, `write_card`, and `push`.

    Args:
        thing: A `SeedTokenizer`, `SeedForConditionalGeneration`, `SeedForCausalLM` or `SeedImagePipeline`.
        save_options: Of `save_pretrained`: `max_shard_size` ...

    Raises:
        TypeError: Options of the libraries' `push_to_hub` that this one does not have.
    """
    if unknown := sorted({"create_pr", "tags", "subfolder", "commit_description"} & set(save_options)):
        raise TypeError(f"push_to_hub of the SEED classes does not take {', '.join(unknown)}; use seed_hf.hub.push.")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / repo_id.rpartition("/")[2]
        thing.save_pretrained(folder, **save_options)
        kind = kind_of(folder)
        write_card(folder, repo_id=repo_id, run_snippet=False)
        files, left_out = files_of(folder)
        return upload_folder(
            folder, repo_id, kind, files, left_out,
            private=private, revision=revision, token=token, message=commit_message,
        )  # fmt: skip
