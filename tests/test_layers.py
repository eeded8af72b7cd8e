"""The layers of the code, read from its imports: scripts > packages > schema > (errors, defaults)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "testbench"
SCRIPTS = {"setup", "run", "merge", "evaluate", "publish", "visualize", "gate", "pipeline", "documentation"}
SHELL = {"command", "logs", "progress"}
"""What scripts share and packages do not know."""
PACKAGES = {"sources", "execution", "metrics", "telemetry", "report", "gating", "samples", "arena"}
COMPOSING = {SOURCE / "arena" / "cli.py", SOURCE / "arena" / "execute"}
"""Parts of a package that put others together, as scripts do; the rest of the package does not import them."""
BOTTOM = {"errors", "defaults", "printable", "redaction"}
FRAMEWORKS = {"ragas": "ragas", "deepeval": "deepeval"}
"""A framework, and the package below `testbench.metrics` that alone may import it."""


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it and also for types only."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "testbench":
                yield from (f"testbench.{alias.name}" for alias in node.names)
            else:
                yield node.module


def ours(path: Path) -> set[str]:
    """The names directly below `testbench` that a file imports."""
    return {module.split(".")[1] for module in imported(path) if module.startswith("testbench.")} - {"__version__"}


def files(*parts: str) -> list[Path]:
    return sorted(path for part in parts for path in SOURCE.joinpath(part).rglob("*.py"))


def composes(path: Path) -> bool:
    return bool(COMPOSING & {path, *path.parents})


def test_every_module_has_a_layer() -> None:
    known = SCRIPTS | SHELL | PACKAGES | BOTTOM | {"schema", "__init__"}
    assert {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()} == known


@pytest.mark.parametrize("path", files("schema"), ids=str)
def test_schema_knows_only_the_bottom(path: Path) -> None:
    assert ours(path) <= BOTTOM | {"schema"}


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_packages_know_only_themselves_and_what_is_below(package: str) -> None:
    below = BOTTOM | {"schema", package}
    pure = [path for path in files(package) if not composes(path)]
    assert {path.name: ours(path) - below for path in pure if ours(path) - below} == {}


def test_nothing_pure_imports_what_composes() -> None:
    composing = {".".join(path.relative_to(SOURCE.parent).with_suffix("").parts) for path in COMPOSING}
    wrong = {
        str(path): module
        for path in files("arena")
        if not composes(path)
        for module in imported(path)
        if any(module == name or module.startswith(f"{name}.") for name in composing)
    }
    assert wrong == {}


@pytest.mark.parametrize("name", sorted(BOTTOM))
def test_the_bottom_knows_nothing_of_ours(name: str) -> None:
    assert ours(SOURCE / f"{name}.py") == set()


@pytest.mark.parametrize("name", sorted(SHELL))
def test_what_scripts_share_knows_no_package(name: str) -> None:
    assert ours(SOURCE / f"{name}.py") <= BOTTOM | SHELL | {"schema"}


def test_the_models_need_pydantic_only() -> None:
    third_party = {module.split(".")[0] for module in imported(SOURCE / "schema" / "models.py")}
    assert third_party - {"__future__", "datetime", "typing"} == {"pydantic"}


@pytest.mark.parametrize(("framework", "home"), FRAMEWORKS.items())
def test_a_framework_stays_in_its_adapter(framework: str, home: str) -> None:
    users = {path for path in files(".") if any(module.split(".")[0] == framework for module in imported(path))}
    assert {path for path in users if (SOURCE / "metrics" / home) not in path.parents} == set()


def test_imports_are_absolute() -> None:
    relative = [
        path
        for path in files(".")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []
