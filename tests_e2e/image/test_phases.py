"""Every phase in the image against the sample agent in the image, and how a container of it is stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from testbench.samples.locate import sample_path
from tests_e2e.image.conftest import Box
from tests_e2e.image.engine import Container, Ended, finish

if TYPE_CHECKING:
    from tests.support.servers.otlp_receiver import OtlpReceiver
    from tests.support.servers.scripted_agent import ScriptedAgent
    from tests.support.servers.scripted_judge import ScriptedJudge
    from tests.support.servers.static_files import StaticFiles

RUN = ("weather", "exec-001", "7")
EVALUATED = "data/experiments/evaluated_experiment.json"
PARAMETERS: dict[str, dict[str, Any]] = {
    "builtin.forbidden_tools": {"tools": ["send_mail"]},
    "builtin.judge": {"criteria": "says the weather"},
    "builtin.json_schema": {"schema": {"type": "object"}},
    "builtin.latency": {"max_ms": 60_000},
    "builtin.length": {"min": 1},
    "builtin.max_tool_calls": {"limit": 3},
    "builtin.not_contains": {"text": "rain"},
    "builtin.regex": {"pattern": "sun+y"},
    "ragas.AspectCritic": {"definition": "says the weather"},
    "ragas.SimpleCriteriaScore": {"definition": "says the weather"},
}
"""Of the metrics that cannot do without."""


def as_argument(phase: str) -> tuple[str, ...]:
    """`docker run IMAGE setup.py …`"""
    return (f"{phase}.py",)


def as_testkube_command(phase: str) -> tuple[str, ...]:
    """`command: [python3, -m, testbench.setup]`"""
    return ("python3", "-m", f"testbench.{phase}")


def as_command(phase: str) -> tuple[str, ...]:
    """`docker run IMAGE setup …`"""
    return (phase,)


def ok(ended: Ended, phase: str) -> None:
    assert ended.code == 0, ended
    assert ended.out.splitlines()[-1].startswith(f"{phase}: done (exit 0): "), ended


@pytest.mark.parametrize("form", [as_argument, as_testkube_command, as_command])
def test_all_phases_end_with_a_verdict(
    box: Box,
    agent_in_image: str,
    files: StaticFiles,
    judge: ScriptedJudge,
    otlp: OtlpReceiver,
    form: Callable[[str], tuple[str, ...]],
) -> None:
    judge.answer("StatementGeneratorOutput", {"statements": ["It is sunny."]})
    judge.answer("NLIStatementOutput", {"statements": [{"statement": "It is sunny.", "reason": "so", "verdict": 1}]})
    box.env.update(OPENAI_API_BASE=judge.base_url, OTEL_EXPORTER_OTLP_ENDPOINT=otlp.endpoint)
    dataset = files.add("weather.csv", sample_path("weather.csv").read_bytes())
    metrics = ("--metric=builtin.tool_calls", "--metric=ragas.NonLLMStringSimilarity=0.5", "--metric=Faithfulness=0.8")
    ok(box.run(*form("setup"), dataset, *metrics), "setup")
    ok(box.run(*form("run"), agent_in_image, RUN[0]), "run")
    ok(box.run(*form("evaluate"), "--model", "scripted-judge"), "evaluate")
    ok(box.run(*form("publish"), *RUN), "publish")
    ok(box.run(*form("visualize"), *RUN), "visualize")
    gate = box.run(*form("gate"), "--min-pass-rate=0.5", "--max-error-rate=0.5")
    ok(gate, "gate")
    verdict = json.loads(box.read("data/results/verdict.json"))
    assert (verdict["verdict"], verdict["exit_code"]) == ("pass", 0)
    assert "<testsuite" in box.read("data/results/junit.xml")
    assert RUN[1] in box.read("data/results/evaluation_report.html")
    assert otlp.points_of("testbench_evaluation_metric")
    assert any(span.name.startswith("scenario ") for span in otlp.spans)


def test_the_pipeline_runs_in_one_container(box: Box, agent_in_image: str) -> None:
    settings = (
        "--set",
        f"run.agent_url={agent_in_image}",
        "--set",
        "setup.dataset=testbench/samples/datasets/experiment.yaml",
    )
    ok(box.run("pipeline.py", "testbench/samples/pipeline.yaml", *settings), "pipeline")


@pytest.mark.parametrize(("demo", "command"), [(("demo",), "demo"), (("arena", "demo"), "arena")])
def test_the_demos_run_in_the_image_as_any_user(box: Box, demo: tuple[str, ...], command: str) -> None:
    """Also as one that the image has never heard of, as OpenShift does it."""
    ok(box.run(*demo, user="123456:1001"), command)


def test_an_arena_job_is_checked_in_the_image(box: Box) -> None:
    folder = "testbench/samples/arena"
    ok(box.run("arena", "validate", f"{folder}/job.yaml", "--source", folder), "arena")


def test_the_operator_of_the_image_asks_for_a_cluster(box: Box) -> None:
    ended = box.run("operator")
    assert (ended.code, ended.err.splitlines()[-2]) == (
        2,
        "hint: Run in a cluster, or name a kubeconfig with --kubeconfig.",
    ), ended


@pytest.mark.parametrize("name", ["weather.csv", "weather.json", "weather.parquet", "experiment.yaml"])
def test_every_format_is_read(box: Box, name: str) -> None:
    ok(box.run("setup.py", f"testbench/samples/datasets/{name}", "--metric=builtin.similarity"), "setup")


def test_excel_is_read(box: Box) -> None:
    made = box.python(
        "import pandas; pandas.DataFrame({'user_input': ['hello']}).to_excel('data/hello.xlsx', index=False)"
    )
    assert made.code == 0, made
    ok(box.run("setup.py", "data/hello.xlsx", "--metric=builtin.similarity"), "setup")


def test_every_metric_is_judged_in_the_image(box: Box, agent_in_image: str, judge: ScriptedJudge) -> None:
    """None of them misses what the image leaves out of the packages."""
    listed: list[dict[str, Any]] = json.loads(box.run("evaluate.py", "--list-metrics", "--json").out)["metrics"]
    names = [metric["name"] for metric in listed if not metric["unavailable"]]
    assert len(names) > 50
    answer = "It is sunny in New York, 25 degrees Celsius."
    step = {
        "input": "What is the weather like in New York right now?",
        "reference": {
            "response": answer,
            "tool_calls": [{"name": "get_weather", "args": {"city": "New York"}}],
            "topics": ["weather"],
            "reference_contexts": [answer],
            "retrieved_contexts": [answer],
        },
        "custom_values": {
            "retrieved_context_ids": ["a"],
            "reference_context_ids": ["a"],
            "rubrics": {"score1_description": "bad", "score5_description": "good"},
        },
        "metrics": [{"metric_name": name, "parameters": PARAMETERS.get(name, {})} for name in names],
    }
    box.write("data/all.yaml", yaml.safe_dump({"scenarios": [{"name": "all", "steps": [step]}]}))
    box.env.update(OPENAI_API_BASE=judge.base_url)
    ok(box.run("setup.py", "data/all.yaml"), "setup")
    ok(box.run("run.py", agent_in_image), "run")
    ok(box.run("evaluate.py", "--model=scripted-judge", "--embedding-model=scripted-judge"), "evaluate")
    evaluations = json.loads(box.read(EVALUATED))["scenarios"][0]["steps"][0]["evaluations"]
    assert {evaluation["metric"]["metric_name"] for evaluation in evaluations} == set(names)
    unjudged = {
        evaluation["metric"]["metric_name"]: evaluation["result"]
        for evaluation in evaluations
        if evaluation["result"]["result"] in ("error", "skipped")
    }
    told = json.dumps(unjudged, indent=1)
    for word in ("ImportError", "ModuleNotFound", "No module", "not installed"):
        assert word not in told
    assert len(unjudged) < len(names) / 4, told


def test_a_framework_that_is_not_in_the_image_is_told_as_bad_input(box: Box, agent_in_image: str) -> None:
    metric = "--metric=deepeval.ToolCorrectnessMetric"
    ok(box.run("setup.py", "testbench/samples/datasets/weather.csv", metric), "setup")
    ok(box.run("run.py", agent_in_image), "run")
    ended = box.run("evaluate.py")
    assert ended.code == 2, ended
    error, hint, last = ended.err.splitlines()[-3:]
    assert (error[:6], hint[:5], last) == ("error:", "hint:", "evaluate: bad input (exit 2)"), ended
    assert "deepeval" in error


def test_a_stopped_container_says_how_to_go_on(
    box: Box, agent: ScriptedAgent, closed: Callable[[Container], Container]
) -> None:
    """Python is process 1: SIGTERM reaches it and nothing else, and what was in flight is all that is lost."""
    ok(box.run("setup.py", "testbench/samples/datasets/weather.csv", "--metric=builtin.similarity"), "setup")
    agent.hang()
    running = closed(box.start("run.py", agent.url, "weather"))
    agent.wait_in_flight(1)
    running.terminate()
    ended = finish(running)
    assert ended.code == 143, ended
    assert f"hint: Take it up again with: python testbench/run.py {agent.url} weather" in ended.err
    assert ended.err.splitlines()[-1] == "run: terminated (exit 143)"
    agent.release()
    ok(box.run("run.py", agent.url, "weather"), "run")
