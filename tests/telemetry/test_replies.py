"""What a collector's reply means, byte for byte."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]  # the package has no types
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsPartialSuccess, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsPartialSuccess,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from testbench.telemetry.replies import ExportReply, read_reply

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
PROTOBUF = {"content-type": "application/x-protobuf"}


def metrics_reply(status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> ExportReply:
    return read_reply("metrics", status, headers or {}, body, NOW)


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (200, b"", PROTOBUF),
        (202, b"", {}),
        (204, b"", {}),
        (200, b"{}", {"content-type": "application/json"}),
        (200, b'{"partialSuccess": {}, "new": 1}', {"content-type": "application/json"}),
    ],
)
def test_accepted(status: int, body: bytes, headers: dict[str, str]) -> None:
    assert metrics_reply(status, body, headers) == ExportReply("accepted")


def test_partial_success_of_each_signal() -> None:
    metrics = ExportMetricsServiceResponse(
        partial_success=ExportMetricsPartialSuccess(rejected_data_points=3, error_message="too many")
    )
    logs = ExportLogsServiceResponse(partial_success=ExportLogsPartialSuccess(rejected_log_records=2))
    spans = ExportTraceServiceResponse(partial_success=ExportTracePartialSuccess(rejected_spans=1))
    assert metrics_reply(200, metrics.SerializeToString(), PROTOBUF) == ExportReply("rejected", "too many", 3)
    assert read_reply("logs", 200, PROTOBUF, logs.SerializeToString(), NOW) == ExportReply("rejected", "", 2)
    assert read_reply("traces", 200, PROTOBUF, spans.SerializeToString(), NOW) == ExportReply("rejected", "", 1)


def test_a_warning_of_an_accepting_collector_is_kept() -> None:
    response = ExportMetricsServiceResponse(partial_success=ExportMetricsPartialSuccess(error_message="old client"))
    assert metrics_reply(200, response.SerializeToString(), PROTOBUF) == ExportReply("accepted", "old client")


@pytest.mark.parametrize("headers", [{"content-type": "text/html"}, PROTOBUF, {"content-type": "application/json"}, {}])
def test_a_web_page_is_no_collector(headers: dict[str, str]) -> None:
    reply = metrics_reply(200, b"<html>Please log in</html>", headers)
    assert reply.kind == "not_otlp"
    assert "Please log in" in reply.text


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_no_success(status: int) -> None:
    reply = metrics_reply(status, b"", {"location": "https://user:hunter2@login.example.com/?next=1"})
    assert (reply.kind, reply.retryable) == ("refused", False)
    assert "https://login.example.com/" in reply.text
    assert "hunter2" not in reply.text


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_may_be_tried_again(status: int) -> None:
    assert metrics_reply(status).retryable


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 413, 415, 500, 501, 599])
def test_what_may_not_be_tried_again(status: int) -> None:
    reply = metrics_reply(status)
    assert (reply.retryable, reply.kind == "accepted") == (False, False)
    assert str(status) in reply.text


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("Thu, 01 Jan 2026 12:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
        ("Thu, 01 Jan 2026 12:00:30 -0000", 30.0),
        ("soon", None),
        ("-1", None),
        ("", None),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    assert metrics_reply(503, b"", {"retry-after": value}).retry_after == seconds


def test_the_servers_own_words_are_shown_on_one_line() -> None:
    status = Status(code=3, message="label value\ntoo long\x1b[31m")
    assert metrics_reply(400, status.SerializeToString(), PROTOBUF).text == (
        "answered 400 Bad Request: label value too long\\x1b[31m"
    )
    assert metrics_reply(401, b"no token\r\n").text == "answered 401 Unauthorized: no token"
    assert metrics_reply(400, b"\xff\xff", PROTOBUF).text.startswith("answered 400 Bad Request: ")
    assert len(metrics_reply(500, b"x" * 9000).text) < 400
