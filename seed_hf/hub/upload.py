"""`push`: an artifact folder becomes one commit in a repository on the Hub, private unless told otherwise."""

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from seed_hf.artifacts.bundled import bundled_part
from seed_hf.artifacts.hub_ids import is_hub_id, names_repository
from seed_hf.artifacts.kinds import KINDS, kind_of
from seed_hf.artifacts.origins import base_model_of
from seed_hf.artifacts.publishable import PICKLES, files_of, made_of_files, other_form
from seed_hf.artifacts.whole import check_outside, problems, weights_outside
from seed_hf.files import read_json

from .card import write_card
from .facts import facts_of
from .front_matter import check_card
from .standalone import NOTICES, origins_on_record, write_notices, write_standalone


logger = logging.getLogger(__name__)
_OF_TRAINERS = "training_args.bin"  # which every Trainer saves beside the weights: it stays at home
_DRAFT = "[More Information Needed]"  # in the empty cards that peft and transformers save


@dataclass(frozen=True)
class PushReport:
    """What a push did, or with `dry_run` would do.

    Attributes:
        repo_id: Of the repository.
        repo_type: "model" or "dataset".
        kind: Of the artifact, from `kind_of`.
        files: Name in the repository -> size in bytes; -1 for a card and notices that a dry run has not written.
        left_out: Names in the folder that are not published.
        stale: Files that are in the repository and not in the folder. They stay; delete them by hand.
        removed: Weights from before that could be loaded in place of those sent: in one file, where shards were sent,
            or the index of shards. The same commit removes them.
        private: Whether the repository is private now; `None` after a dry run.
        url: Of the repository.
        commit: Hash of the commit; `None` after a dry run.
        changed: Whether there was anything new to commit.
    """

    repo_id: str
    repo_type: str
    kind: str
    files: dict[str, int]
    left_out: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    private: bool | None = None
    url: str | None = None
    commit: str | None = None
    changed: bool = False

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(max(size, 0) for size in self.files.values())


def push(
    folder: str | os.PathLike,
    repo_id: str,
    *,
    private: bool | None = True,
    dry_run: bool = False,
    include: Sequence[str] = (),
    revision: str | None = None,
    token: str | None = None,
) -> PushReport:
    """Publish an artifact folder in one commit: weights, processors, code, card and results.

    Only files that an artifact of the folder's kind is made of are sent, and those in `include`. The report names all
    others.

    A folder without a card, or with an empty one by another library, gets one first. Files that are already in the
    repository are not sent again: to resume an interrupted push, call it again. A bundled part is first written into a
    temporary folder, where it stands alone.

    Args:
        folder: Of any kind that `kind_of` knows. Pre-tokenized data become a data set repository.
        repo_id: "owner/name". Made if missing.
        private: Of a repository that is made. The visibility of an existing one stays.
        dry_run: List the files that would be sent, and change nothing.
        include: Names of further files and folders of the folder to send, such as "images/example.png".
        revision: Branch to commit to, made if missing.
        token: Of the Hub; by default that of `hf auth login` or the variable `HF_TOKEN`.

    Raises:
        ValueError: The folder is incomplete; weights, data or other files in it are damaged, no files of their own
            (links, pipes), pickles or secrets; its card is not valid, or its usage snippet fails. Nothing was sent.
        huggingface_hub.errors.HfHubHTTPError: The Hub refused.
    """
    if not is_hub_id(repo_id):
        raise ValueError(f"{repo_id!r} is not the name of a repository. Give owner/name.")
    folder = Path(folder)
    kind = kind_of(folder)
    _refuse_pickles(folder, *files_of(folder, include))
    with _standing_alone(folder, kind) as whole:
        _check_whole(whole, kind)
        if origins_on_record(whole) and not dry_run:
            write_notices(whole)
        files, left_out = files_of(whole, include)
        if not needs_card(whole):
            text = (whole / "README.md").read_text(encoding="utf-8")
            check_card(text, kind)
            _check_base(whole, kind, text)
        elif dry_run:
            files["README.md"] = -1
        else:
            write_card(whole, repo_id=repo_id, kind=kind, facts=facts_of(folder))
            files, left_out = files_of(whole, include)
        if dry_run:
            files = {**dict.fromkeys(NOTICES if origins_on_record(whole) else (), -1), **files}
            return PushReport(repo_id, KINDS[kind].repo_type, kind, dict(sorted(files.items())), tuple(left_out))
        return upload_folder(whole, repo_id, kind, files, left_out, private=private, revision=revision, token=token)


def _refuse_pickles(folder: Path, files: dict[str, int], left_out: list[str]) -> None:
    names = [*files, *(name for name in left_out if os.path.basename(name) != _OF_TRAINERS)]
    if pickles := [name for name in names if name.lower().endswith(PICKLES)]:
        raise ValueError(
            f"{folder / pickles[0]}: files of this format can run code when they are opened, and are not published. "
            "Save weights as safetensors (save_pretrained does) and remove the file."
        )


def needs_card(folder: Path) -> bool:
    """Whether a folder has no card, or just the empty one of a library."""
    card = folder / "README.md"
    return not card.is_file() or _DRAFT in card.read_text(encoding="utf-8")


def _check_base(folder: Path, kind: str, card: str) -> None:
    """Refuse an adapter's card that does not name the base model: it may name a folder of the author's machine."""
    if kind == "adapter" and (base := base_model_of(folder)) not in card:
        raise ValueError(f"{folder}: its card does not name its base model {base}; write it again by seed-hf card.")


def _check_whole(folder: Path, kind: str) -> None:
    for name in made_of_files(folder, kind):
        if name.endswith(".json"):
            read_json(folder / name)
    if wrong := problems(folder, kind):
        raise ValueError(f"{folder}: not a whole {KINDS[kind].words}: {'; '.join(wrong)}.")
    if kind == "adapter" and not names_repository(base := base_model_of(folder)):
        raise ValueError(
            f"{folder}: its base model is {base!r}, which nobody else has. Publish the base first and set "
            "base_model_name_or_path in adapter_config.json to the id of its repository."
        )


@contextlib.contextmanager
def _standing_alone(folder: Path, kind: str) -> Iterator[Path]:
    if not (weights_outside(folder) or bundled_part(folder)):
        yield folder
        return
    if not bundled_part(folder):
        check_outside(folder)
    with tempfile.TemporaryDirectory() as place:
        # the folder's name is the card's default title
        whole = Path(place) / folder.resolve().name
        write_standalone(folder, kind, whole)
        yield whole


def upload_folder(
    folder: Path,
    repo_id: str,
    kind: str,
    files: dict[str, int],
    left_out: list[str],
    *,
    private: bool | None,
    revision: str | None,
    token: str | None,
    message: str | None = None,
) -> PushReport:
    """Send files of a folder in one commit. Files that the Hub already has are not sent again.

    Args:
        folder: That holds the files.
        repo_id: "owner/name". Made if missing.
        kind: From `kind_of`.
        files, left_out: From `files_of`.
        private, revision, token: As in `push`.
        message: Of the commit. Default: "Upload" and the kind.
    """
    private = private is not False
    repo_type, files = KINDS[kind].repo_type, dict(sorted(files.items()))
    api = HfApi(token=token)
    url = str(api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True))
    if revision is not None:
        api.create_branch(repo_id, repo_type=repo_type, branch=revision, exist_ok=True)
    before = api.repo_info(repo_id, repo_type=repo_type, revision=revision)
    if private and not before.private:
        logger.warning("%s exists already and is public: everyone can read what is pushed there.", repo_id)
    there = {sibling.rfilename for sibling in before.siblings or ()}
    removed = sorted(there & set(map(other_form, files)) - set(files))
    changes = [*(CommitOperationAdd(name, folder / name) for name in files), *map(CommitOperationDelete, removed)]
    commit = api.create_commit(
        repo_id,
        changes,
        commit_message=message or f"Upload {KINDS[kind].words}",
        repo_type=repo_type,
        revision=revision,
    )
    return PushReport(
        repo_id,
        repo_type,
        kind,
        files,
        tuple(left_out),
        stale=tuple(sorted(there - set(files) - {".gitattributes", *removed})),
        removed=tuple(removed),
        private=bool(before.private),
        url=url,
        commit=commit.oid,
        changed=commit.oid != before.sha,
    )
