"""Traces of a run, against a real receiver and a real HTTP server as the agent."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator

import httpx
import pytest
from opentelemetry import trace

from testbench.schema.tracing import Tracer, Tracing, UntracedSpan
from testbench.telemetry.tracing import open_tracing
from tests.support.servers.loopback import LoopbackServer, Reply
from tests.support.servers.otlp_receiver import OtlpReceiver
from tests.support.servers.scripting import Request

TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")


class Agent(LoopbackServer):
    """Answers everything with 200: what matters are the headers it gets."""

    def reply_to(self, request: Request) -> Reply:
        return Reply(200, b"{}")


@pytest.fixture
def web() -> Iterator[Agent]:
    with Agent() as part:
        yield part


@pytest.fixture
def collector(otlp: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> OtlpReceiver:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp.endpoint)
    return otlp


async def run_scenario(tracing: Tracing, web: Agent, name: str, steps: int = 1) -> str:
    """A scenario whose steps each send one request; returns the trace id."""
    async with httpx.AsyncClient(transport=tracing.instrument(httpx.AsyncHTTPTransport())) as client:
        scenario = tracing.start_scenario(name, {"scenario_id": f"scn_{name}"})
        for position in range(steps):
            with tracing.step(scenario, position, {"user_input": f"question {position}", "message_count": 1}) as step:
                await client.post(f"{web.origin}/{name}?key=s3cret", content=b"hello")
                step.set({"context_id": "ctx-1", "message_count": 3})
        scenario.end()
        return scenario.trace_id


async def test_a_trace_for_each_scenario(collector: OtlpReceiver, web: Agent) -> None:
    with open_tracing(workflow_name="weather-test", agent_url="http://user:hunter2@agent:8000/a2a?key=1") as tracing:
        trace_id = await run_scenario(tracing, web, "one", steps=2)
    scenario, first, second = (collector.span(name) for name in ("scenario one", "step 1", "step 2"))
    assert {span.trace_id for span in collector.spans} == {trace_id}
    assert (scenario.parent_id, first.parent_id, second.parent_id) == ("", scenario.span_id, scenario.span_id)
    assert first.attributes == {
        "workflow_name": "weather-test",
        "agent_url": "http://agent:8000/a2a",
        "user_input": "question 0",
        "context_id": "ctx-1",
        "message_count": 3,
    }
    assert scenario.attributes["scenario_id"] == "scn_one"
    assert scenario.resource["service.name"] == "testbench"
    assert scenario.resource["workflow_name"] == "weather-test"
    assert "service.instance.id" not in scenario.resource
    assert scenario.start_ns <= first.start_ns <= first.end_ns <= second.start_ns <= second.end_ns <= scenario.end_ns


async def test_the_agent_gets_the_trace_below_the_step(collector: OtlpReceiver, web: Agent) -> None:
    with open_tracing(workflow_name="w", agent_url="http://agent") as tracing:
        await run_scenario(tracing, web, "one")
    carried = TRACEPARENT.fullmatch(web.requests[0].headers["traceparent"])
    assert carried is not None
    post = next(span for span in collector.spans if span.kind == "CLIENT")
    assert (post.trace_id, post.span_id) == carried.groups()
    assert post.parent_id == collector.span("step 1").span_id
    assert not any("s3cret" in str(value) for value in post.attributes.values())
    assert f"{web.origin}/one" in post.attributes.values()


async def test_a_request_that_fails_says_so_in_its_span(collector: OtlpReceiver, web: Agent, nobody: str) -> None:
    with open_tracing(workflow_name="w", agent_url="http://agent") as tracing:
        async with httpx.AsyncClient(transport=tracing.instrument(httpx.AsyncHTTPTransport())) as client:
            scenario = tracing.start_scenario("one", {})
            with tracing.step(scenario, 0, {}):
                web.fail_next(status=400)
                await client.post(web.origin)
                with pytest.raises(httpx.ConnectError):
                    await client.post(f"{nobody}/x?key=s3cret")
            scenario.end()
    refused, unreachable = (span for span in collector.spans if span.kind == "CLIENT")
    assert (refused.status, refused.attributes["error.type"]) == ("ERROR", "400")
    assert refused.attributes["http.response.status_code"] == 400
    assert (unreachable.status, unreachable.attributes["error.type"]) == ("ERROR", "ConnectError")
    assert unreachable.attributes["url.full"] == f"{nobody}/x"
    assert f"{unreachable.attributes['server.address']}:{unreachable.attributes['server.port']}" in nobody


class Failing(httpx.AsyncBaseTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        raise self.error

    def __init__(self, error: BaseException) -> None:
        self.error = error


@pytest.mark.parametrize("error", [httpx.ReadError("hunter2 \ud800"), asyncio.CancelledError("hunter2")])
async def test_what_an_error_says_stays_out_of_the_span_of_its_request(
    collector: OtlpReceiver, error: BaseException
) -> None:
    with open_tracing(workflow_name="w", agent_url="http://agent") as tracing:
        scenario = tracing.start_scenario("one", {})
        with tracing.step(scenario, 0, {}):
            transport = tracing.instrument(Failing(error))
            with pytest.raises(type(error)):
                await transport.handle_async_request(httpx.Request("POST", "http://user:hunter2@agent/x?key=hunter2"))
        scenario.end()
    post = collector.span("POST")
    assert (post.status, post.attributes["error.type"]) == ("ERROR", type(error).__name__)
    assert (post.status_message, post.events) == ("", ())
    assert not any(b"hunter2" in request.body for request in collector.requests)


@pytest.mark.parametrize("endpoint", [True, False])
async def test_a_request_outside_of_a_step_is_left_alone(
    collector: OtlpReceiver, web: Agent, monkeypatch: pytest.MonkeyPatch, endpoint: bool
) -> None:
    if not endpoint:
        monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT")
    with open_tracing(workflow_name="w", agent_url="http://agent") as tracing:
        async with httpx.AsyncClient(transport=tracing.instrument(httpx.AsyncHTTPTransport())) as client:
            await client.get(web.origin)
    assert collector.spans == []
    assert "traceparent" not in web.requests[0].headers


async def test_scenarios_in_flight_together_do_not_mix(collector: OtlpReceiver, web: Agent) -> None:
    web.hang_next(8)
    with open_tracing(workflow_name="w", agent_url="http://agent") as tracing:
        running = [asyncio.ensure_future(run_scenario(tracing, web, f"s{number}", steps=2)) for number in range(8)]
        await asyncio.to_thread(web.wait_in_flight, 8)
        web.release()
        trace_ids = await asyncio.gather(*running)
    assert len(set(trace_ids)) == 8
    assert {(request.path, request.headers["traceparent"].split("-")[1]) for request in web.requests} == {
        (f"/s{number}", trace_id) for number, trace_id in enumerate(trace_ids)
    }
    assert len(collector.spans) == 8 * (1 + 2 + 2)
    assert not trace.get_current_span().get_span_context().is_valid


def test_ids_are_those_of_the_spans(collector: OtlpReceiver) -> None:
    with open_tracing(workflow_name="w", agent_url="http://agent") as tracing:
        scenario = tracing.start_scenario("one", {})
        with tracing.step(scenario, 0, {}) as step:
            pass
        scenario.end()
    assert step.trace_id == scenario.trace_id == collector.span("scenario one").trace_id
    assert step.span_id == collector.span("step 1").span_id


def test_a_failure_is_the_spans_status(collector: OtlpReceiver) -> None:
    with open_tracing(workflow_name="w", agent_url="http://agent") as tracing:
        scenario = tracing.start_scenario("one", {})
        with tracing.step(scenario, 0, {}) as step:
            step.fail("timeout", "no answer\nwithin 30 s")
        with pytest.raises(KeyError), tracing.step(scenario, 1, {}):
            raise KeyError("lost")
        scenario.end()
    told, raised = collector.span("step 1"), collector.span("step 2")
    assert (told.status, told.status_message, told.attributes["error.type"]) == (
        "ERROR",
        "no answer within 30 s",
        "timeout",
    )
    assert (raised.status, raised.attributes["error.type"]) == ("ERROR", "KeyError")
    assert collector.span("scenario one").status == "UNSET"


def test_content_can_be_left_out(collector: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESTBENCH_TRACE_CONTENT", "false")
    with open_tracing(workflow_name="w", agent_url="http://agent") as tracing:
        scenario = tracing.start_scenario("one", {"scenario_id": "scn_1"})
        with tracing.step(
            scenario, 0, {"user_input": "hunter2", "reference": "hunter2", "anything": "hunter2"}
        ) as step:
            step.set({"message_count": 2, "context_id": "ctx-1"})
            step.fail("failed", "the agent said hunter2")
        scenario.end()
    assert not any(b"hunter2" in request.body for request in collector.requests)
    span = collector.span("step 1")
    assert (span.attributes["message_count"], span.attributes["context_id"]) == (2, "ctx-1")
    assert (span.status, span.status_message) == ("ERROR", "failed")


def test_hostile_and_long_text_does_not_cost_the_batch(collector: OtlpReceiver) -> None:
    with open_tracing(workflow_name="w", agent_url="http://agent") as tracing:
        scenario = tracing.start_scenario("a\ud800b", {})
        with tracing.step(scenario, 0, {"user_input": "x" * 1_000_000, "reference": "\udfff"}):
            pass
        scenario.end()
    assert collector.span("scenario a?b").trace_id == scenario.trace_id
    assert len(collector.span("step 1").attributes["user_input"]) == 4096


async def test_without_an_endpoint_ids_are_given_and_nothing_is_sent(
    otlp: OtlpReceiver, web: Agent, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("testbench.defaults.OTLP_ENDPOINT", otlp.endpoint)
    with open_tracing(workflow_name="w", agent_url="http://agent") as tracing:
        trace_id = await run_scenario(tracing, web, "one")
    assert re.fullmatch(f"00-{trace_id}-[0-9a-f]{{16}}-01", web.requests[0].headers["traceparent"])
    assert int(trace_id, 16)
    assert (otlp.requests, caplog.messages) == ([], [])


async def test_without_an_endpoint_a_request_has_an_id_of_its_own(web: Agent) -> None:
    with open_tracing(workflow_name="w", agent_url="http://agent") as tracing:
        async with httpx.AsyncClient(transport=tracing.instrument(httpx.AsyncHTTPTransport())) as client:
            with tracing.step(tracing.start_scenario("one", {}), 0, {}) as step:
                await client.get(web.origin)
                await client.get(web.origin)
    first, second = (request.headers["traceparent"].split("-")[1:3] for request in web.requests)
    assert (first[0], second[0]) == (step.trace_id, step.trace_id)
    assert len({step.span_id, first[1], second[1]}) == 3


async def test_without_an_endpoint_the_sampler_still_decides(web: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent's own spans are kept or not by what it is told."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    with open_tracing(workflow_name="w", agent_url="http://agent") as tracing:
        trace_id = await run_scenario(tracing, web, "one")
    assert re.fullmatch(f"00-{trace_id}-[0-9a-f]{{16}}-00", web.requests[0].headers["traceparent"])


async def test_switched_off_means_not_even_a_header(
    collector: OtlpReceiver, web: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with open_tracing(workflow_name="w", agent_url="http://agent") as tracing:
        trace_id = await run_scenario(tracing, web, "one")
    assert re.fullmatch("[0-9a-f]{32}", trace_id)
    assert int(trace_id, 16)
    assert "traceparent" not in web.requests[0].headers
    assert collector.requests == []


def record_scenarios(tracer: Tracer, number: int) -> None:
    for position in range(number):
        tracer.start_scenario(f"scenario {position}", {}).end()


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("status", [400, 401, 503])
def test_a_collector_that_refuses_costs_one_warning(
    collector: OtlpReceiver, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    collector.fail_next(99, status=status)
    with open_tracing(workflow_name="w", agent_url="http://agent", flush_s=0.5) as tracing:
        record_scenarios(tracing, 3)
    [warning] = warnings_of(caplog)
    assert "3 of 3 spans did not arrive" in warning
    assert f"{collector.endpoint}/v1/traces" in warning


def test_a_collector_that_is_down_costs_one_warning(
    nobody: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{nobody}/v1/traces")
    with open_tracing(workflow_name="w", agent_url="http://agent", flush_s=0.5) as tracing:
        record_scenarios(tracing, 2000)
    [warning] = warnings_of(caplog)
    assert f"2000 of 2000 spans did not arrive: {nobody}/v1/traces cannot be reached" in warning


def test_a_collector_that_hangs_does_not_hold_the_run(
    collector: OtlpReceiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3600000")
    collector.hang()
    with open_tracing(workflow_name="w", agent_url="http://agent", flush_s=0.2) as tracing:
        record_scenarios(tracing, 1000)
        collector.wait_in_flight(1)
    assert ["1000 of 1000 spans did not arrive" in warning for warning in warnings_of(caplog)] == [True]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("OtelBatch")]


def test_what_is_rejected_is_counted(collector: OtlpReceiver, caplog: pytest.LogCaptureFixture) -> None:
    collector.reject(2, "too large")
    with open_tracing(workflow_name="w", agent_url="http://agent") as tracing:
        record_scenarios(tracing, 10)
    [warning] = warnings_of(caplog)
    assert "2 of 10 spans did not arrive" in warning
    assert "too large" in warning


def test_a_queue_that_overflows_is_counted(
    collector: OtlpReceiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "10")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")
    collector.hang()
    with open_tracing(workflow_name="w", agent_url="http://agent") as tracing:
        record_scenarios(tracing, 100)
        collector.wait_in_flight(1)
        collector.release()
    ours = [record for record in caplog.records if record.name.startswith("testbench")]
    assert len(collector.spans) < 100
    assert [record.getMessage().split(" spans")[0] for record in ours] == [f"{100 - len(collector.spans)} of 100"]


def test_many_spans_all_arrive(collector: OtlpReceiver, caplog: pytest.LogCaptureFixture) -> None:
    with open_tracing(workflow_name="w", agent_url="http://agent") as tracing:
        record_scenarios(tracing, 5000)
    assert (len(collector.spans), warnings_of(caplog)) == (5000, [])


def test_one_run_after_another(collector: OtlpReceiver) -> None:
    for number in range(2):
        with open_tracing(workflow_name=f"w{number}", agent_url="http://agent") as tracing:
            record_scenarios(tracing, 1)
    assert [span.resource["workflow_name"] for span in collector.spans] == ["w0", "w1"]
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def test_an_exception_of_the_run_passes_and_the_spans_arrive(collector: OtlpReceiver) -> None:
    def interrupted_run() -> None:
        with open_tracing(workflow_name="w", agent_url="http://agent") as tracing:
            record_scenarios(tracing, 1)
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        interrupted_run()
    assert len(collector.spans) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_HEADERS", "no-value"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "1"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many"),
    ],
)
async def test_a_wrong_environment_costs_the_traces_and_not_the_run(
    collector: OtlpReceiver,
    web: Agent,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    value: str,
) -> None:
    monkeypatch.setenv(name, value)
    with open_tracing(workflow_name="w", agent_url="http://agent") as tracing:
        assert re.fullmatch("[0-9a-f]{32}", await run_scenario(tracing, web, "one"))
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("testbench")]
    assert len(ours) == 1
    assert ours[0].startswith("traces are off: ")
    assert collector.requests == []


ONE_REQUEST = """
import asyncio, httpx, json, sys
from testbench.telemetry.tracing import open_tracing

class Echo(httpx.AsyncBaseTransport):
    async def handle_async_request(self, request):
        return httpx.Response(200, text=request.headers.get("traceparent", ""))

async def run():
    with open_tracing(workflow_name="w", agent_url="http://agent") as tracing:
        scenario = tracing.start_scenario("one", {})
        with tracing.step(scenario, 0, {}):
            response = await tracing.instrument(Echo()).handle_async_request(httpx.Request("POST", "http://agent"))
            print(await response.aread())
        scenario.end()

asyncio.run(run())
print(json.dumps(sorted(sys.modules)))
"""


def in_a_process(environ: dict[str, str]) -> tuple[str, set[str], str]:
    """What an agent gets as `traceparent`, the modules that were loaded, and what was said, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", ONE_REQUEST], capture_output=True, text=True, check=True, env=os.environ | environ
    )
    traceparent, modules = done.stdout.splitlines()
    return traceparent, set(json.loads(modules)), done.stderr


def test_what_only_an_export_needs_is_not_loaded_without_one() -> None:
    traceparent, modules, said = in_a_process({})
    assert re.search(TRACEPARENT, traceparent)
    assert modules & {"requests", "opentelemetry.instrumentation", "opentelemetry.exporter"} == set()
    assert said == ""


def test_the_agent_gets_the_trace_whatever_propagators_there_are(otlp: OtlpReceiver) -> None:
    """They are read when OpenTelemetry is imported; what the agent did is found by the id that it was given."""
    traceparent, _, said = in_a_process(
        {"OTEL_EXPORTER_OTLP_ENDPOINT": otlp.endpoint, "OTEL_PROPAGATORS": "none", "OTEL_SEMCONV_STABILITY_OPT_IN": "x"}
    )
    post = otlp.span("POST")
    assert f"{post.trace_id}-{post.span_id}" in traceparent
    assert post.attributes["http.request.method"] == "POST"
    assert said == ""


def test_a_propagator_that_is_not_installed_costs_the_traces_and_not_the_run(otlp: OtlpReceiver) -> None:
    *_, said = in_a_process({"OTEL_EXPORTER_OTLP_ENDPOINT": otlp.endpoint, "OTEL_PROPAGATORS": "b3"})
    assert said.startswith("traces are off: Propagator b3 not found")
    assert otlp.requests == []


def test_a_span_of_another_tracer_is_no_parent(collector: OtlpReceiver) -> None:
    with (
        open_tracing(workflow_name="w", agent_url="http://agent") as tracing,
        pytest.raises(TypeError),
        tracing.step(UntracedSpan(), 0, {}),
    ):
        raise AssertionError("not reached")
