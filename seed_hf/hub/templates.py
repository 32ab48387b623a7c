"""Renders the templates of `model_cards/`: cards and the usage programs in them."""

from importlib.resources import files
from typing import Any

import jinja2


def render(name: str, **values: Any) -> str:
    """The text of a template.

    Args:
        name: File below `model_cards/`.
        values: Its variables.

    Raises:
        ValueError: A variable is missing.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(files("seed_hf.model_cards"))),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    try:
        return environment.get_template(name).render(**values)
    except jinja2.UndefinedError as error:
        raise ValueError(f"{name}: {error}") from error
