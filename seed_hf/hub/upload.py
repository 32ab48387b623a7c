"""`push`: an artifact folder becomes one commit in a repository on the Hub, private unless told otherwise."""

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.utils import validate_repo_id

from seed_hf.artifacts.kinds import files_of, kind_of, problems, read_json, weights_outside

from .card import write_card
from .facts import bundled_name, facts_of
from .front_matter import check_card, is_hub_id
from .standalone import write_standalone


logger = logging.getLogger(__name__)
_DRAFT = "[More Information Needed]"  # in the drafts of cards that peft and transformers save; nobody's words


@dataclass(frozen=True)
class PushReport:
    """What a push did, or with `dry_run` would do.

    Attributes:
        repo_id, repo_type, kind: Where it goes, "model" or "dataset", and what it is.
        files: Name in the repository -> size in bytes. -1 is a card that a dry run has not written.
        left_out: Names in the folder that are not published.
        stale: Files that the repository has from before and the folder has not. They stay; delete them by hand.
        private: Of the repository as it is now, which an existing one may not be; `None` after a dry run.
        url: Of the repository.
        commit: Of the files; `None` after a dry run.
        changed: Whether there was anything new to commit.
    """

    repo_id: str
    repo_type: str
    kind: str
    files: dict[str, int]
    left_out: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
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
    private: bool = True,
    dry_run: bool = False,
    revision: str | None = None,
    token: str | None = None,
) -> PushReport:
    """Publish an artifact folder in one commit: weights, processors, code, card and results.

    A folder without a card, or with one of the libraries' drafts, gets one first. What is in the repository already is
    not sent again, so an interrupted push goes on where it was when it is called again. A bundled part is written into
    a temporary folder first, where it stands alone.

    Args:
        folder: Anything that `kind_of` knows. Pre-tokenized data become a data set repository.
        repo_id: "owner/name". Made if it is not there.
        private: Of a repository that is made. The visibility of one that exists is never changed.
        dry_run: Only say which files would go, and touch nothing.
        revision: Branch to commit to, made if it is not there.
        token: Of the Hub; by default the one that `hf auth login` or the variable `HF_TOKEN` left.

    Raises:
        ValueError: The folder is incomplete or holds what is not to be published (symbolic links, pickles); its card
            is not valid or its snippet fails. Nothing has been sent then.
        huggingface_hub.errors.HfHubHTTPError: The Hub refused.
    """
    if not is_hub_id(repo_id):
        raise ValueError(f"{repo_id!r} is not the name of a repository. Give owner/name.")
    validate_repo_id(repo_id)
    folder = Path(folder)
    kind = kind_of(folder)
    with _standing_alone(folder, kind) as whole:
        _check_whole(whole, kind)
        files, left_out = files_of(whole)
        if not needs_card(whole):
            text = (whole / "README.md").read_text(encoding="utf-8")
            check_card(text, kind)
            _check_base(whole, kind, text)
        elif dry_run:
            files["README.md"] = -1
        else:
            write_card(whole, repo_id=repo_id, kind=kind, facts=facts_of(folder))
            files, left_out = files_of(whole)
        if dry_run:
            return PushReport(repo_id, _repo_type(kind), kind, dict(sorted(files.items())), tuple(left_out))
        return upload_folder(whole, repo_id, kind, files, left_out, private=private, revision=revision, token=token)


def needs_card(folder: Path) -> bool:
    """Whether a folder has no card, or just a library's draft of one."""
    card = folder / "README.md"
    return not card.is_file() or _DRAFT in card.read_text(encoding="utf-8")


def _check_base(folder: Path, kind: str, card: str) -> None:
    """An adapter's card that was written before its base was published names a folder of someone's machine."""
    base = read_json(folder / "adapter_config.json")["base_model_name_or_path"] if kind == "adapter" else ""
    if base not in card:
        raise ValueError(f"{folder}: its card does not name its base model {base}; write it again by seed-hf card.")


def _check_whole(folder: Path, kind: str) -> None:
    if wrong := problems(folder, kind):
        raise ValueError(f"{folder}: not a whole {kind.replace('_', ' ')}: {'; '.join(wrong)}.")
    if kind == "adapter":
        base = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
        if base is None or not is_hub_id(base) or Path(base).exists():
            raise ValueError(
                f"{folder}: its base model is {base!r}, which nobody else has. Publish the base first and set "
                "base_model_name_or_path in adapter_config.json to the id of its repository."
            )


@contextlib.contextmanager
def _standing_alone(folder: Path, kind: str) -> Iterator[Path]:
    if not (weights_outside(folder) or bundled_name(folder)):
        yield folder
        return
    with tempfile.TemporaryDirectory() as place:
        # the name is the card's default title
        whole = Path(place) / folder.resolve().name
        write_standalone(folder, kind, whole)
        yield whole


def _repo_type(kind: str) -> str:
    return "dataset" if kind == "dataset" else "model"


def upload_folder(
    folder: Path,
    repo_id: str,
    kind: str,
    files: dict[str, int],
    left_out: list[str],
    *,
    private: bool,
    revision: str | None,
    token: str | None,
    message: str | None = None,
) -> PushReport:
    """Send these files of a folder in one commit. Blobs and files that the Hub has already are not sent again."""
    repo_type, files = _repo_type(kind), dict(sorted(files.items()))
    api = HfApi(token=token)
    url = str(api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True))
    if revision is not None:
        api.create_branch(repo_id, repo_type=repo_type, branch=revision, exist_ok=True)
    before = api.repo_info(repo_id, repo_type=repo_type, revision=revision)
    if private and not before.private:
        logger.warning("%s exists already and is public: what is pushed there can be read by everyone.", repo_id)
    there = {sibling.rfilename for sibling in before.siblings or ()}
    commit = api.create_commit(
        repo_id,
        [CommitOperationAdd(name, folder / name) for name in files],
        commit_message=message or f"Upload {kind.replace('_', ' ')}",
        repo_type=repo_type,
        revision=revision,
    )
    return PushReport(
        repo_id,
        repo_type,
        kind,
        files,
        tuple(left_out),
        stale=tuple(sorted(there - set(files) - {".gitattributes"})),
        private=bool(before.private),
        url=url,
        commit=commit.oid,
        changed=commit.oid != before.sha,
    )
