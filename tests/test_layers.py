"""The layers of the code, read from its imports, and that no module imports itself by way of others."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "testbench"
SCRIPTS = {"setup", "run", "merge", "evaluate", "publish", "visualize", "gate", "pipeline", "demo", "cli", "__main__"}
ARENA_COMMANDS = {"arena.commands", "arena.operator.command", "arena.runs.local", "arena.runs.options"}
PACKAGES = {"sources", "execution", "metrics", "telemetry", "report", "gating", "samples", "arena"}
BOTTOM = {"invocation", "errors", "defaults", "safe_text", "gc_policy"}
LAYERS = (
    SCRIPTS | ARENA_COMMANDS,
    PACKAGES,
    {"schema.a2a_client"},
    {"a2a_protocol", "openai_api"},
    {"results"},
    {"schema"},
    {"net"},
    BOTTOM,
)
"""From top to bottom: each knows what is below. Of one layer, only scripts know each other."""
COMPOSING = (
    "arena.commands",
    "arena.operator.command",
    "arena.runs",
    "arena.evaluation",
    "arena.load",
    "arena.datagen",
)
"""Parts of a package that put others together, as scripts do."""
FRAMEWORKS = {"ragas": "ragas", "deepeval": "deepeval"}
"""A framework, and the package below `testbench.metrics` that alone may import it."""


def name_of(path: Path) -> str:
    """A module's name below `testbench`, e.g. `schema.models`."""
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in sorted(SOURCE.rglob("*.py"))}


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it and also for types only."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full.removeprefix("testbench.") in MODULES else node.module


IMPORTS = {
    name: {module.removeprefix("testbench.") for module in imported(path) if module.startswith("testbench.")} - {name}
    for name, path in MODULES.items()
}


def room(name: str) -> str:
    """The part of the house that a module belongs to: the first part of its name, or a room of its own."""
    return name if any(name in layer for layer in LAYERS) else name.split(".")[0]


def layer(name: str) -> int:
    return next(place for place, rooms in enumerate(LAYERS) if room(name) in rooms)


def allowed(name: str, other: str) -> bool:
    if layer(name) < layer(other) or room(name) == room(other):
        return True
    siblings = layer(name) == layer(other)
    return siblings and (layer(name) == 0 or name.startswith(COMPOSING))


def test_every_module_has_a_layer() -> None:
    assert {room(name) for name in MODULES} - {"__init__"} == {part for rooms in LAYERS for part in rooms}


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"__init__"}))
def test_a_module_knows_only_what_is_below(name: str) -> None:
    assert {other for other in IMPORTS[name] if not allowed(name, other)} == set()


def test_what_scripts_share_knows_no_package() -> None:
    shared = {
        name: {m for m in IMPORTS[name] if layer(m) == 1}
        for name in MODULES
        if room(name) == "cli" and name != "cli.reference"
    }
    assert {name: modules for name, modules in shared.items() if modules} == {}


def test_no_module_imports_itself_by_way_of_others() -> None:
    left = {name: set(modules) for name, modules in IMPORTS.items()}
    while free := {name for name, modules in left.items() if not modules & left.keys()}:
        left = {name: modules for name, modules in left.items() if name not in free}
    assert left == {}


def test_the_models_need_pydantic_only() -> None:
    third_party = {module.split(".")[0] for module in imported(SOURCE / "schema" / "models.py")}
    assert third_party - {"__future__", "datetime", "typing"} == {"pydantic"}


@pytest.mark.parametrize(("framework", "home"), FRAMEWORKS.items())
def test_a_framework_stays_in_its_adapter(framework: str, home: str) -> None:
    users = {path for path in MODULES.values() if any(m.split(".")[0] == framework for m in imported(path))}
    assert {path for path in users if (SOURCE / "metrics" / home) not in path.parents} == set()


def test_imports_are_absolute() -> None:
    relative = [
        path
        for path in MODULES.values()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


def test_a_script_s_folder_on_the_path_hides_no_library() -> None:
    """`python testbench/setup.py` puts `testbench/` first on the path: its names must be nobody else's."""
    ours = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or path.is_dir()} - {"__init__", "__main__"}
    assert ours & (set(packages_distributions()) | sys.stdlib_module_names) == set()
