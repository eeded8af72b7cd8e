"""A metric that does not exist is found out in setup, before anything is sent, and without importing RAGAS."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from testbench.cli.phase import main
from testbench.metrics.ragas import names
from testbench.setup import command


def setup(folder: Path, *arguments: str) -> int:
    rows = folder / "rows.csv"
    rows.write_text("user_input,response\nHow is the weather?,It is sunny.\n")
    return main(command, [str(rows), "--output", str(folder / "experiment.json"), *arguments])


@pytest.mark.parametrize(
    ("metric", "told", "near"),
    [
        ("Faithfullness", "no metric 'Faithfullness'", "ragas.Faithfulness"),
        ("ragas.faithfullness", "no metric 'ragas.faithfullness'", "ragas.Faithfulness"),
        ("tool_calls", "no metric 'tool_calls'", "builtin.tool_calls"),
        ("builtin.tool_cals", "no metric 'builtin.tool_cals'", "builtin.tool_calls"),
        ("deepevil.GEval", "no metric framework 'deepevil'", "deepeval"),
        ("builtin.latency", "needs the parameter 'max_ms'", "max_ms"),
    ],
)
def test_an_unknown_metric_is_refused_with_its_place_and_near_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], metric: str, told: str, near: str
) -> None:
    assert setup(tmp_path, "--metric", metric) == 2
    error, hint, _ = capsys.readouterr().err.splitlines()[-3:]
    assert ", step 1: " in error
    assert told in error
    assert near in hint
    assert not (tmp_path / "experiment.json").exists()


def test_a_scenarios_own_metric_is_checked_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenario: dict[str, Any] = {"name": "s", "steps": [{"input": "a"}], "metrics": [{"metric_name": "GoalAcuracy"}]}
    file = tmp_path / "own.json"
    file.write_text(json.dumps({"scenarios": [scenario]}))
    assert main(command, [str(file), "--output", str(tmp_path / "out.json")]) == 2
    assert "scenario 's': no metric 'GoalAcuracy'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "metric", ["Faithfulness", "faithfulness", "ragas.LLMContextRecall", "string_present", "deepeval.GEval"]
)
def test_known_metrics_and_those_that_only_evaluate_can_know_are_taken(tmp_path: Path, metric: str) -> None:
    assert setup(tmp_path, "--metric", metric) == 0


def test_the_names_are_those_of_ragas() -> None:
    from testbench.metrics.ragas import specs

    assert set(names.NAMES) == set(specs.metrics())
    assert set(names.ALIASES.values()) <= set(names.NAMES)
    for name, metric in specs.metrics().items():
        own = specs.own_name(metric.cls)
        assert own is None or own in names.ALIASES, f"{name} calls itself {own}"


def test_setup_imports_no_framework(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from tests.metrics.test_metric_names import setup
code = setup(Path({str(tmp_path)!r}), "--metric", "Faithfulness", "--metric", "builtin.tool_calls")
heavy = {{"ragas", "deepeval", "openai", "langchain_core"}} & {{name.split(".")[0] for name in sys.modules}}
sys.exit(f"loaded {{heavy}}" if heavy else code)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stderr
