"""What is in the image and what is not, and under which rights it runs."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

import testbench
from tests_e2e.image.build import IMAGE
from tests_e2e.image.conftest import Box

ROOT = Path(__file__).parents[2]
LIMIT_MB = 700
SCRIPTS = sorted(
    path.name for path in (ROOT / "testbench").glob("*.py") if "\n    sys.exit(main(command))\n" in path.read_text()
)
DEVELOPMENT = (
    "pytest",
    "mypy",
    "moto",
    "ruff",
    "bandit",
    "hypothesis",
    "playwright",
    "poethepoet",
    "kubernetes_validate",
)


def test_it_says_what_it_is_and_needs_no_rights(box: Box) -> None:
    config = box.engine.config(IMAGE)
    assert (config.user, config.workdir) == ("10001:10001", "/app")
    assert (config.entrypoint, config.command) == (("phase",), ("pipeline.py", "--help"))
    labels = {name.rpartition(".")[2]: text for name, text in config.labels.items()}
    assert labels["version"] == testbench.__version__
    assert labels["licenses"] == "Apache-2.0"
    assert labels["source"].startswith("https://github.com/")


def test_it_is_small_enough(box: Box) -> None:
    layers = box.engine.layers(IMAGE)
    assert sum(layers.values()) / 1e6 < LIMIT_MB, layers


def test_another_group_can_write_the_volume_and_nobody_the_rest(box: Box) -> None:
    ended = box.run("sh", "-c", "id -u; id -g; touch data/x && touch /tmp/x && echo written; touch /app/x /var/tmp/x")
    assert ended.out.split() == ["10001", "1001", "written"]
    assert ended.err.count("Read-only file system") == 2, ended


def test_its_user_owns_nothing_but_the_data_folder(box: Box) -> None:
    """The code stays as it is also where the root is not read-only."""
    theirs = ("-user", "10001", "-o", "-group", "10001", "-o", "-group", "1001", "-o", "-perm", "-0002")
    found = box.run("find", "/app", "/usr/local", "-xdev", "-not", "-type", "l", "(", *theirs, ")")
    assert found.out.split() == ["/app/data"], found


def test_there_are_no_tools_to_install_with_or_to_develop_with(box: Box) -> None:
    names = ("uv", "pip", "ensurepip", *DEVELOPMENT)
    found = box.python(f"from importlib.util import find_spec; print([n for n in {names} if find_spec(n)])")
    assert found.out.strip() == "[]", found
    assert box.run("sh", "-c", "command -v uv uvx pip pip3 pytest mypy ruff").out == ""


@pytest.mark.parametrize("script", SCRIPTS)
def test_each_phase_shows_its_help(box: Box, script: str) -> None:
    ended = box.run(script, "--help")
    assert ended.code == 0, ended
    assert ended.out.startswith(f"Usage: python testbench/{script} "), ended


def test_the_package_in_the_working_folder_is_the_installed_one(box: Box) -> None:
    code = "import testbench.gate as g; from pathlib import Path; print(Path(g.__file__).resolve())"
    assert box.run("sh", "-c", 'cd /tmp && exec python3 -c "$1"', "sh", code).out.strip() == "/app/testbench/gate.py"
    assert (
        box.run("python3", "testbench/gate.py", "--version").out.strip()
        == f"testbench, version {testbench.__version__}"
    )


def test_what_it_imports_is_compiled(box: Box) -> None:
    """A stale or missing .pyc would be compiled anew at every start of every container: the root is read-only."""
    code = """
import importlib.util, json, os, struct, sys
import testbench.run, testbench.execution.executor, ragas, numpy, pyarrow, a2a.client
stale = []
for name, module in list(sys.modules.items()):
    spec = getattr(module, "__spec__", None)
    if spec and spec.cached and (spec.origin or "").startswith("/app/"):
        try:
            made = struct.unpack("<II", open(spec.cached, "rb").read(16)[8:])
        except OSError:
            made = None
        status = os.stat(spec.origin)
        if made != (int(status.st_mtime), status.st_size):
            stale.append(name)
print(json.dumps([len(sys.modules), stale]))
"""
    ended = box.python(code)
    loaded, stale = json.loads(ended.out)
    assert loaded > 500
    assert stale == []


def test_every_module_of_testbench_can_be_imported(box: Box) -> None:
    """Whatever the image leaves out of its dependencies, no module of ours misses it; deepeval is an extra."""
    code = """
import importlib, json, pkgutil, testbench
failed = {}
for module in pkgutil.walk_packages(testbench.__path__, "testbench."):
    if module.name.endswith("__main__"):
        continue
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        failed[module.name] = str(error)
print(json.dumps(failed))
"""
    failed = json.loads(box.python(code).out)
    assert not {name: error for name, error in failed.items() if "deepeval" not in error}


def test_every_library_that_our_code_names_can_be_imported(box: Box) -> None:
    """Also the names that a function imports only when it is called."""
    named: set[tuple[str, str]] = set()
    for path in (ROOT / "testbench").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                named |= {(alias.name, "") for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.module.startswith("testbench"):
                named |= {(node.module, alias.name) for alias in node.names}
    code = """
import importlib, json, sys
failed = {}
for module, name in json.loads(sys.argv[1]):
    try:
        found = importlib.import_module(module)
        if name and not hasattr(found, name):
            importlib.import_module(f"{module}.{name}")
    except ImportError as error:
        failed[f"{module}:{name}"] = str(error)
print(json.dumps(failed))
"""
    ended = box.run("python3", "-c", code, json.dumps(sorted(named)))
    missing = {name: error for name, error in json.loads(ended.out).items() if "deepeval" not in name}
    assert not missing


def test_the_metrics_of_ragas_and_our_own_are_there_and_deepeval_says_how_to_get_it(box: Box) -> None:
    ended = box.run("evaluate.py", "--list-metrics")
    assert ended.code == 0, ended
    assert "ragas.Faithfulness" in ended.out
    assert "builtin.tool_calls" in ended.out
    assert "metrics of deepeval are not installed: " in ended.out
