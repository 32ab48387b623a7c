"""Whatever is public says what it is and what its arguments are; the reference is made from it."""

import dataclasses
import inspect
import re
from pathlib import Path

import pytest

import seed_hf
from seed_hf import training
from seed_hf.recipes import schema


OWN = ("seed_hf", "seed_hf.modeling", "seed_hf.pipelines")
PUBLIC = {name: getattr(seed_hf, name) for name in seed_hf.__all__ if name != "__version__"}
PUBLIC |= {name: getattr(training, name) for name in training.__all__}
PUBLIC |= {
    name: getattr(schema, name) for name in ("TokenizerModel", "ImageTextData", "LanguageModel", "SequenceData")
}
REFERENCE = "".join(page.read_text(encoding="utf-8") for page in Path(__file__).parents[2].glob("docs/api/*.md"))


def named(argument: str, text: str) -> bool:
    return re.search(rf"\b{re.escape(argument)}\b", text) is not None


def arguments(function) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.name not in ("self", "cls") and not p.name.startswith("_")]


def own_fields(cls) -> list[str]:
    """The fields that a configuration adds to those of the transformers class below it, which are documented there."""
    inherited = {name for base in cls.__mro__[1:] for name in getattr(base, "__annotations__", {})}
    return [name for name in cls.__dict__.get("__annotations__", {}) if name not in inherited]


def constructor(cls) -> list[str]:
    if "__init__" in cls.__dict__ and not dataclasses.is_dataclass(cls):
        return arguments(cls.__init__)
    return own_fields(cls)


def missing(name: str, value) -> list[str]:
    """What the documentation of a class or function lacks."""
    text = value.__doc__ or ""
    if not inspect.isclass(value):
        lacking = arguments(value) if text else ["a docstring"]
        return [f"{name}: {argument}" for argument in lacking if not named(argument, text)]
    found = [] if len(text) > 40 else [f"{name}: a docstring"]
    init = getattr(value.__dict__.get("__init__"), "__doc__", None) or ""
    found += [f"{name}: {field}" for field in constructor(value) if not named(field, text + init)]
    for method, function in vars(value).items():
        function = getattr(function, "__func__", getattr(function, "fget", function))
        if method.startswith("_") and method != "__call__" or not inspect.isfunction(function):
            continue
        overrides = any(method in vars(base) for base in value.__mro__[1:])
        about = inspect.getdoc(getattr(value, method)) or ""
        if not about and not overrides:
            found.append(f"{name}.{method}: a docstring")
        elif function.__doc__ and "Args:" in function.__doc__:
            lacking = [each for each in arguments(function) if not named(each, about)]
            found += [f"{name}.{method}: {argument}" for argument in lacking]
    return found


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_the_docstring_names_every_argument(name):
    assert missing(name, PUBLIC[name]) == []


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_the_reference_has_it(name):
    assert re.search(rf"^::: \S+\.{name}$", REFERENCE, re.MULTILINE)


def test_what_is_missing_is_found():
    class Thing:
        """A thing that is documented in more than forty characters. `first` is what it begins with."""

        def __init__(self, first, second):
            self.first, self.second = first, second

        def run(self):
            return self.first

        def go(self, steps, pace):
            """Goes.

            Args:
                steps: How many.
            """

    assert missing("Thing", Thing) == ["Thing: second", "Thing.run: a docstring", "Thing.go: pace"]
