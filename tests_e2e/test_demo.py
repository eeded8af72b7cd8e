"""`make demo` and `testbench demo`: the first thing that a newcomer sees."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def shown(demo: Sequence[str], folder: Path) -> str:
    """What a demo prints that ends well."""
    command = [sys.executable, "-m", "testbench", *demo]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done
    return done.stdout


def test_the_demo_ends_with_a_verdict_and_a_report(tmp_path: Path) -> None:
    printed = shown(["demo"], tmp_path)
    lines = printed.splitlines()
    assert lines[-1].startswith("demo: done (exit 0): PASS: ")
    phases = [line.split(":")[0] for line in lines if "(exit 0)" in line]
    assert phases == ["setup", "run", "evaluate", "visualize", "gate", "demo"]
    assert any("builtin.tool_calls" in line for line in lines), "a table of scores"
    report = tmp_path / "data/results/evaluation_report.html"
    assert str(report.relative_to(tmp_path)) in printed
    assert "And in London?" in report.read_text() or report.stat().st_size > 50_000


def test_the_arena_demo_ends_with_a_verdict_and_a_report(tmp_path: Path) -> None:
    printed = shown(["arena", "demo"], tmp_path)
    assert printed.splitlines()[-1].startswith("arena: done (exit 0): Succeeded: PASS: 10 of 10 attempts")
    (report,) = tmp_path.glob("data/arena/default/weather/*/report.html")
    assert "matrix-title" in report.read_text()
