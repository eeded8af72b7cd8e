"""The README says what is: every flag it names exists, and every dependency has its reason."""

from __future__ import annotations

import re
import tomllib
from importlib import import_module
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PHASES = ("setup", "run", "merge", "evaluate", "publish", "visualize", "gate", "pipeline")


@pytest.mark.parametrize("name", PHASES)
def test_every_flag_of_the_phase_table_exists(name: str) -> None:
    (row,) = (line for line in README.splitlines() if line.startswith("| ") and f"`testbench {name}" in line)
    command = import_module(f"testbench.{name}").command
    assert isinstance(command, click.Command)
    known = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
    named = set(re.findall(r"--[a-z-]+", row))
    assert named
    assert named <= known


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    table = README.partition("## Dependencies")[2].partition("\nExtras:")[0]
    listed = {name for row in re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE) for name in row.split(", ")}
    needed = {re.split(r"[^a-z0-9-]", dependency)[0] for dependency in project["dependencies"]}
    assert listed - {"package", "---"} == needed
