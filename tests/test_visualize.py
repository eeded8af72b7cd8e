"""`visualize.py` as its users call it: one file, the gate's words, and an honest end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from testbench.cli.phase import main
from testbench.gate import command as gate
from testbench.schema.files import write_model
from testbench.schema.models import EvaluatedExperiment
from testbench.visualize import command
from tests.support.report_factory import experiment

ROOT = Path(__file__).parents[1]
WHICH = ("travel-desk", "exec-7", "42")


@pytest.fixture
def evaluated(tmp_path: Path) -> Path:
    path = tmp_path / "evaluated.json"
    write_model(path, experiment(60))
    return path


def visualize(evaluated: Path, *more: str) -> tuple[int, str]:
    output = evaluated.parent / "report.html"
    code = main(command, [*WHICH, "--input", str(evaluated), "--output", str(output), *more])
    return code, output.read_text(encoding="utf-8") if output.exists() else ""


def test_a_process_writes_one_file_that_names_its_run(evaluated: Path) -> None:
    output = evaluated.parent / "deep" / "report.html"
    arguments = ["testbench/visualize.py", *WHICH, "--input", str(evaluated), "--output", str(output), "--json"]
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["report"], said["bytes"]) == (str(output), output.stat().st_size)
    html = output.read_text(encoding="utf-8")
    for words in ("travel-desk", "exec-7", "number 42"):
        assert words in html
    assert [path.name for path in output.parent.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    "rates",
    [(), ("--min-pass-rate", "0.5", "--max-error-rate", "0.5"), ("--min-pass-rate", "0.9", "--max-error-rate", "0.5")],
)
def test_the_report_says_what_the_gate_says(
    evaluated: Path, rates: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    verdict = evaluated.parent / "verdict.json"
    junit = evaluated.parent / "junit.xml"
    main(gate, ["--input", str(evaluated), "--output", str(verdict), "--junit", str(junit), *rates])
    gated = json.loads(verdict.read_text())
    code, computed = visualize(evaluated, *rates)
    assert code == 0
    assert gated["sentence"] in computed
    assert f'data-verdict="{gated["verdict"]}"' in computed
    assert visualize(evaluated, "--verdict", str(verdict)) == (0, computed)
    assert gated["sentence"] in capsys.readouterr().out


def test_a_bad_agent_is_no_fault_of_the_report(evaluated: Path) -> None:
    assert visualize(evaluated, "--min-pass-rate", "1.0", "--max-error-rate", "1.0")[0] == 0


def test_an_empty_experiment_is_shown_and_is_nothing_to_do(tmp_path: Path) -> None:
    write_model(tmp_path / "evaluated.json", EvaluatedExperiment(scenarios=()))
    code, html = visualize(tmp_path / "evaluated.json")
    assert code == 4
    assert 'data-verdict="nothing"' in html


def test_a_baseline_is_compared(evaluated: Path, tmp_path: Path) -> None:
    write_model(tmp_path / "earlier.json", experiment(60, seed=8))
    code, html = visualize(evaluated, "--baseline", str(tmp_path / "earlier.json"))
    assert code == 0
    assert "Against the baseline" in html
    assert "Against the baseline" not in visualize(evaluated)[1]


@pytest.mark.parametrize("option", ["--input", "--baseline", "--verdict"])
@pytest.mark.parametrize("content", [None, "{", '{"scenarios": 1}'])
def test_a_file_that_cannot_be_read_leaves_the_old_report(
    evaluated: Path, option: str, content: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = evaluated.parent / "bad.json"
    if content is not None:
        bad.write_text(content)
    report = evaluated.parent / "report.html"
    report.write_text("the old report")
    code = main(command, [*WHICH, "--input", str(evaluated), "--output", str(report), option, str(bad)])
    error = capsys.readouterr().err
    assert code == 2
    assert "error: " in error
    assert "bad.json" in error
    assert "hint: " in error
    assert report.read_text() == "the old report"


def test_a_link_template_that_leads_nowhere_is_refused(evaluated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, html = visualize(evaluated, "--trace-url", "javascript:alert(1)//{trace_id}")
    assert (code, html) == (2, "")
    assert "--trace-url" in capsys.readouterr().err


def test_a_verdict_on_another_experiment_is_refused(evaluated: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    write_model(other, experiment(60).model_copy(update={"id": "exp_other"}))
    verdict = tmp_path / "verdict.json"
    main(gate, ["--input", str(other), "--output", str(verdict), "--junit", str(tmp_path / "junit.xml")])
    assert visualize(evaluated, "--verdict", str(verdict)) == (2, "")


def test_a_verdict_on_another_run_of_the_experiment_is_refused(
    evaluated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.json"
    write_model(other, experiment(60, seed=8).model_copy(update={"id": experiment(60).id}))
    verdict = tmp_path / "verdict.json"
    main(gate, ["--input", str(other), "--output", str(verdict), "--junit", str(tmp_path / "junit.xml")])
    assert visualize(evaluated, "--verdict", str(verdict)) == (2, "")
    assert "is about another run" in capsys.readouterr().err


def test_the_report_is_not_written_over_what_it_is_made_of(evaluated: Path) -> None:
    before = evaluated.read_bytes()
    assert main(command, [*WHICH, "--input", str(evaluated), "--output", str(evaluated)]) == 2
    assert evaluated.read_bytes() == before


def test_without_chart_js_no_report_is_written(
    evaluated: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("testbench.report.page.DISTRIBUTION", "not-installed-here")
    assert visualize(evaluated) == (3, "")
    assert "uv sync" in capsys.readouterr().err
