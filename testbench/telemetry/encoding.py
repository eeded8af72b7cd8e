"""Data points and events as the protobuf messages of OTLP, in batches that a collector takes.

The messages are built from `opentelemetry-proto` itself rather than through the SDK's meter: the SDK keeps at most
2,000 attribute sets of an instrument, folds the rest into one overflow point without an error, and sends a point once
more at every collection. Here a point is written once, and only one batch at a time is in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Final, TypeVar

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import SEVERITY_NUMBER_INFO, SEVERITY_NUMBER_WARN, LogRecord, ScopeLogs
from opentelemetry.proto.logs.v1.logs_pb2 import ResourceLogs as LogsOfResource
from opentelemetry.proto.metrics.v1.metrics_pb2 import Gauge, Metric, NumberDataPoint, ScopeMetrics
from opentelemetry.proto.metrics.v1.metrics_pb2 import ResourceMetrics as MetricsOfResource
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from testbench import __version__
from testbench.telemetry import attributes as names
from testbench.telemetry.delivery import Batch
from testbench.telemetry.events import Event
from testbench.telemetry.points import Point

BATCH_SIZE: Final = 1000
"""Items of one request: some 400 kB of points, and with the longest reasons below the 4 MiB that most servers take."""

T = TypeVar("T")


def metric_batches(points: Iterable[Point], resource: Mapping[str, str], time_ns: int) -> Iterator[Batch]:
    """The points in requests of at most BATCH_SIZE, all of the same time."""
    for chunk in _chunks(points):
        scope = ScopeMetrics(
            scope=_scope(),
            metrics=[_metric(gauge, group, time_ns) for gauge, group in _by_gauge(chunk).items()],
        )
        request = ExportMetricsServiceRequest(
            resource_metrics=[MetricsOfResource(resource=_resource(resource), scope_metrics=[scope])]
        )
        yield Batch(request.SerializeToString(), len(chunk))


def event_batches(events: Iterable[Event], resource: Mapping[str, str], time_ns: int) -> Iterator[Batch]:
    """The events in requests of at most BATCH_SIZE, all of the same time."""
    for chunk in _chunks(events):
        scope = ScopeLogs(scope=_scope(), log_records=[_log_record(event, time_ns) for event in chunk])
        request = ExportLogsServiceRequest(
            resource_logs=[LogsOfResource(resource=_resource(resource), scope_logs=[scope])]
        )
        yield Batch(request.SerializeToString(), len(chunk))


def _chunks(items: Iterable[T]) -> Iterator[list[T]]:
    waiting = iter(items)
    while chunk := list(islice(waiting, BATCH_SIZE)):
        yield chunk


def _by_gauge(points: Iterable[Point]) -> dict[str, list[Point]]:
    groups: dict[str, list[Point]] = {}
    for point in points:
        groups.setdefault(point.gauge, []).append(point)
    return groups


def _metric(gauge: str, points: Iterable[Point], time_ns: int) -> Metric:
    data_points = [
        NumberDataPoint(attributes=_pairs(point.attributes), time_unix_nano=time_ns, as_double=point.value)
        for point in points
    ]
    return Metric(name=gauge, description=names.DESCRIPTIONS[gauge], unit="", gauge=Gauge(data_points=data_points))


def _log_record(event: Event, time_ns: int) -> LogRecord:
    return LogRecord(
        time_unix_nano=time_ns,
        observed_time_unix_nano=time_ns,
        severity_number=SEVERITY_NUMBER_WARN if event.is_warning else SEVERITY_NUMBER_INFO,
        severity_text="WARN" if event.is_warning else "INFO",
        event_name=event.name,
        body=AnyValue(string_value=event.body),
        attributes=_pairs(event.attributes),
        trace_id=event.trace_id,
        span_id=event.span_id,
    )


def _scope() -> InstrumentationScope:
    return InstrumentationScope(name=names.PUBLISH_SCOPE, version=__version__)


def _resource(attributes: Mapping[str, str]) -> Resource:
    return Resource(attributes=_pairs(attributes))


def _pairs(attributes: Mapping[str, str] | Mapping[str, str | int] | Mapping[str, str | int | float]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_value(value)) for key, value in attributes.items()]


def _value(value: str | float) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value)
    return AnyValue(int_value=value) if isinstance(value, int) else AnyValue(double_value=value)
