"""`push_to_hub` of the SEED classes: what `save_pretrained` writes, with a card, in one commit."""

import tempfile
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, RevisionNotFoundError

from seed_hf.artifacts.kinds import files_of, kind_of

from .card import write_card
from .upload import PushReport, needs_card, upload_folder


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
    asked = {name: save_options.pop(name, None) for name in ("create_pr", "tags", "subfolder", "commit_description")}
    if unknown := sorted(name for name, value in asked.items() if value):
        raise TypeError(f"push_to_hub of the SEED classes does not take {', '.join(unknown)}; use seed_hf.hub.push.")
    # the name may come without its owner, who is whose token it is
    repo_id = HfApi(token=token).create_repo(repo_id, private=private, exist_ok=True).repo_id
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / repo_id.rpartition("/")[2]
        thing.save_pretrained(folder, **save_options)
        kind = kind_of(folder)
        _fetch_card(folder, repo_id, revision, token)
        if needs_card(folder):
            write_card(folder, repo_id=repo_id, run_snippet=False)
        files, left_out = files_of(folder)
        return upload_folder(
            folder, repo_id, kind, files, left_out,
            private=private, revision=revision, token=token, message=commit_message,
        )  # fmt: skip


def _fetch_card(folder: Path, repo_id: str, revision: str | None, token: str | None) -> None:
    """The card that is in the repository already: what someone wrote there is not replaced."""
    try:
        hf_hub_download(repo_id, "README.md", revision=revision, token=token, local_dir=folder)
    except (EntryNotFoundError, RevisionNotFoundError):
        pass
