"""The judge, the collector, the stores and the guard do what they promise; the agents have a file of their own."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from tests.support.servers.loopback_guard import LeftLoopbackError
from tests.support.servers.otlp_receiver import OtlpReceiver
from tests.support.servers.s3_store import S3Store
from tests.support.servers.scripted_judge import ScriptedJudge, hash_vector, tokens
from tests.support.servers.static_files import StaticFiles

VERDICT = {
    "title": "Verdict",
    "type": "object",
    "properties": {
        "passed": {"type": "boolean"},
        "kind": {"enum": ["strict", "lax"]},
        "score": {"type": "number", "maximum": 0.5},
        "note": {"anyOf": [{"type": "null"}, {"type": "string"}]},
        "claims": {"type": "array", "items": {"$ref": "#/$defs/Claim"}},
    },
    "$defs": {"Claim": {"title": "Claim", "type": "object", "properties": {"rank": {"type": "integer"}}}},
}


# The judge


def chat(judge: ScriptedJudge, content: str, **extra: Any) -> httpx.Response:
    body = {"model": "judge-a", "messages": [{"role": "user", "content": content}], **extra}
    return httpx.post(f"{judge.base_url}/chat/completions", json=body, trust_env=False, verify=False)


def said(reply: httpx.Response) -> Any:
    return reply.json()["choices"][0]["message"]["content"]


def test_judge_makes_up_an_instance_of_the_schema_wherever_it_stands(judge: ScriptedJudge) -> None:
    made_up = '{"passed": true, "kind": "strict", "score": 0.5, "note": "note sample", "claims": [{"rank": 1}]}'
    formal = {"type": "json_schema", "json_schema": {"name": "Verdict", "schema": VERDICT}}
    as_text = httpx.Request("POST", judge.base_url, json=VERDICT).content.decode()
    assert said(chat(judge, "judge this", response_format=formal)) == made_up
    assert said(chat(judge, f"Comply with this JSON Schema:\n{as_text}\nInput: {{}}")) == made_up
    assert said(chat(judge, "no schema at all")) == "ok"


def test_judge_answers_as_scripted(judge: ScriptedJudge) -> None:
    formal = {"type": "json_schema", "json_schema": {"name": "Verdict", "schema": VERDICT}}
    judge.answer("Verdict", {"passed": False}, lambda prompt: {"passed": "good" in prompt})
    judge.cost(0.25)
    judge.finish_reason("length")
    replies = [chat(judge, prompt, response_format=formal) for prompt in ("good", "good", "bad")]
    assert [said(reply) for reply in replies] == ['{"passed": false}', '{"passed": true}', '{"passed": false}']
    assert replies[0].headers["x-litellm-response-cost"] == "0.25"
    assert replies[0].json()["choices"][0]["finish_reason"] == "length"
    assert replies[0].json()["usage"] == {"prompt_tokens": 1, "completion_tokens": 4, "total_tokens": 5}
    judge.answer("Claim", {"rank": 9})
    judge.answer("Verdict")
    assert '"claims": [{"rank": 9}]' in said(chat(judge, "nested", response_format=formal))
    judge.reply_text("no")
    judge.malformed_next(text="{")
    assert [said(chat(judge, "x")) for _ in range(2)] == ["{", "no"]
    assert (judge.models, judge.prompts[0]) == ({"judge-a"}, "good")


def test_judge_fails_as_scripted(judge: ScriptedJudge) -> None:
    judge.statuses(503, 200, 401)
    assert [chat(judge, "x").status_code for _ in range(4)] == [503, 200, 401, 200]
    judge.fail_next(2, 429, retry_after=1.5)
    assert [chat(judge, "x").headers.get("retry-after") for _ in range(3)] == ["1.5", "1.5", None]
    judge.drop_next()
    with pytest.raises(httpx.RemoteProtocolError):
        chat(judge, "x")
    judge.fail_rate(0.5, 500, seed=3)
    codes = [chat(judge, "x").status_code for _ in range(40)]
    judge.fail_rate(0.5, 500, seed=3)
    assert [chat(judge, "x").status_code for _ in range(40)] == codes
    assert 10 < codes.count(500) < 30


async def test_judge_hangs_until_it_is_released_and_counts_what_is_in_flight(judge: ScriptedJudge) -> None:
    judge.hang()
    asked = [asyncio.create_task(asyncio.to_thread(chat, judge, "x")) for _ in range(4)]
    await asyncio.to_thread(judge.wait_in_flight, 4)
    assert not any(task.done() for task in asked)
    judge.release()
    assert [reply.status_code for reply in await asyncio.gather(*asked)] == [200] * 4
    await asyncio.to_thread(judge.wait_for, lambda: judge.in_flight == 0)  # counted down after the answer is sent
    assert judge.max_in_flight == 4
    judge.hang_next()
    hung = asyncio.create_task(asyncio.to_thread(chat, judge, "first"))
    await asyncio.to_thread(judge.wait_in_flight, 1)
    assert (await asyncio.to_thread(chat, judge, "second")).status_code == 200
    assert not hung.done()
    judge.release()
    assert (await hung).status_code == 200


async def test_judge_satisfies_the_openai_client(judge: ScriptedJudge) -> None:
    from openai import AsyncOpenAI

    judge.embedding("known", [1.0, 0.0])
    http: Any = httpx.AsyncClient(trust_env=False)  # typed for httpx2, takes httpx as well
    async with AsyncOpenAI(base_url=judge.base_url, api_key="unused", http_client=http) as client:
        reply = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hello there"}])
        packed = await client.embeddings.create(model="e", input=["known", "other"])
        listed = await client.embeddings.create(model="e", input="other", encoding_format="float")
        models = [model.id async for model in client.models.list()]
    assert reply.usage is not None
    assert (reply.choices[0].message.content, reply.usage.prompt_tokens) == ("ok", tokens("hello there"))
    assert packed.data[0].embedding == [1.0, 0.0]
    assert packed.data[1].embedding == pytest.approx(hash_vector("other"))
    assert listed.data[0].embedding == hash_vector("other")
    assert models == ["judge"]


# The collector


def export_gauge(otlp: OtlpReceiver, compression: str | None = None) -> tuple[int, bytes]:
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest as Export
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

    export = Export()
    group = export.resource_metrics.add()
    group.resource.attributes.append(KeyValue(key="service.name", value=AnyValue(string_value="testbench")))
    metric = group.scope_metrics.add().metrics.add(name="score", unit="1")
    point = metric.gauge.data_points.add(as_double=0.75)
    point.attributes.append(KeyValue(key="step", value=AnyValue(int_value=2)))
    body, headers = export.SerializeToString(), {"content-type": "application/x-protobuf"}
    if compression:
        import gzip

        body, headers = gzip.compress(body), {**headers, "content-encoding": compression}
    reply = httpx.post(f"{otlp.endpoint}/v1/metrics", content=body, headers=headers, trust_env=False)
    return reply.status_code, reply.content


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_collector_decodes_points(otlp: OtlpReceiver, compression: str | None) -> None:
    assert export_gauge(otlp, compression) == (200, b"")
    (point,) = otlp.points_of("score")
    assert (point.kind, point.value, point.unit) == ("gauge", 0.75, "1")
    assert (point.attributes, point.resource) == ({"step": 2}, {"service.name": "testbench"})


def test_collector_refuses_and_rejects_as_scripted(otlp: OtlpReceiver) -> None:
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse as Answer

    otlp.statuses(503, 200)
    assert [export_gauge(otlp)[0] for _ in range(2)] == [503, 200]
    assert (len(otlp.requests), len(otlp.points)) == (2, 1)
    otlp.reject(3, "too many series")
    partial = Answer.FromString(export_gauge(otlp)[1]).partial_success
    assert (partial.rejected_data_points, partial.error_message) == (3, "too many series")


def test_collector_reads_what_the_sdk_exports(otlp: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    from opentelemetry._logs import LogRecord
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp.endpoint)
    tracing, logging = TracerProvider(shutdown_on_exit=False), LoggerProvider(shutdown_on_exit=False)
    tracing.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
    logging.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter()))
    tracer = tracing.get_tracer("parts")
    with tracer.start_as_current_span("outer"), tracer.start_as_current_span("inner", attributes={"tags": ["a", "b"]}):
        logging.get_logger("parts").emit(LogRecord(event_name="verdict", attributes={"score": 0.5}))
    tracing.shutdown()
    logging.shutdown()
    outer, inner, (event,) = otlp.span("outer"), otlp.span("inner"), otlp.log_events
    assert (inner.trace_id, inner.parent_id, outer.parent_id) == (outer.trace_id, outer.span_id, "")
    assert (inner.attributes, inner.kind, inner.status) == ({"tags": ["a", "b"]}, "INTERNAL", "UNSET")
    assert (event.name, event.attributes) == ("verdict", {"score": 0.5})
    assert (event.trace_id, event.span_id) == (inner.trace_id, inner.span_id)


# Files and S3


def test_files_are_served_with_type_query_redirect_and_faults(files: StaticFiles) -> None:
    url = files.add("data/my set.csv", "a,b\n1,2\n")
    untyped = files.add("plain", b"\x00", content_type=None)
    moved = files.add_redirect("old.csv", url)
    with httpx.Client(trust_env=False) as http:
        reply = http.get(moved, follow_redirects=True)
        assert (reply.text, reply.headers["content-type"]) == ("a,b\n1,2\n", "text/csv")
        assert "content-type" not in http.get(untyped).headers
        assert http.get(files.url("nothing", token="s&t")).status_code == 404
        assert http.head(url).headers["content-length"] == "8"
        assert http.get(files.add_status("broken", 500, "oops")).text == "oops"
        files.fail_next(status=503)
        assert [http.get(url).status_code for _ in range(2)] == [503, 200]
        with pytest.raises(httpx.RemoteProtocolError):
            http.get(files.add_cut("half.csv", "a,b\n1,2\n", sent=4))
    assert [request.path for request in files.requests][:2] == ["/old.csv", "/data/my%20set.csv"]
    assert files.requests[3].arguments == {"token": ["s&t"]}


def test_s3_store_is_found_through_the_environment(s3: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    import obstore

    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    assert s3.put("sets", "a b/data.csv", b"1,2") == "s3://sets/a b/data.csv"
    store = obstore.store.S3Store("sets")
    assert bytes(store.get("a b/data.csv").bytes()) == b"1,2"
    store.put("out/report.html", b"<p>")
    assert s3.get("sets", "out/report.html") == b"<p>"
    assert s3.keys("sets") == ["a b/data.csv", "out/report.html"]
    assert s3.get("sets", "nothing") is None
    assert s3.keys("sets", "out/rep") == ["out/report.html"]
    s3.clear()
    assert s3.keys("sets") == []


# The guard


def test_nothing_leaves_this_machine(attempts_to_leave: list[str], nobody: str) -> None:
    with socket.socket() as plain, socket.socket(socket.AF_INET6) as newer:
        with pytest.raises(LeftLoopbackError, match=r"tried to reach 192\.0\.2\.1:80"):
            plain.connect(("192.0.2.1", 80))
        with pytest.raises(LeftLoopbackError):
            plain.connect_ex(("169.254.169.254", 80))
        with pytest.raises(LeftLoopbackError):
            newer.connect(("2001:db8::1", 80))
    with pytest.raises(LeftLoopbackError):
        socket.create_connection(("example.com", 80))
    assert attempts_to_leave == ["192.0.2.1:80", "169.254.169.254:80", "2001:db8::1:80", "example.com"]
    attempts_to_leave.clear()
    with pytest.raises(socket.gaierror):
        socket.create_connection(("agent.invalid", 80))
    with pytest.raises(httpx.ConnectError):
        httpx.get(nobody, trust_env=False)


def test_a_mistake_inside_a_part_is_not_lost() -> None:
    def broken(prompt: str) -> dict[str, Any]:
        raise ZeroDivisionError("in the test's own callback")

    formal = {"type": "json_schema", "json_schema": {"name": "Verdict", "schema": VERDICT}}
    stack = ExitStack()
    judge = stack.enter_context(ScriptedJudge())
    judge.answer("Verdict", broken)
    with pytest.raises(httpx.RemoteProtocolError):
        chat(judge, "x", response_format=formal)
    with pytest.raises(ZeroDivisionError):
        stack.close()


def test_no_setting_of_the_shell_reaches_a_test() -> None:
    assert os.environ["AWS_EC2_METADATA_DISABLED"] == os.environ["RAGAS_DO_NOT_TRACK"] == "true"
    assert not [name for name in os.environ if name.startswith(("TESTBENCH_", "OPENAI_")) or "proxy" in name.lower()]
