"""Code files in a pipeline's folder, for users who load it without this package.

diffusers reads the class of a component from `<component>/<file>.py`, and the class of the pipeline from a file beside
`model_index.json`. It downloads only those files from the Hub, so each of them must be complete in itself.
"""

import ast
import inspect
import json
import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path


PREFIX = "diffusers_"  # tells these files from those that transformers writes
# The modules of these classes in the installed package.
_INSTALLED = {
    "SeedForConditionalGeneration": "seed_hf.modeling.modeling_seed",
    "SeedTokenizer": "seed_hf.modeling.modeling_seed_tokenizer",
    "SeedProcessor": "seed_hf.modeling.processing_seed",
    "EmptyPromptEmbedding": "seed_hf.pipelines.empty_prompt",
}
_STEMS = ("pipeline_seed_image", *(module.rpartition(".")[2] for module in _INSTALLED.values()))


def is_a(thing, *names: str) -> bool:
    """Whether an object, or what a compiled module was made of, has a class or base of one of these names.

    Names are compared, because on the Hub every component has its own copy of the classes.
    """
    return any(base.__name__ in names for base in type(getattr(thing, "_orig_mod", thing)).__mro__)


def add_code(pipeline, folder: str | os.PathLike) -> None:
    """Writes the code of a pipeline and of its own components into its folder, and names it in `model_index.json`."""
    index_path = Path(folder) / "model_index.json"
    index = json.loads(index_path.read_text(encoding="utf-8"))
    pipeline_class = _ours(type(pipeline))
    assert pipeline_class is not None  # SeedImagePipeline is among its bases
    index["_class_name"] = [_write_code(pipeline_class, Path(folder)), pipeline_class.__name__]
    for name, component in pipeline.components.items():
        component = getattr(component, "_orig_mod", component)  # compiled
        if (cls := _ours(type(component))) is not None:
            index[name] = [_write_code(cls, Path(folder, name), PREFIX), cls.__name__]
        if component is not None:
            _forget_place(Path(folder, name))
            _forget_shards(Path(folder, name))
    index.pop("_name_or_path", None)
    index_path.write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _ours(cls: type) -> type | None:
    """The class, or its nearest base, that is defined in this package or in a copy of its code on the Hub.

    Never a class of a user's own script: publishing it would publish the whole script.
    """
    for base in cls.__mro__:
        stem = base.__module__.rpartition(".")[2].removeprefix(PREFIX)
        copied = base.__module__.startswith(("diffusers_modules.", "transformers_modules."))
        if base.__module__.startswith("seed_hf.") or (copied and stem in _STEMS):
            return base
    return None


def _forget_place(folder: Path) -> None:
    """Removes the path that diffusers writes for a component. Local paths are private; a repository id stays."""
    for path in (folder / "config.json", folder / "scheduler_config.json"):
        values = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        place = values.get("_name_or_path")
        if place and (os.path.isabs(place) or os.path.exists(place) or place.count("/") != 1):
            del values["_name_or_path"]
            path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _forget_shards(folder: Path) -> None:
    """Removes an index without its shards. diffusers removes those of an earlier save, and would read this first."""
    for index in folder.glob("*.safetensors.index*.json"):
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        if not all((folder / name).is_file() for name in names):
            index.unlink()


def installed_classes(index: dict) -> dict:
    """The content of a `model_index.json` that names the installed package's classes instead of code files."""
    if isinstance(index.get("_class_name"), (list, tuple)):
        index["_class_name"] = index["_class_name"][1]
    for name, value in index.items():
        if isinstance(value, (list, tuple)) and len(value) == 2 and value[1] in _INSTALLED:
            module = _INSTALLED[value[1]]
            import_module(module)  # diffusers only finds imported modules
            index[name] = [module, value[1]]
    return index


def _write_code(cls: type, folder: Path, prefix: str = "") -> str:
    """Writes the module of a class and all modules it needs as one file; returns the file's name without `.py`."""
    stem = prefix + cls.__module__.rpartition(".")[2].removeprefix(prefix)
    (folder / f"{stem}.py").write_text(single_file(cls.__module__), encoding="utf-8")
    return stem


def single_file(module: str) -> str:
    """The source of a module, in which imports of its own package are replaced by the source of those modules.

    Raises:
        ValueError: The modules do not fit into one file: two of them give a name different meanings, or one imports
            another in a form other than `from .module import name` at the top.
    """
    parts: dict[str, str] = {}
    names: dict[str, tuple[str, str]] = {}
    _collect(module, parts, names)
    if len(parts) == 1:
        return parts[module]
    title = "# One file for all of: " + ", ".join(name.rpartition(".")[2] for name in parts) + ".\n"
    return title + "\n\n".join(f"# {name.rpartition('.')[2]}.py\n\n{text.strip()}\n" for name, text in parts.items())


def _collect(module: str, parts: dict[str, str], names: dict[str, tuple[str, str]]) -> None:
    source = _source(module)
    lines, tree = source.splitlines(), ast.parse(source)
    for node in tree.body:
        own = _own_module(node, module)
        if own and isinstance(node, ast.ImportFrom):
            if any(alias.asname or alias.name == "*" for alias in node.names):
                raise ValueError(f"{module}, line {node.lineno}: names from {own} must be imported as they are.")
            if own not in parts:
                _collect(own, parts, names)
            end = node.end_lineno or node.lineno
            lines[node.lineno - 1 : end] = [""] * (end - node.lineno + 1)
        for name, meaning in _bound(node, module) if not own else ():
            if names.setdefault(name, (module, meaning))[1] != meaning:
                raise ValueError(f"{name!r} is one thing in {names[name][0]} and another in {module}; rename one.")
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node not in tree.body]
    if inner := [node.lineno for node in imports if _own_module(node, module)]:
        raise ValueError(f"{module}, line {inner[0]}: an import of its own package must stand at the top.")
    parts[module] = "\n".join(lines) + "\n"


def _source(module: str) -> str:
    loaded = sys.modules.get(module)
    path = inspect.getsourcefile(loaded) if loaded else getattr(find_spec(module), "origin", None)
    if path is None:
        raise ValueError(f"{module} has no source file to publish.")
    return Path(path).read_text(encoding="utf-8")


def _own_module(node: ast.AST, module: str) -> str | None:
    """The module that a node imports from, if it belongs to the same top package."""
    if not isinstance(node, ast.ImportFrom):
        return None
    if node.level == 1 and node.module:
        return f"{module.rpartition('.')[0]}.{node.module}"
    top = module.partition(".")[0]
    return node.module if node.level == 0 and (node.module or "").partition(".")[0] == top else None


def _bound(node: ast.stmt, module: str):
    """The names that a top-level statement of a module defines, each with its meaning: where it comes from."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        source = getattr(node, "module", "")
        for alias in node.names:
            yield alias.asname or alias.name, f"{source} {alias.name}"
    elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        yield node.name, module
    elif isinstance(node, (ast.Assign, ast.AnnAssign)):
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            for name in ast.walk(target):
                if isinstance(name, ast.Name) and name.id not in ("logger", "__all__"):
                    yield name.id, module


__all__ = ["PREFIX", "add_code", "installed_classes", "is_a", "single_file"]
