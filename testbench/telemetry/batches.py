"""Data points and events as the SDK's data objects, in batches of a size that a collector takes.

Data points are made by hand rather than by the SDK's meter: it keeps at most 2,000 attribute sets of an instrument,
folds the rest into one overflow point without an error, and sends a point once more at every collection. Here a point
is made once, and only one batch at a time is in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeVar

from opentelemetry._logs import LogRecord
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.metrics.export import (
    Gauge,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from testbench import __version__
from testbench.telemetry import attributes as names
from testbench.telemetry.points import Point

BATCH_SIZE: Final = 1000
"""Items of one request: some 400 kB of points, and with the longest reasons below the 4 MiB that most servers take."""
SCOPE: Final = InstrumentationScope(names.PUBLISH_SCOPE, __version__)

T = TypeVar("T")


@dataclass(frozen=True)
class ExportBatch:
    """What one request carries, as the exporter of its signal takes it, and how many items that are."""

    data: MetricsData | Sequence[ReadableLogRecord] | Sequence[ReadableSpan]
    items: int


def metric_batches(points: Iterable[Point], attributes: Mapping[str, str], time_ns: int) -> Iterator[ExportBatch]:
    """Yield the points in requests of at most BATCH_SIZE, all of the same time and resource."""
    resource = Resource(attributes)
    for chunk in _chunks(points):
        metrics = [_metric(gauge, group, time_ns) for gauge, group in _by_gauge(chunk).items()]
        scopes = [ScopeMetrics(SCOPE, metrics, schema_url="")]
        yield ExportBatch(MetricsData([ResourceMetrics(resource, scopes, schema_url="")]), len(chunk))


def event_batches(events: Iterable[LogRecord], attributes: Mapping[str, str]) -> Iterator[ExportBatch]:
    """Yield the events in requests of at most BATCH_SIZE, all of the same resource."""
    resource = Resource(attributes)
    for chunk in _chunks(events):
        records = [ReadableLogRecord(event, resource, SCOPE) for event in chunk]
        yield ExportBatch(records, len(records))


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
        NumberDataPoint(point.attributes, start_time_unix_nano=0, time_unix_nano=time_ns, value=point.value)
        for point in points
    ]
    return Metric(gauge, names.DESCRIPTIONS[gauge], unit="", data=Gauge(data_points))
