"""Which way the package leans: every import, eager or lazy, goes down the order of the rooms, and nothing circles.

The order is the architecture: a room may use what stands before it. A lazy import may save time; it may not hide a
circle, so imports inside functions and under `TYPE_CHECKING` count like all others.
"""

import ast
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[1]
FOLDERS = {"seed_hf": "seed_hf", **{f"seed_hf.{name}": name for name in ("modeling", "pipelines", "model_cards")}}
# Rooms of one level do not know each other.
LEVELS = (
    ("modeling",),
    ("pipelines",),
    ("shortages",),
    (
        "files",
        "images",
        "codes",
        "yaml_text",
        "extras",
        "devices",
        "threads",
        "locks",
        "lazy",
        "garbage",
        "version",
        "model_cards",
    ),
    ("inference", "environment"),
    ("texts",),
    ("artifacts", "pictograms", "conversion"),
    ("data", "evaluation"),
    ("training", "hub"),
    ("recipes", "bench", "demo", "serving", "auto", "exporting"),
    ("cli",),
)
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
INSIDE_DATA = {"sources": 0, "batches": 1, "jobs": 2, "features": 3}


def modules() -> dict[str, Path]:
    found = {}
    for package, folder in FOLDERS.items():
        for path in (ROOT / folder).rglob("*.py"):
            name = ".".join([package, *path.relative_to(ROOT / folder).with_suffix("").parts])
            found[name.removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imports_of(module: str, source: str, is_package: bool) -> set[tuple[str, str]]:
    """(module, name) of everything of this package that a module imports anywhere in its text."""
    package = module if is_package else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {(alias.name, "") for alias in node.names if alias.name.partition(".")[0] == "seed_hf"}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])
            if base.partition(".")[0] != "seed_hf":
                continue
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                found.add((whole, "") if whole in MODULES else (base, alias.name))
    return found


IMPORTS = {
    name: imports_of(name, path.read_text(encoding="utf-8"), path.name == "__init__.py")
    for name, path in MODULES.items()
}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def wrong_arrow(module: str, target: str) -> str | None:
    """Why `module` may not import `target`; `None` if it may."""
    here, there = room(module), room(target)
    if not there:
        return "the package itself is for users: inside, name the module"
    if here != there and LEVEL[there] >= LEVEL[here]:
        return f"{here} stands before or beside {there}"
    parts, others = module.split("."), target.split(".")
    if here == there == "data" and len(parts) > 2 and len(others) > 2 and parts[2] != others[2]:
        if INSIDE_DATA[others[2]] >= INSIDE_DATA[parts[2]]:
            return f"inside data, {parts[2]} stands before or beside {others[2]}"
    return None


def test_every_module_has_a_place_in_the_order():
    assert {room(name) for name in MODULES} - {""} == set(LEVEL) & {room(name) for name in MODULES}
    assert not {room(name) for name in MODULES} - {"", *LEVEL}


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"seed_hf"}))
def test_imports_lean_one_way(module):
    """`seed_hf` itself is the facade: it names everything and nothing inside names it."""
    wrong = {target: why for target, _ in IMPORTS[module] if (why := wrong_arrow(module, target))}
    assert not wrong


def test_no_circle_between_files():
    graph = {name: {target for target, _ in found if target != name} for name, found in IMPORTS.items()}
    finished: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in finished and name in graph:
            for target in sorted(graph[name]):
                visit(target, (*path, name))
            finished.add(name)

    for name in sorted(graph):
        visit(name, ())


def test_no_private_name_crosses_a_file():
    wrong = [
        f"{name} imports {target}.{private}"
        for name, found in IMPORTS.items()
        for target, private in found
        if private.startswith("_")
        and not private.startswith("__")
        or any(part.startswith("_") and not part.startswith("__") for part in target.split("."))
    ]
    assert not wrong


def test_the_code_of_hub_repositories_is_flat():
    """transformers copies a model's module with the files that it imports by `from .name import X`, and no others."""
    for name, path in MODULES.items():
        if not name.startswith("seed_hf.modeling."):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("seed_hf")):
                assert node.level == 1 and node.module and "." not in node.module, f"{path}: line {node.lineno}"


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("seed_hf.data.features.caching", "from seed_hf.training.collators import ImageTextCollator"),
        ("seed_hf.evaluation.metrics.codebook", "from seed_hf.training.codebook import distinct"),
        ("seed_hf.training.trainer", "from seed_hf.hub.callback import ModelCardCallback"),
        ("seed_hf.hub.standalone", "from seed_hf import SeedTokenizer"),
        ("seed_hf.cli.tokenize", "from . import app"),
        ("seed_hf.modeling.modeling_seed", "from seed_hf.artifacts.kinds import kind_of"),
        ("seed_hf.data.sources.source", "from seed_hf.data.jobs.decoding import DecodingPool"),
    ],
)
def test_yesterdays_arrows_would_be_seen(module, line):
    """Each of these stood in version 0.1, most of them inside a function."""
    text = f"def late():\n    {line}\n"
    found = imports_of(module, text, is_package=False)
    back = {target for target, _ in found if wrong_arrow(module, target)}
    circle = {target for target, _ in found if any(module == up for up, _ in IMPORTS.get(target, ()))}
    assert back | circle
