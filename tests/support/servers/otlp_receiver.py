"""An OTLP/HTTP collector for protobuf that decodes what arrives, so that a test reads spans, points and events.

Only accepted requests are decoded; a request that a fault answered is in `requests` and nowhere else.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsPartialSuccess,
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsPartialSuccess,
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import HistogramDataPoint, Metric, NumberDataPoint
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from tests.support.servers.loopback import LoopbackServer, Reply
from tests.support.servers.scripting import Request

Attributes = Mapping[str, Any]


@dataclass(frozen=True)
class Span:
    """One span; ids in hex, `parent_id` empty for a root, `kind` and `status` as OTLP names them without prefix."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: str
    status: str
    status_message: str
    start_ns: int
    end_ns: int
    attributes: Attributes
    resource: Attributes
    scope: str
    events: tuple[tuple[str, Attributes], ...]


@dataclass(frozen=True)
class Point:
    """One data point of a gauge, a sum or a histogram (whose value is its sum)."""

    name: str
    kind: str
    value: float
    attributes: Attributes
    resource: Attributes
    unit: str
    description: str
    time_ns: int


@dataclass(frozen=True)
class LogEvent:
    """One log record; `name` is its event name, ids in hex."""

    name: str
    body: Any
    severity: int
    trace_id: str
    span_id: str
    time_ns: int
    attributes: Attributes
    resource: Attributes


class OtlpReceiver(LoopbackServer):
    """Takes `/v1/traces`, `/v1/metrics` and `/v1/logs` at `endpoint` (what OTEL_EXPORTER_OTLP_ENDPOINT wants).

    Outages are scripted as in `ScriptedServer`: `statuses(503, 200)`, `fail_next`, `hang`, `delay`, `drop_next`.
    """

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.points: list[Point] = []
        self.log_events: list[LogEvent] = []
        self._rejected, self._rejection = 0, ""
        super().__init__()
        self.endpoint = self.origin

    def reject(self, n: int, message: str = "too many series") -> None:
        """From now on answer 200 and say that `n` items of every request were rejected (0: none, as at first)."""
        self._rejected, self._rejection = n, message if n else ""

    def points_of(self, name: str) -> list[Point]:
        """The data points of one metric."""
        return [point for point in self.points if point.name == name]

    def span(self, name: str) -> Span:
        """The only span of this name; AssertionError if there is none or more than one."""
        found = [span for span in self.spans if span.name == name]
        assert len(found) == 1, f"{len(found)} spans {name!r} among {sorted(span.name for span in self.spans)}"
        return found[0]

    def reply_to(self, request: Request) -> Reply:
        body, rejected, why = plain_body(request), self._rejected, self._rejection
        reply: ExportTraceServiceResponse | ExportMetricsServiceResponse | ExportLogsServiceResponse
        match request.path:
            case "/v1/traces":
                self.spans += read_spans(ExportTraceServiceRequest.FromString(body))
                spans_left = ExportTracePartialSuccess(rejected_spans=rejected, error_message=why)
                reply = ExportTraceServiceResponse(partial_success=spans_left)
            case "/v1/metrics":
                self.points += read_points(ExportMetricsServiceRequest.FromString(body))
                points_left = ExportMetricsPartialSuccess(rejected_data_points=rejected, error_message=why)
                reply = ExportMetricsServiceResponse(partial_success=points_left)
            case "/v1/logs":
                self.log_events += read_log_events(ExportLogsServiceRequest.FromString(body))
                records_left = ExportLogsPartialSuccess(rejected_log_records=rejected, error_message=why)
                reply = ExportLogsServiceResponse(partial_success=records_left)
            case _:
                return Reply(404, b"no such signal")
        content = reply.SerializeToString() if rejected else b""
        return Reply(200, content, {"content-type": "application/x-protobuf"})


def plain_body(request: Request) -> bytes:
    """The body without its content encoding."""
    match request.headers.get("content-encoding", ""):
        case "gzip":
            return gzip.decompress(request.body)
        case "deflate":
            return zlib.decompress(request.body)
        case _:
            return request.body


def read_spans(export: ExportTraceServiceRequest) -> list[Span]:
    """All spans of one export, in its order."""
    return [
        _span(span, attributes(group.resource.attributes), scope.scope.name)
        for group in export.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]


def _span(span: SpanMessage, resource: Attributes, scope: str) -> Span:
    return Span(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        kind=SpanMessage.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        status={0: "UNSET", 1: "OK", 2: "ERROR"}[span.status.code],
        status_message=span.status.message,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        attributes=attributes(span.attributes),
        resource=resource,
        scope=scope,
        events=tuple((event.name, attributes(event.attributes)) for event in span.events),
    )


def read_points(export: ExportMetricsServiceRequest) -> list[Point]:
    """All data points of one export, in its order; ValueError for a kind of metric that is not known here."""
    return [
        point
        for group in export.resource_metrics
        for scope in group.scope_metrics
        for metric in scope.metrics
        for point in _points(metric, attributes(group.resource.attributes))
    ]


def _points(metric: Metric, resource: Attributes) -> list[Point]:
    kind = metric.WhichOneof("data") or "nothing"
    data: Iterable[NumberDataPoint | HistogramDataPoint]
    match kind:
        case "gauge":
            data = metric.gauge.data_points
        case "sum":
            data = metric.sum.data_points
        case "histogram":
            data = metric.histogram.data_points
        case _:
            raise ValueError(f"metric {metric.name!r} holds {kind}")
    return [
        Point(
            name=metric.name,
            kind=kind,
            value=point.sum if isinstance(point, HistogramDataPoint) else _number(point),
            attributes=attributes(point.attributes),
            resource=resource,
            unit=metric.unit,
            description=metric.description,
            time_ns=point.time_unix_nano,
        )
        for point in data
    ]


def _number(point: NumberDataPoint) -> float:
    return point.as_int if point.WhichOneof("value") == "as_int" else point.as_double


def read_log_events(export: ExportLogsServiceRequest) -> list[LogEvent]:
    """All log records of one export, in its order."""
    return [
        LogEvent(
            name=record.event_name,
            body=value_of(record.body),
            severity=record.severity_number,
            trace_id=record.trace_id.hex(),
            span_id=record.span_id.hex(),
            time_ns=record.time_unix_nano,
            attributes=attributes(record.attributes),
            resource=attributes(group.resource.attributes),
        )
        for group in export.resource_logs
        for scope in group.scope_logs
        for record in scope.log_records
    ]


def attributes(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    """OTLP's key-value list as a dictionary of plain values."""
    return {pair.key: value_of(pair.value) for pair in pairs}


def value_of(value: AnyValue) -> Any:
    """The plain Python value; None for an empty one."""
    match value.WhichOneof("value"):
        case None:
            return None
        case "array_value":
            return [value_of(item) for item in value.array_value.values]
        case "kvlist_value":
            return attributes(value.kvlist_value.values)
        case name:
            return getattr(value, name)
