"""The page on the architecture names what is there: modules, folders, and the functions that it sends a reader to."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text()


def test_every_path_that_is_named_exists() -> None:
    named = {path for path in re.findall(r"`(\w{2,}[\w./]+)`", PAGE) if "/" in path or path.endswith(".py")}
    assert len(named) > 40
    assert {path for path in named if not ((ROOT / "testbench" / path).exists() or (ROOT / path).exists())} == set()


def test_every_name_that_is_said_to_stand_in_a_module_does() -> None:
    placed = re.findall(r"`(\w+)` of `([\w./]+\.py)`", PAGE)
    placed += [(name, path) for path, name in re.findall(r"`([\w./]+\.py)`[,:] `(\w+)", PAGE)]
    assert len(placed) >= 6
    missing = {(name, path) for name, path in placed if name not in (ROOT / "testbench" / path).read_text()}
    assert missing == set()


def test_every_package_has_its_line() -> None:
    packages = {path.parent.name for path in (ROOT / "testbench").glob("*/__init__.py")}
    assert {name for name in packages if f"| `{name}` |" not in PAGE} == set()
