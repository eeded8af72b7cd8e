"""The wheel by itself: built, installed into an empty environment, and used from an empty folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests_e2e.conftest import ROOT


def find_uv() -> str:
    """The uv of this machine, or the one that the Makefile installs."""
    found = os.environ.get("UV") or shutil.which("uv") or shutil.which("uv", path=ROOT / ".tools/uv/bin")
    assert found, "uv is neither installed nor in .tools: make install"
    return found


def succeed(*command: str, cwd: Path) -> str:
    """What a command prints that ends well."""
    ended = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=600)
    assert ended.returncode == 0, ended
    return ended.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment that has nothing but the wheel, and what it depends on in its locked versions."""
    uv, folder = find_uv(), tmp_path_factory.mktemp("wheel")
    locked = folder / "locked.txt"
    locked.write_text(succeed(uv, "export", "--locked", "--no-dev", "--no-emit-project", "--no-hashes", cwd=ROOT))
    succeed(uv, "build", "--wheel", "--out-dir", str(folder / "dist"), cwd=ROOT)
    (wheel,) = (folder / "dist").glob("*.whl")
    succeed(uv, "venv", "--python", sys.executable, str(folder / "venv"), cwd=folder)
    python = folder / "venv/bin/python"
    succeed(uv, "pip", "install", "--python", str(python), "--constraints", str(locked), str(wheel), cwd=folder)
    return python.parent


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with nothing in it, and an environment that leads to no checkout."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return tmp_path


def test_the_demo_needs_nothing_but_the_wheel(installed: Path, empty: Path) -> None:
    printed = succeed(str(installed / "testbench"), "demo", cwd=empty)
    assert printed.splitlines()[-1].startswith("demo: done (exit 0): PASS: ")
    assert (empty / "data/results/evaluation_report.html").is_file()


def test_the_arena_demo_needs_nothing_but_the_wheel(installed: Path, empty: Path) -> None:
    printed = succeed(str(installed / "testbench"), "arena", "demo", cwd=empty)
    assert printed.splitlines()[-1].startswith("arena: done (exit 0): Succeeded: PASS: ")


def test_what_the_code_is_typed_with_is_there(installed: Path, empty: Path) -> None:
    code = "import testbench; from pathlib import Path; print(Path(testbench.__file__).with_name('py.typed').exists())"
    assert succeed(str(installed / "python"), "-c", code, cwd=empty) == "True\n"
