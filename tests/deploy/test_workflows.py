"""The workflows, run: what passes, what a failure stops, what runs nevertheless, and that no failure is a pass."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import click
import pytest

from testbench.cli.phase import main
from testbench.samples.locate import sample_path
from tests.samples.test_weather_agent import agent_process
from tests.support.workflow_runner import Execution, run_workflow

if TYPE_CHECKING:
    from tests.support.servers.otlp_receiver import OtlpReceiver
    from tests.support.servers.scripted_agent import ScriptedAgent
    from tests.support.servers.scripted_judge import ScriptedJudge
    from tests.support.servers.scripting import ScriptedServer
    from tests.support.servers.static_files import StaticFiles

PHASES = ["setup", "run", "evaluate", "publish", "visualize", "gate"]
ARTIFACTS = {
    "data/datasets/experiment.json",
    "data/experiments/executed_experiment.json",
    "data/experiments/evaluated_experiment.json",
    "data/results/evaluation_report.html",
    "data/results/verdict.json",
    "data/results/junit.xml",
    "data/results/summary.md",
}


@pytest.fixture(scope="module")
def agent_url() -> Iterator[str]:
    with agent_process() as (_, url):
        yield url


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a pod has at /app: an empty data volume, and the ConfigMap with the experiment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "200")  # milliseconds; only a dead collector takes them
    (tmp_path / "data").mkdir()
    (tmp_path / "experiment").mkdir()
    shutil.copy(sample_path("experiment.yaml"), tmp_path / "experiment")
    return tmp_path


@pytest.fixture
def dataset_url(files: StaticFiles) -> str:
    return files.add("dataset.csv", sample_path("weather.csv").read_bytes())


def verdict(execution: Execution) -> str:
    word: str = json.loads(execution.artifacts["data/results/verdict.json"])["verdict"]
    return word


def test_the_multi_turn_workflow_passes_and_leaves_every_artifact(
    app: Path, agent_url: str, otlp: OtlpReceiver
) -> None:
    done = run_workflow(
        "multi-turn-workflow", app, {"agentUrl": agent_url, "judgeUrl": "", "otlpEndpoint": otlp.origin}
    )
    assert done.statuses == dict.fromkeys(PHASES, "passed")
    assert list(done.steps) == PHASES
    assert set(done.artifacts) == ARTIFACTS
    assert verdict(done) == "pass"
    point = otlp.points_of("testbench_evaluation_metric")[0]
    assert point.attributes["workflow_name"] == "multi-turn-workflow"
    assert (point.attributes["execution_id"], point.attributes["execution_number"]) == ("65f0c0ffee", 7)
    assert otlp.span("scenario off topic").resource["workflow_name"] == "multi-turn-workflow"


def test_ragas_asks_the_judge_for_every_answer_with_a_reference(
    app: Path, agent_url: str, dataset_url: str, judge: ScriptedJudge, otlp: OtlpReceiver
) -> None:
    judge.reply_text('{"rating": 4}')
    config = {"datasetUrl": dataset_url, "agentUrl": agent_url, "judgeUrl": judge.base_url, "otlpEndpoint": otlp.origin}
    done = run_workflow("ragas-evaluation-workflow", app, config, {"OPENAI_API_KEY": "sk-of-the-secret"})
    assert done.passed, done.steps
    assert verdict(done) == "pass"
    assert judge.models == {"gemini-2.5-flash-lite"}
    assert {request.headers["authorization"] for request in judge.chats} == {"Bearer sk-of-the-secret"}
    assert len(otlp.points_of("testbench_evaluation_metric")) == 11


def test_a_bad_agent_is_published_and_fails_at_the_gate(
    app: Path, agent_url: str, dataset_url: str, otlp: OtlpReceiver
) -> None:
    config = {"datasetUrl": dataset_url, "agentUrl": agent_url, "otlpEndpoint": otlp.origin}
    done = run_workflow(
        "ragas-evaluation-workflow", app, config | {"metrics": "builtin.exact_match", "minPassRate": "0.9"}
    )
    assert done.steps["gate"].codes == (1,)
    assert done.statuses == {**dict.fromkeys(PHASES, "passed"), "gate": "failed"}
    assert verdict(done) == "fail"
    assert otlp.points_of("testbench_evaluation_metric")
    assert b"FAIL" in done.artifacts["data/results/evaluation_report.html"]
    assert ET.fromstring(done.artifacts["data/results/junit.xml"]).find(".//failure") is not None


def test_an_agent_that_is_worse_than_its_baseline_fails(
    app: Path, agent_url: str, dataset_url: str, agent: ScriptedAgent
) -> None:
    config = {"datasetUrl": dataset_url, "otlpEndpoint": "", "minPassRate": "0", "metrics": "builtin.exact_match"}
    good = run_workflow("ragas-evaluation-workflow", app, config | {"agentUrl": agent_url})
    assert good.passed
    baseline = app / "baseline.json"
    baseline.write_bytes(good.artifacts["data/experiments/evaluated_experiment.json"])
    shutil.rmtree(app / "data")
    bad = run_workflow("ragas-evaluation-workflow", app, config | {"agentUrl": agent.url, "baseline": str(baseline)})
    assert bad.steps["gate"].codes == (1,)
    assert bad.statuses["visualize"] == "passed"
    assert b"FAIL" in bad.artifacts["data/results/evaluation_report.html"]


def test_without_an_agent_nothing_is_published_and_the_gate_says_that_there_is_no_verdict(
    app: Path, nobody: str, otlp: OtlpReceiver, capsys: pytest.CaptureFixture[str]
) -> None:
    done = run_workflow("multi-turn-workflow", app, {"agentUrl": nobody, "otlpEndpoint": otlp.origin})
    assert done.steps["run"].codes == (3, 3, 3)
    assert done.statuses | {"visualize": ""} == {
        "setup": "passed",
        "run": "failed",
        "evaluate": "skipped",
        "publish": "skipped",
        "visualize": "",
        "gate": "failed",
    }
    assert set(done.artifacts) == {"data/datasets/experiment.json"}
    assert not otlp.points_of("testbench_evaluation_metric")
    assert "gate: bad input (exit 2)" in capsys.readouterr().err


def test_a_judge_that_is_out_publishes_nothing_and_is_neither_pass_nor_fail(
    app: Path, agent_url: str, dataset_url: str, judge: ScriptedJudge, otlp: OtlpReceiver
) -> None:
    judge.fail_rate(1.0, 401)
    config = {"datasetUrl": dataset_url, "agentUrl": agent_url, "judgeUrl": judge.base_url, "otlpEndpoint": otlp.origin}
    done = run_workflow("ragas-evaluation-workflow", app, config)
    assert done.steps["evaluate"].codes == (3, 3)
    assert done.statuses["publish"] == "skipped"
    assert not otlp.points_of("testbench_evaluation_metric")
    assert done.steps["gate"].codes == (3,)
    assert verdict(done) == "error"
    assert b"NO VERDICT" in done.artifacts["data/results/evaluation_report.html"]


def out_during_the_first_attempt(server: ScriptedServer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the first attempt at this phase has ended, the server takes nothing."""
    server.fail_rate(1.0, 401)

    def attempt(phase: click.Command, arguments: Sequence[str]) -> int:
        code = main(phase, arguments)
        if phase.name == name:
            server.fail_rate(0.0)
        return code

    monkeypatch.setattr("tests.support.workflow_runner.main", attempt)


def test_a_retry_of_run_asks_an_agent_again_that_was_out_for_a_while(
    app: Path, agent: ScriptedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    out_during_the_first_attempt(agent, "run", monkeypatch)
    done = run_workflow("multi-turn-workflow", app, {"agentUrl": agent.url, "judgeUrl": "", "otlpEndpoint": ""})
    assert done.steps["run"].codes == (3, 0)


def test_a_retry_of_evaluate_asks_a_judge_again_that_was_out_for_a_while(
    app: Path, agent_url: str, dataset_url: str, judge: ScriptedJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge.reply_text('{"rating": 4}')
    out_during_the_first_attempt(judge, "evaluate", monkeypatch)
    config = {"datasetUrl": dataset_url, "agentUrl": agent_url, "judgeUrl": judge.base_url, "otlpEndpoint": ""}
    done = run_workflow("ragas-evaluation-workflow", app, config)
    assert done.steps["evaluate"].codes == (3, 0)
    assert verdict(done) == "pass"


def test_scores_that_do_not_arrive_fail_the_workflow_and_the_verdict_is_still_told(
    app: Path, agent_url: str, nobody: str
) -> None:
    done = run_workflow("multi-turn-workflow", app, {"agentUrl": agent_url, "judgeUrl": "", "otlpEndpoint": nobody})
    assert done.steps["publish"].codes == (3, 3, 3)
    assert not done.passed
    assert verdict(done) == "pass"


def test_without_a_collector_nothing_is_published_and_the_workflow_passes(app: Path, agent_url: str) -> None:
    done = run_workflow("multi-turn-workflow", app, {"agentUrl": agent_url, "judgeUrl": "", "otlpEndpoint": ""})
    assert done.statuses == {**dict.fromkeys(PHASES, "passed"), "publish": "skipped"}
    assert done.passed


@pytest.mark.parametrize("metrics", ["", "builtin.no_such_metric"])
def test_an_evaluation_without_metrics_never_passes(
    app: Path, agent_url: str, dataset_url: str, otlp: OtlpReceiver, metrics: str
) -> None:
    run = partial(run_workflow, "ragas-evaluation-workflow", app)
    done = run({"datasetUrl": dataset_url, "agentUrl": agent_url, "otlpEndpoint": otlp.origin, "metrics": metrics})
    assert not done.passed
    assert done.statuses["publish"] == "skipped"
    assert done.statuses["gate"] == "failed"
    assert not otlp.points_of("testbench_evaluation_metric")


def test_what_a_parameter_says_never_becomes_an_option(
    app: Path, nobody: str, capsys: pytest.CaptureFixture[str]
) -> None:
    done = run_workflow(
        "ragas-evaluation-workflow", app, {"datasetUrl": "--help", "agentUrl": nobody, "otlpEndpoint": ""}
    )
    assert done.steps["setup"].codes == (2, 2, 2)
    assert "--help: no such file" in capsys.readouterr().err
