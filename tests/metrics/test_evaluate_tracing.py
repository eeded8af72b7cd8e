"""The judge's requests are traced below the step that they judge, and carry the trace."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbench.cli.phase import main
from testbench.evaluate import command
from testbench.schema.models import ExecutedScenario
from tests.support.metric_samples import experiment, metric, scenario, step
from tests.support.servers.otlp_receiver import OtlpReceiver
from tests.support.servers.scripted_judge import ScriptedJudge

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
RUBRIC = metric("builtin.judge", 0.5, criteria="polite")


@pytest.fixture(autouse=True)
def work_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def traced(one: ExecutedScenario, trace_id: str | None = TRACE) -> ExecutedScenario:
    return one.model_copy(update={"trace_id": trace_id})


def evaluate(*scenarios: ExecutedScenario) -> int:
    executed = experiment(*scenarios, llm_as_a_judge_model="m")
    Path("in.json").write_text(executed.model_dump_json(exclude_none=True))
    return main(command, ["--input", "in.json", "--output", "out.json"])


def test_requests_to_the_judge_are_below_the_step(
    polite: ScriptedJudge, otlp: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp.endpoint)
    assert evaluate(traced(scenario(step(metrics=(RUBRIC,), span_id=SPAN)))) == 0
    evaluation = otlp.span("evaluate builtin.judge")
    [request] = [span for span in otlp.spans if span.parent_id == evaluation.span_id]
    assert (evaluation.trace_id, evaluation.parent_id) == (TRACE, SPAN)
    assert evaluation.attributes["gen_ai.evaluation.name"] == "builtin.judge"
    assert evaluation.attributes["gen_ai.evaluation.score.label"] == "pass"
    assert evaluation.attributes["gen_ai.evaluation.score.value"] == 1.0
    assert polite.chats[0].headers["traceparent"] == f"00-{TRACE}-{request.span_id}-01"


def test_a_scenarios_own_metric_is_in_its_trace(
    polite: ScriptedJudge, otlp: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp.endpoint)
    assert evaluate(traced(scenario(step(span_id=SPAN), metrics=(RUBRIC,)))) == 0
    assert otlp.span("evaluate builtin.judge").trace_id == TRACE


@pytest.mark.parametrize(("trace_id", "span_id"), [(None, None), ("no hex", "x"), ("0" * 32, "0" * 16)])
def test_a_file_without_usable_ids_is_judged_all_the_same(
    polite: ScriptedJudge,
    otlp: OtlpReceiver,
    monkeypatch: pytest.MonkeyPatch,
    trace_id: str | None,
    span_id: str | None,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp.endpoint)
    assert evaluate(traced(scenario(step(metrics=(RUBRIC,), span_id=span_id)), trace_id)) == 0
    assert otlp.span("evaluate builtin.judge").parent_id == ""


def test_a_collector_that_is_down_costs_no_score(
    polite: ScriptedJudge, nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", nobody)
    monkeypatch.setattr("testbench.defaults.TRACE_FLUSH_S", 0.1)
    assert evaluate(traced(scenario(step(metrics=(RUBRIC,), span_id=SPAN)))) == 0
