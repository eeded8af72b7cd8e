"""The five phases and the gate as processes, one after the other, and what each of them leaves behind.

Everything runs on loopback. For a real environment set E2E_DATASET_URL, E2E_AGENT_URL, E2E_MODEL (with OPENAI_API_BASE)
and E2E_OTLP_ENDPOINT; the contents are then checked as far as they do not depend on the sample agent.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from testbench.samples.locate import sample_path
from testbench.schema.models import EvaluatedExperiment, ExecutedExperiment, Experiment
from tests_e2e.conftest import Bench, Ended

if TYPE_CHECKING:
    from tests.support.servers.otlp_receiver import OtlpReceiver
    from tests.support.servers.scripted_judge import ScriptedJudge

REAL = {name: os.environ.get(name) for name in ("E2E_DATASET_URL", "E2E_AGENT_URL", "E2E_MODEL", "E2E_OTLP_ENDPOINT")}
WORKFLOW, EXECUTION, NUMBER = "e2e-workflow", "exec-001", "7"


def ok(ended: Ended, phase: str) -> None:
    assert ended.code == 0, ended
    assert ended.last_line.startswith(f"{phase}: done (exit 0): "), ended


@pytest.fixture
def pipeline(
    bench: Bench, weather_agent: str, judge: ScriptedJudge, otlp: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> Bench:
    """A working folder in which setup, run, evaluate, publish, visualize and gate have been run."""
    judge.answer("StatementGeneratorOutput", {"statements": ["It is sunny in New York."]})
    judge.answer(
        "NLIStatementOutput",
        {"statements": [{"statement": "It is sunny in New York.", "reason": "The context says so.", "verdict": 1}]},
    )
    if REAL["E2E_MODEL"] is None:
        monkeypatch.setenv("OPENAI_API_BASE", judge.base_url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", REAL["E2E_OTLP_ENDPOINT"] or otlp.endpoint)
    dataset = REAL["E2E_DATASET_URL"] or str(sample_path("weather.csv"))
    metrics = ["builtin.tool_calls", "builtin.similarity=0.5", "ragas.NonLLMStringSimilarity=0.5", "Faithfulness=0.8"]
    ok(bench.run("setup", dataset, *(f"--metric={metric}" for metric in metrics)), "setup")
    ok(bench.run("run", REAL["E2E_AGENT_URL"] or weather_agent, WORKFLOW), "run")
    ok(bench.run("evaluate", "--model", REAL["E2E_MODEL"] or "scripted-judge"), "evaluate")
    ok(bench.run("publish", WORKFLOW, EXECUTION, NUMBER), "publish")
    ok(bench.run("visualize", WORKFLOW, EXECUTION, NUMBER), "visualize")
    return bench


def test_each_phase_leaves_what_the_next_one_needs(pipeline: Bench, otlp: OtlpReceiver) -> None:
    asked = Experiment.model_validate(pipeline.read("data/datasets/experiment.json"))
    executed = ExecutedExperiment.model_validate(pipeline.read("data/experiments/executed_experiment.json"))
    evaluated = EvaluatedExperiment.model_validate(pipeline.read("data/experiments/evaluated_experiment.json"))
    names = [scenario.name for scenario in asked.scenarios]
    assert names
    assert [scenario.name for scenario in executed.scenarios] == names
    assert [scenario.name for scenario in evaluated.scenarios] == names
    answered = [step for scenario in executed.scenarios for step in scenario.steps]
    assert all(step.status == "ok" and step.answer for step in answered)
    assert all(scenario.trace_id and len(scenario.trace_id) == 32 for scenario in executed.scenarios)
    if REAL["E2E_AGENT_URL"] is None and REAL["E2E_DATASET_URL"] is None:
        check_the_weather(evaluated)
    if REAL["E2E_OTLP_ENDPOINT"] is None:
        check_telemetry(evaluated, otlp)
    check_report(pipeline.folder / "data/results/evaluation_report.html", evaluated)
    assert not {name for name in pipeline.files() if "tmp" in name or "journal" in name}


def check_the_weather(evaluated: EvaluatedExperiment) -> None:
    """What the sample agent said to its own dataset, and what the metrics said of that."""
    steps = {step.input: step for scenario in evaluated.scenarios for step in scenario.steps}
    step = steps["What is the weather like in New York right now?"]
    assert [turn.type for turn in step.turns] == ["human", "agent", "tool", "agent"]
    assert step.turns[1].tool_calls is not None
    assert step.turns[1].tool_calls[0].model_dump() == {"name": "get_weather", "args": {"city": "New York"}}
    assert step.answer == "It is sunny in New York, 25 degrees Celsius."
    assert step.usage is not None
    assert step.usage.input_tokens
    results = {evaluation.metric.metric_name: evaluation.result for evaluation in step.evaluations}
    assert results["builtin.tool_calls"].score == 1.0
    faithfulness = results["Faithfulness"]
    assert (faithfulness.result, faithfulness.score, faithfulness.judge_model) == ("pass", 1.0, "scripted-judge")
    assert faithfulness.usage is not None
    assert faithfulness.usage.input_tokens


def check_telemetry(evaluated: EvaluatedExperiment, otlp: OtlpReceiver) -> None:
    """One point for every score, each with the trace that run recorded and the collector received."""
    scores = {
        (step.id, evaluation.metric.metric_name): evaluation.result.score
        for scenario in evaluated.scenarios
        for step in scenario.steps
        for evaluation in step.evaluations
        if evaluation.result.score is not None
    }
    points = [point for point in otlp.points if point.name == "testbench_evaluation_metric"]
    assert {(p.attributes["sample_hash"], p.attributes["name"]): p.value for p in points} == pytest.approx(scores)
    assert len(points) == len(scores)
    assert {p.attributes["execution_id"] for p in points} == {EXECUTION}
    assert {p.attributes["trace_id"] for p in points} <= {span.trace_id for span in otlp.spans}


def check_report(path: Path, evaluated: EvaluatedExperiment) -> None:
    page = path.read_text()
    assert WORKFLOW in page
    assert EXECUTION in page
    assert "https://cdn" not in page
    assert evaluated.scenarios


def test_the_gate_ends_with_the_verdict_on_the_scores(pipeline: Bench) -> None:
    ended = pipeline.run("gate")
    verdict = pipeline.read("data/results/verdict.json")
    assert ended.code == verdict["exit_code"]
    assert verdict["sentence"] in ended.out.splitlines()[-1]
    root = ET.parse(pipeline.folder / "data/results/junit.xml").getroot()
    evaluated = EvaluatedExperiment.model_validate(pipeline.read("data/experiments/evaluated_experiment.json"))
    failed = sum(
        evaluation.result.result == "fail"
        for scenario in evaluated.scenarios
        for step in scenario.steps
        for evaluation in step.evaluations
    )
    assert int(root.attrib["failures"]) == failed
    assert (ended.code == 1) == (failed > 0 and verdict["checks"]["errors"] == 0)


def test_json_of_every_phase_is_one_object(pipeline: Bench) -> None:
    ended = pipeline.run("gate", "--json")
    document: dict[str, Any] = json.loads(ended.out)
    assert (document["phase"], document["exit_code"]) == ("gate", ended.code)
