"""The names of repositories on the Hub, told apart from folders."""

from pathlib import Path
from typing import Any

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id


def is_hub_id(name: Any, *, owner_optional: bool = False) -> bool:
    """Whether a name can be that of a repository on the Hub: `owner/name`. Nothing is asked of the Hub.

    Args:
        name: What a user or a file gave.
        owner_optional: Whether the name alone will do, as that of old data sets does.
    """
    if not isinstance(name, str) or name.count("/") > 1 or (not owner_optional and "/" not in name):
        return False
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def names_repository(name: Any) -> bool:
    """Whether a name is taken for that of a repository on the Hub: it can be one, and no folder here has it.

    Args:
        name: What a user or a file gave.
    """
    return is_hub_id(name) and not Path(name).exists()


def split_hub_id(place: Any) -> tuple[str, str] | None:
    """`owner/name/folder/in/it` as repository and folder, which is `""` for `owner/name`; `None` for other names.

    Args:
        place: What a user or a file gave.
    """
    if not isinstance(place, str) or "//" in place:
        return None
    parts = place.split("/")
    folders = parts[2:]
    if not is_hub_id("/".join(parts[:2])) or any(part in ("", ".", "..") for part in folders):
        return None
    return "/".join(parts[:2]), "/".join(folders)
