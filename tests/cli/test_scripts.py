"""The scripts as processes: help at once, nothing done by an import, and no library hidden by a name of ours."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ("setup", "run", "merge", "evaluate", "publish", "visualize", "gate", "pipeline", "demo")
HEAVY = {
    *("pandas", "pyarrow", "ragas", "langchain_core", "a2a", "openai", "obstore", "jinja2", "httpx"),
    *("opentelemetry", "requests"),
}


def loaded_by(code: str) -> dict[str, str | None]:
    """The modules, and their files, that a fresh process has loaded after `code`."""
    report = f"{code}\nimport sys, json\n" + (
        "print(json.dumps({name: getattr(module, '__file__', None) for name, module in list(sys.modules.items())}))"
    )
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True, cwd=ROOT)
    modules: dict[str, str | None] = json.loads(done.stdout.splitlines()[-1])
    return modules


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_of_a_script_shows_its_use_and_its_environment(name: str) -> None:
    done = subprocess.run(
        [sys.executable, f"testbench/{name}.py", "--help"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Usage: python testbench/{name}.py" in done.stdout
    assert f"TESTBENCH_{name.upper()}_" in done.stdout


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_of_a_script_loads_nothing_heavy(name: str) -> None:
    show_help = f"""
import runpy, sys
sys.argv = ["x", "--help"]
try:
    runpy.run_path("testbench/{name}.py", run_name="__main__")
except SystemExit:
    pass
"""
    loaded = {module.split(".")[0] for module in loaded_by(show_help)}
    assert loaded & HEAVY == set()


@pytest.mark.parametrize("name", SCRIPTS)
def test_importing_a_script_does_nothing(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import testbench.{name}"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_script_hides_no_library_behind_its_own_names() -> None:
    """`python testbench/x.py` puts our folder on the path, where `evaluate`, `report` or `metrics` would be found."""
    folder = str(ROOT / "testbench")
    modules = loaded_by(
        f"import sys; sys.path.insert(0, {folder!r})\nimport testbench, testbench.metrics.ragas.adapter as adapter\n"
        "adapter.RagasFrameworkAdapter().specs()"
    )
    ours = {name for name, file in modules.items() if file and file.startswith(folder)}
    assert {name for name in ours if name.split(".")[0] != "testbench"} == set()
    assert "testbench.metrics.ragas.adapter" in ours
