"""All phases from one file: what the file may say, who wins where two say something, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from testbench.cli.phase import main
from testbench.pipeline import command

if TYPE_CHECKING:
    from tests.support.servers.scripted_agent import ScriptedAgent

EXPERIMENT = {
    "scenarios": [
        {
            "name": "greeting",
            "steps": [{"input": "hello", "metrics": [{"metric_name": "builtin.length", "parameters": {"min": 1}}]}],
        }
    ]
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a pipeline, with an experiment in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    return tmp_path


def run(folder: Path, document: Any, *arguments: str) -> int:
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(document))
    return main(command, ["pipeline.yaml", *arguments])


def sections(agent_url: str, **more: Any) -> dict[str, Any]:
    return {"workflow_name": "w", "setup": {"dataset": "experiment.yaml"}, "run": {"agent_url": agent_url}} | more


def test_it_runs_every_phase_and_ends_with_the_verdict(
    folder: Path, agent: ScriptedAgent, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, sections(agent.url)) == 0
    ends = [line for line in capsys.readouterr().out.splitlines() if "(exit 0)" in line]
    assert [line.split(":")[0] for line in ends] == ["setup", "run", "evaluate", "visualize", "gate", "pipeline"]
    assert "PASS: 1 of 1 steps passed" in ends[-1]
    assert (folder / "data/results/evaluation_report.html").exists()
    assert json.loads((folder / "data/results/verdict.json").read_text())["verdict"] == "pass"
    executed = json.loads((folder / "data/experiments/executed_experiment.json").read_text())
    assert executed["run"]["workflow_name"] == "w"


def test_a_verdict_of_fail_is_its_exit_code(folder: Path, agent: ScriptedAgent) -> None:
    strict = json.loads(json.dumps(EXPERIMENT))
    strict["scenarios"][0]["steps"][0]["metrics"] = [
        {"metric_name": "builtin.contains", "parameters": {"text": "no agent says this"}}
    ]
    (folder / "experiment.yaml").write_text(yaml.safe_dump(strict))
    assert run(folder, sections(agent.url)) == 1


def test_the_report_is_written_and_the_exit_is_not_green_when_scores_do_not_arrive(
    folder: Path, agent: ScriptedAgent, nobody: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", f"{nobody}/v1/metrics")
    assert run(folder, sections(agent.url, publish={"timeout": 2})) == 3
    assert "PASS: 1 of 1 steps passed (100% required). But publish could not be done." in capsys.readouterr().out
    assert (folder / "data/results/evaluation_report.html").exists()


def test_an_agent_that_is_down_ends_it_before_anything_is_judged(
    folder: Path, nobody: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, sections(nobody)) == 3
    assert capsys.readouterr().err.splitlines()[-1] == "pipeline: could not be done (exit 3)"
    assert not (folder / "data/results").exists()


def test_json_is_one_object_for_all_phases(
    folder: Path, agent: ScriptedAgent, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, sections(agent.url), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["phase"], document["exit_code"]) == ("pipeline", 0)
    assert list(document["phases"]) == ["setup", "run", "evaluate", "visualize", "gate"]


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(
    folder: Path, agent: ScriptedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = sections(agent.url, gate={"output": "from-file.json"})
    run(folder, document)
    monkeypatch.setenv("TESTBENCH_GATE_OUTPUT", "from-environment.json")
    run(folder, document)
    run(folder, document, "--set", "gate.output=from-flag.json")
    assert {path.name for path in folder.glob("from-*")} == {
        "from-file.json",
        "from-environment.json",
        "from-flag.json",
    }


def test_a_flag_is_set_and_unset_from_the_command_line(
    folder: Path, agent: ScriptedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(folder, sections(agent.url))
    run(folder, sections(agent.url))
    assert len(agent.received) == 1, "nothing was left to do"
    assert run(folder, sections(agent.url), "--set", "run.fresh=true") == 0
    assert len(agent.received) == 2
    document = sections(agent.url)
    document["run"]["fresh"] = True
    monkeypatch.setenv("TESTBENCH_RUN_FRESH", "true")
    assert run(folder, document, "--set", "run.fresh=false") == 0
    assert len(agent.received) == 2


@pytest.mark.parametrize(
    ("document", "arguments", "message", "hint"),
    [
        ([], [], "not a mapping of phases", "setup, run"),
        ({"sepup": {}}, [], "unknown section 'sepup'", "setup"),
        ({"setup": []}, [], "section 'setup' is not a mapping", "key: value"),
        (
            {"setup": {"dataset": "x", "limits": 3}},
            [],
            "unknown key 'limits' in section 'setup'",
            "testbench setup --help",
        ),
        ({}, [], "setup: Missing argument 'DATASET'", "setup --help"),
        ({"setup": {"dataset": "experiment.yaml", "limit": "few"}}, [], "setup: Invalid value for '--limit'", ""),
        ({}, ["--set", "concurrency=3"], "is not PHASE.KEY=VALUE", "run.concurrency=4"),
        ({"setup": {"dataset": "x"}}, ["--set", "setup.limits=3"], "setup has no setting 'limits'", "--help"),
        (
            {"setup": {"dataset": "x"}},
            ["--set", "run.fresh=soon"],
            "'soon' is not a valid boolean",
            "testbench run --help",
        ),
    ],
)
def test_a_mistake_in_the_file_is_told_with_its_place(
    folder: Path, document: Any, arguments: list[str], message: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, document, *arguments) == 2
    error, told, last = capsys.readouterr().err.splitlines()
    assert message in error
    assert hint in told
    assert last == "pipeline: bad input (exit 2)"
    assert not (folder / "data").exists()


def test_a_missing_file_is_bad_input(folder: Path) -> None:
    assert main(command, ["nowhere.yaml"]) == 2


def test_results_of_an_earlier_run_do_not_outlive_a_run_that_ends_early(
    folder: Path, agent: ScriptedAgent, nobody: str
) -> None:
    settings = {"summary": "data/results/summary.md"}
    assert run(folder, sections(agent.url, gate=settings)) == 0
    results = folder / "data/results"
    assert len(list(results.iterdir())) == 4
    assert run(folder, sections(nobody, gate=settings)) == 3
    assert list(results.iterdir()) == []


def test_the_report_judges_by_what_the_gate_is_asked_for(folder: Path, agent: ScriptedAgent) -> None:
    two = json.loads(json.dumps(EXPERIMENT))
    impossible = {"metric_name": "builtin.contains", "parameters": {"text": "no agent says this"}}
    two["scenarios"].append({"name": "hard", "tags": ["hard"], "steps": [{"input": "hello", "metrics": [impossible]}]})
    (folder / "experiment.yaml").write_text(yaml.safe_dump(two))
    for settings, sentence in (
        ({"min_pass_rate": 0.5}, "PASS: 1 of 2 steps passed (50% required)."),
        ({"threshold": "builtin.contains=0"}, "PASS: 2 of 2 steps passed (100% required)."),
        ({"only": ["hard"]}, "FAIL: 0 of 1 steps passed (100% required)."),
    ):
        run(folder, sections(agent.url, gate=settings))
        assert json.loads((folder / "data/results/verdict.json").read_text())["sentence"] == sentence
        assert sentence in (folder / "data/results/evaluation_report.html").read_text()


def test_a_baseline_is_a_setting_of_the_gate(folder: Path, agent: ScriptedAgent) -> None:
    assert run(folder, sections(agent.url)) == 0
    earlier = folder / "data/experiments/evaluated_experiment.json"
    (folder / "before.json").write_bytes(earlier.read_bytes())
    again = {"run": {"agent_url": agent.url, "fresh": True}}
    assert run(folder, sections(agent.url, gate={"baseline": "before.json"}, **again)) == 0
    verdict = json.loads((folder / "data/results/verdict.json").read_text())
    assert verdict["baseline"]["comparable"]
    assert verdict["sentence"] in (folder / "data/results/evaluation_report.html").read_text()
    assert run(folder, sections(agent.url, gate={"baseline": "nowhere.json"})) == 2
    assert run(folder, sections(agent.url, gate={"baseline": str(earlier)})) == 3, "the run itself"
