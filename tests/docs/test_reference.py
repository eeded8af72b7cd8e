"""`docs/reference/` says what is: its tables are those of the code, and no name, code or variable is missing."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from testbench.cli.phase import WORDS
from testbench.cli.reference import TABLES, commands, updated
from testbench.errors import ExitCode
from testbench.telemetry import attributes

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
VARIABLE = re.compile(r"\"((?:TESTBENCH|OPENAI|OTEL|AWS|MINIO|RAGAS|DEEPEVAL)_[A-Z0-9_]*[A-Z0-9])\"")
NOT_SENT = {"task_id"}
"""Known to the telemetry's filter, and set by nobody."""


def page(name: str) -> str:
    return (REFERENCE / name).read_text()


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=lambda path: path.name)
def test_a_page_is_in_step_with_the_code(path: Path) -> None:
    assert path.read_text() == updated(path.read_text(), ROOT), "run make schema"


def test_every_table_has_its_place() -> None:
    pages = "".join(path.read_text() for path in DOCS.rglob("*.md"))
    assert set(re.findall(r"<!-- begin ([a-z-]+) -->", pages)) == set(TABLES)


def test_a_table_is_made_anew_and_what_stands_around_it_is_kept() -> None:
    stale = "before\n<!-- begin verdict -->\nwhat was there\n<!-- end verdict -->\nafter\n"
    found = updated(stale, ROOT)
    assert found.startswith("before\n<!-- begin verdict -->\n### Verdict\n")
    assert found.endswith("<!-- end verdict -->\nafter\n")
    assert "what was there" not in found
    assert updated(found, ROOT) == found


def test_every_command_has_its_section_with_all_its_options() -> None:
    shared, *sections = re.split(r"^## ", page("cli.md"), flags=re.MULTILINE)
    found = dict(commands())
    assert len(sections) == len(found)
    for path, command in found.items():
        (section,) = (text for text in sections if f"    {path} [OPTIONS]" in text)
        options = (found for found in command.params if isinstance(found, click.Option) and not found.hidden)
        flags = {option.opts[0] for option in options}
        assert {flag for flag in flags if f"`{flag}" not in shared + section} == set()


def test_every_exit_code_is_explained() -> None:
    rows = dict(re.findall(r"^\| (\d+) \| ([^|]+) \|", page("exit-codes.md"), re.MULTILINE))
    assert set(rows) == {str(int(code)) for code in ExitCode}
    assert f"`run: {WORDS[ExitCode.NOT_DONE]} (exit 3)`" in page("exit-codes.md").replace("\n", " ")


def test_every_name_of_the_telemetry_is_explained() -> None:
    names = {value for key, value in vars(attributes).items() if key.isupper() and isinstance(value, str)}
    text = page("telemetry.md")
    assert {name for name in names - NOT_SENT if f"`{name}`" not in text} == set()
    for gauge, description in attributes.DESCRIPTIONS.items():
        assert f"| `{gauge}` | {description}" in text


def test_the_telemetry_page_names_nothing_else() -> None:
    known = {value for key, value in vars(attributes).items() if key.isupper() and isinstance(value, str)}
    rows = re.findall(r"^\| (`[^|]+`) \|", page("telemetry.md"), re.MULTILINE)
    named = {name for row in rows for name in re.findall("`([^`]+)`", row)}
    assert named - known - {"POST", "evaluate {metric}"} == set()


def test_every_variable_that_the_code_reads_is_explained() -> None:
    read = {
        name
        for path in (ROOT / "testbench").rglob("*.py")
        if "operator" not in path.parts
        for name in VARIABLE.findall(path.read_text())
    }
    assert len(read) > 30
    text = page("environment.md")
    assert {name for name in read if f"`{name}`" not in text} == set()
