"""`publish.py` from its command line to a real receiver: the exit code says whether everything arrived."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from testbench.cli.phase import main
from testbench.publish import command
from testbench.schema.models import EvaluatedExperiment
from tests.support.servers.otlp_receiver import OtlpReceiver
from tests.support.telemetry_samples import (
    SPAN_ID,
    TRACE_ID,
    experiment,
    experiments,
    failed_step,
    judged,
    large,
    scenario,
    step,
    unjudged,
    written,
)

SCORES = "testbench_evaluation_metric"
TWO_SCORES = experiment(scenario(step(judged("a", 1.0), judged("b", 0.25, reason="no")), step(unjudged("a"), number=2)))


@pytest.fixture(autouse=True)
def collector(otlp: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> OtlpReceiver:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp.endpoint)
    return otlp


def publish(path: Path, *options: str) -> int:
    return main(command, ["weather-test", "exec-001", "7", "--input", str(path), *options])


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


def test_scores_aggregates_and_events_arrive(
    otlp: OtlpReceiver, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publish(written(tmp_path / "e.json", TWO_SCORES)) == 0
    assert [(point.attributes["name"], point.value) for point in otlp.points_of(SCORES)] == [("a", 1.0), ("b", 0.25)]
    assert {(point.unit, point.kind) for point in otlp.points} == {("", "gauge")}
    assert {point.name for point in otlp.points} == {
        SCORES,
        "testbench_evaluation_pass_rate",
        "testbench_evaluation_score_mean",
        "testbench_evaluation_errors",
    }
    assert Counter(event.name for event in otlp.log_events) == {"gen_ai.evaluation.result": 3}
    assert {(event.trace_id, event.span_id) for event in otlp.log_events} == {(TRACE_ID, SPAN_ID)}
    assert {event.time_ns for event in otlp.log_events} == {point.time_ns for point in otlp.points} != {0}
    resources = [point.resource for point in otlp.points] + [event.resource for event in otlp.log_events]
    assert all(resource["service.name"] == "testbench" for resource in resources)
    assert all(resource["workflow_name"] == "weather-test" for resource in resources)
    assert capsys.readouterr().out == (
        "publish: done (exit 0): 2 scores, 8 aggregates and 3 events delivered to "
        f"{otlp.endpoint}/v1/metrics; 1 evaluations have no score "
        f"({tmp_path / 'e.json'} is judged for itself: it does not say what it was made of)\n"
    )


def test_two_runs_are_the_same_series(otlp: OtlpReceiver, tmp_path: Path) -> None:
    """A `service.instance.id` that is random for each process would make new series of every run."""
    path = written(tmp_path / "e.json", TWO_SCORES)
    assert (publish(path), publish(path)) == (0, 0)
    first, second = (otlp.points[: len(otlp.points) // 2], otlp.points[len(otlp.points) // 2 :])
    assert [(point.attributes, point.resource) for point in first] == [
        (point.attributes, point.resource) for point in second
    ]
    assert all("service.instance.id" not in point.resource for point in first)


def test_the_environment_may_name_service_and_instance(
    otlp: OtlpReceiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=one,team=a%20b,service.name=x,workflow_name=y,=,z"
    )
    monkeypatch.setenv("OTEL_SERVICE_NAME", "bench")
    assert publish(written(tmp_path / "e.json", TWO_SCORES)) == 0
    resource = dict(otlp.points[0].resource)
    assert resource.pop("service.version")
    assert resource == {
        "service.name": "bench",
        "service.instance.id": "one",
        "team": "a b",
        "workflow_name": "weather-test",
    }


def test_five_thousand_distinct_points_arrive_as_five_thousand(otlp: OtlpReceiver, tmp_path: Path) -> None:
    assert publish(written(tmp_path / "e.json", large(5000))) == 0
    arrived = otlp.points_of(SCORES)
    assert len(arrived) == 5000
    assert len({point.attributes["sample_hash"] for point in arrived}) == 5000
    assert not any("otel.metric.overflow" in point.attributes for point in otlp.points)
    assert len(otlp.log_events) == 5000


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(experiments())
def test_what_arrives_are_the_scores_of_the_file(
    otlp: OtlpReceiver, tmp_path: Path, evaluated: EvaluatedExperiment
) -> None:
    otlp.points.clear()
    otlp.log_events.clear()
    code = publish(written(tmp_path / "e.json", evaluated))
    steps = [one for each in evaluated.scenarios for one in each.steps]
    found = [evaluation for one in steps if one.status == "ok" for evaluation in one.evaluations]
    found += [evaluation for each in evaluated.scenarios for evaluation in each.evaluations]
    scores = [evaluation.result.score for evaluation in found if evaluation.result.score is not None]
    assert Counter(point.value for point in otlp.points_of(SCORES)) == Counter(scores)
    assert code == (0 if scores else 4)


def test_without_steps_only_aggregates_and_events(otlp: OtlpReceiver, tmp_path: Path) -> None:
    assert publish(written(tmp_path / "e.json", TWO_SCORES), "--no-per-step") == 0
    assert otlp.points_of(SCORES) == []
    assert len(otlp.points_of("testbench_evaluation_pass_rate")) == 2
    assert len(otlp.log_events) == 3


def test_content_stays_out_where_it_is_not_wanted(
    otlp: OtlpReceiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TESTBENCH_TRACE_CONTENT", "false")
    evaluated = experiment(scenario(step(judged("a", 1.0, reason="hunter2"), text="hunter2")))
    assert publish(written(tmp_path / "e.json", evaluated)) == 0
    assert not any(b"hunter2" in request.body for request in otlp.requests)
    assert otlp.points_of(SCORES)[0].attributes["user_input_truncated"] == ""


def test_events_need_a_place_to_go(otlp: OtlpReceiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "e.json", TWO_SCORES)
    monkeypatch.setenv("OTEL_LOGS_EXPORTER", "none")
    assert publish(path) == 0
    monkeypatch.delenv("OTEL_LOGS_EXPORTER")
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", f"{otlp.endpoint}/v1/metrics")
    assert publish(path) == 0
    assert otlp.log_events == []
    assert len(otlp.points_of(SCORES)) == 4


def test_numbers_for_machines(otlp: OtlpReceiver, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert publish(written(tmp_path / "e.json", TWO_SCORES), "--json") == 0
    assert said(capsys) == {
        "phase": "publish",
        "exit_code": 0,
        "endpoint": f"{otlp.endpoint}/v1/metrics",
        "scores": 2,
        "aggregates": 8,
        "events": 3,
        "errors": 1,
        "skipped": 0,
        "requests": 2,
        "bytes": sum(len(request.body) for request in otlp.requests),
    }


# --- nothing to publish, and wrong input -----------------------------------------------------------------------------


@pytest.mark.parametrize("evaluated", [experiment(), experiment(scenario(step()))], ids=["no scenario", "no metric"])
def test_nothing_to_publish(
    otlp: OtlpReceiver, tmp_path: Path, capsys: pytest.CaptureFixture[str], evaluated: EvaluatedExperiment
) -> None:
    assert publish(written(tmp_path / "e.json", evaluated)) == 4
    assert "error: the experiment holds no evaluation" in capsys.readouterr().err
    assert otlp.requests == []


def test_an_outage_of_the_judge_is_counted_and_is_no_success(
    otlp: OtlpReceiver, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluated = experiment(
        scenario(step(unjudged("a"), unjudged("b", "skipped")), failed_step(judged("a", 1), number=2))
    )
    assert publish(written(tmp_path / "e.json", evaluated)) == 4
    assert "error: no score among 3 evaluations: 2 errors, 1 skipped" in capsys.readouterr().err
    assert {point.name for point in otlp.points} == {"testbench_evaluation_errors"}
    assert sum(point.value for point in otlp.points) == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://lgtm"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "no-value"),
        ("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "soon"),
        ("OTEL_SDK_DISABLED", "true"),
        ("OTEL_METRICS_EXPORTER", "none"),
    ],
)
def test_a_wrong_environment_is_told_before_anything_is_sent(
    otlp: OtlpReceiver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: str,
) -> None:
    monkeypatch.setenv(name, value)
    assert publish(written(tmp_path / "e.json", TWO_SCORES)) == 2
    assert name in capsys.readouterr().err
    assert otlp.requests == []


def test_wrong_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text('{"scenarios": [{"name": "a", "steps": [{"input": "b", "evaluations": [{"metric"')
    for path in (tmp_path / "missing.json", broken):
        assert publish(path) == 2
        assert str(path) in capsys.readouterr().err
    path = written(tmp_path / "e.json", TWO_SCORES)
    assert main(command, ["weather-test", "exec-001", "seven", "--input", str(path)]) == 2
    assert main(command, [" ", "exec-001", "7", "--input", str(path)]) == 2
    assert main(command, ["weather-test", "exec-001", "--input", str(path)]) == 2


# --- never a green exit with points missing --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "answer"),
    [
        pytest.param(lambda otlp: otlp.fail_next(status=400, body="bad label"), "400 Bad Request: bad label", id="400"),
        pytest.param(lambda otlp: otlp.fail_next(status=401), "answered 401 Unauthorized", id="401"),
        pytest.param(lambda otlp: otlp.fail_next(status=302), "answered 302 Found", id="302"),
        pytest.param(lambda otlp: otlp.fail_next(99, status=503), "answered 503 Service Unavailable", id="503"),
        pytest.param(lambda otlp: otlp.fail_next(status=429, retry_after=60), "429 Too Many Requests", id="429"),
        pytest.param(lambda otlp: otlp.hang(), "gave no answer within 0.5 s", id="hang"),
        pytest.param(lambda otlp: otlp.drop_next(99), "cannot be reached", id="cut"),
        pytest.param(lambda otlp: otlp.garbage_next(), "not as an OTLP collector", id="page"),
        pytest.param(lambda otlp: otlp.reject(1, "too many series"), "rejected 1 of 10 data points", id="partial"),
        pytest.param(lambda otlp: otlp.statuses(200, 404), "/v1/logs answered 404", id="events"),
    ],
)
def test_what_does_not_arrive_is_exit_3(
    otlp: OtlpReceiver, tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: Any, answer: str
) -> None:
    fault(otlp)
    assert publish(written(tmp_path / "e.json", TWO_SCORES), "--timeout", "0.5") == 3
    shown = capsys.readouterr()
    assert shown.out == ""
    error, hint, last = shown.err.splitlines()
    assert error.startswith(f"error: {otlp.endpoint}/v1/")
    assert answer in error
    assert hint.startswith("hint: ")
    assert last == "publish: could not be done (exit 3)"


def test_a_dead_endpoint_is_exit_3_and_shows_no_secret(
    nobody: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", nobody.replace("//", "//user:hunter2@") + "?token=tok3n")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20s3cret")
    assert publish(written(tmp_path / "e.json", TWO_SCORES), "--timeout", "0.5", "--debug") == 3
    shown = capsys.readouterr().err
    assert f"error: {nobody}/v1/metrics cannot be reached" in shown
    assert not any(secret in shown for secret in ("hunter2", "tok3n", "s3cret"))


def test_an_endpoint_without_a_scheme_works(
    otlp: OtlpReceiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp.endpoint.removeprefix("http://"))
    assert publish(written(tmp_path / "e.json", TWO_SCORES)) == 0
    assert len(otlp.points_of(SCORES)) == 2
