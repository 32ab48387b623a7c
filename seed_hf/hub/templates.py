"""Renders the templates of `model_cards/`: cards and the usage programs in them."""

from importlib.resources import files
from typing import Any

import jinja2


def render(name: str, **values: Any) -> str:
    """The text of a template.

    Args:
        name: File below `model_cards/`.
        values: Its variables. A variable that is missing is an error.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(files("seed_hf.model_cards"))),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    return environment.get_template(name).render(**values)
