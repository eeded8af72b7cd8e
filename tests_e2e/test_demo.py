"""`make demo`: the first thing that a newcomer sees."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_the_demo_ends_with_a_verdict_and_a_report(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "testbench.samples.demo"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done
    lines = done.stdout.splitlines()
    assert lines[-1].startswith("pipeline: done (exit 0): PASS: ")
    phases = [line.split(":")[0] for line in lines if "(exit 0)" in line]
    assert phases == ["setup", "run", "evaluate", "visualize", "gate", "pipeline"]
    assert any("builtin.tool_calls" in line for line in lines), "a table of scores"
    report = tmp_path / "data/results/evaluation_report.html"
    assert str(report.relative_to(tmp_path)) in done.stdout
    assert "And in London?" in report.read_text() or report.stat().st_size > 50_000


def test_the_arena_demo_ends_with_a_verdict_and_a_report(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "testbench.samples.arena_demo"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done
    assert done.stdout.splitlines()[-1].startswith("arena: done (exit 0): Succeeded: PASS: 10 of 10 attempts")
    (report,) = tmp_path.glob("data/arena/default/weather/*/report.html")
    assert "matrix-title" in report.read_text()
