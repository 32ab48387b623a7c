"""`push_to_hub` of the SEED classes: what `save_pretrained` writes, with a card, in one commit."""

import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, RevisionNotFoundError

from seed_hf.artifacts.kinds import kind_of, kind_of_object
from seed_hf.artifacts.publishable import files_of

from .card import write_card
from .upload import PushReport, needs_card, upload_folder


logger = logging.getLogger(__name__)


def has_card(thing: Any) -> bool:
    """Whether an object is an artifact of its own, with a card. A processor, for instance, is only a part of one."""
    return kind_of_object(thing) is not None


def push_object(
    thing: Any,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    commit_message: str | None = None,
    **save_options,
) -> PushReport:
    """Save a model or pipeline and publish it with a card from the template of its kind.

    The card shows the usage snippet without running it: it needs the processor, which is pushed separately. To publish
    results and a training record, too, save into a folder, call `write_card`, then `push`.

    Args:
        thing: A `SeedTokenizer`, `SeedForConditionalGeneration`, `SeedForCausalLM` or `SeedImagePipeline`.
        repo_id: "owner/name", or "name" alone: the default owner is the token's user.
        private: Of a repository that is made: `False` for a public one. The visibility of an existing one stays.
        revision: Branch to commit to, made if missing.
        token: Of the Hub; by default that of `hf auth login` or the variable `HF_TOKEN`.
        commit_message: Default: "Upload" and the kind.
        save_options: Of `save_pretrained`: `max_shard_size` ...

    Raises:
        TypeError: An option of the libraries' `push_to_hub` that this one does not take.
    """
    asked = {name: save_options.pop(name, None) for name in ("create_pr", "tags", "subfolder", "commit_description")}
    if unknown := sorted(name for name, value in asked.items() if value):
        raise TypeError(f"push_to_hub of the SEED classes does not take {', '.join(unknown)}; use seed_hf.hub.push.")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / repo_id.rpartition("/")[2]
        thing.save_pretrained(folder, **save_options)
        kind = kind_of(folder)
        # `repo_id` may lack the owner; the token's user is the default owner
        repo_id = HfApi(token=token).create_repo(repo_id, private=private is not False, exist_ok=True).repo_id
        _fetch_card(folder, repo_id, revision, token)
        if needs_card(folder):
            write_card(folder, repo_id=repo_id, run_snippet=False)
        files, left_out = files_of(folder)
        if left_out:
            logger.warning("%s: left out %s", repo_id, ", ".join(left_out))
        return upload_folder(
            folder, repo_id, kind, files, left_out,
            private=private, revision=revision, token=token, message=commit_message,
        )  # fmt: skip


def _fetch_card(folder: Path, repo_id: str, revision: str | None, token: str | None) -> None:
    """Fetch the card that is already in the repository, so that it is not replaced."""
    try:
        shutil.copy(hf_hub_download(repo_id, "README.md", revision=revision, token=token), folder / "README.md")
    except (EntryNotFoundError, RevisionNotFoundError):
        pass
