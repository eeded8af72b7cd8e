"""`testbench` and `python -m testbench`: every command by its name, and hints in the words that the user types."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from testbench import __version__
from testbench.__main__ import COMMANDS, main
from tests.cli.test_scripts import HEAVY, SCRIPTS, loaded_by

ROOT = Path(__file__).parents[2]
CONSOLE = str(Path(sys.executable).with_name("testbench"))
"""The console command of this environment."""


def typed(*line: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """A command line that ended; `testbench` and `python` are those of this environment."""
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}
    return subprocess.run(line, capture_output=True, text=True, check=False, cwd=cwd, env=environment)


def test_every_script_is_a_command() -> None:
    assert set(SCRIPTS) <= set(COMMANDS)


def test_help_lists_every_command_in_its_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-h"]) == 0
    _, _, listed = capsys.readouterr().out.partition("Commands:\n")
    assert [line.split()[0] for line in listed.splitlines()] == list(COMMANDS)


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"testbench, version {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_shows_its_use_with_either_flag(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"Usage: testbench {name} ")
    assert main([name, "-h"]) == 0
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize("arguments", [[], *([name] for name in COMMANDS)], ids=lambda words: " ".join(words) or "-")
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    loaded = loaded_by(f"from testbench.__main__ import main\nmain({[*arguments, '--help']!r})")
    assert {module.split(".")[0] for module in loaded} & (HEAVY | {"pydantic", "yaml", "numpy", "rich"}) == set()


def test_a_command_loads_no_other() -> None:
    loaded = loaded_by("from testbench.__main__ import main\nmain(['setup', '--help'])")
    assert {name for name in COMMANDS if f"testbench.{name}" in loaded} == {"setup"}


def test_no_command_is_never_a_pass(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.splitlines()[-1]) == ("", "testbench: bad input (exit 2)")
    assert "evaluate" in printed.err


def test_an_unknown_command_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evalaute"]) == 2
    error, hint, last = capsys.readouterr().err.splitlines()
    assert "evalaute" in error
    assert (hint, last) == ("hint: See testbench --help", "testbench: bad input (exit 2)")


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (["testbench", "run"], "testbench"),
        ([CONSOLE, "run"], "testbench"),
        (["python", "-m", "testbench", "run"], "python -m testbench"),
        (["python", "-m", "testbench.run"], None),
        (["python", "testbench/run.py"], None),
    ],
    ids=["console", "console by its path", "module", "module of the phase", "script"],
)
def test_a_hint_names_the_command_that_was_typed(line: list[str], shown: str | None) -> None:
    """A prefix for all commands; None: the own form of a phase."""
    ended = typed(*line, "--concurrency", "none")
    own = " ".join(line) if shown is None else f"{shown} run"
    assert ended.stderr.splitlines()[1] == f"hint: See {own} --help"
    ended = typed(*line, "http://127.0.0.1:9", "--input", "nowhere.json")
    other = " ".join(line).replace("run", "setup") if shown is None else f"{shown} setup"
    assert ended.stderr.splitlines()[1] == f"hint: {other} writes this file: run it again."
    assert ended.returncode == 2


def test_a_script_elsewhere_is_named_by_its_path(tmp_path: Path) -> None:
    ended = typed("python", f"{ROOT}/testbench/gate.py", cwd=tmp_path)
    assert f"hint: python {ROOT}/testbench/evaluate.py writes this file" in ended.stderr


def test_a_script_whose_folder_is_not_on_the_path_of_others_finds_the_others() -> None:
    ended = typed("python", "testbench/pipeline.py", "nowhere.yaml")
    assert ended.stderr.splitlines()[-1] == "pipeline: bad input (exit 2)"
