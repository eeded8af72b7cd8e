"""Publishing an evaluated experiment: scores and aggregates as gauges, then every evaluation as an event.

Called by `testbench/publish.py`. Every endpoint is resolved before the first request, so that a mistake in the
environment costs nothing, and everything has arrived when `publish` returns.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

from testbench.errors import InputError, NothingToDo
from testbench.net.clock import Clock, SystemClock
from testbench.results.summary import ResultCounts, summarize
from testbench.schema.models import EvaluatedExperiment
from testbench.telemetry.attributes import content_allowed, resource_attributes
from testbench.telemetry.batches import event_batches, metric_batches
from testbench.telemetry.delivery import Delivery, deliver
from testbench.telemetry.endpoints import Endpoint, is_configured, is_switched_off, resolve
from testbench.telemetry.events import evaluation_events
from testbench.telemetry.points import Execution, aggregate_points, samples, score_points


@dataclass(frozen=True)
class Publication:
    """What arrived. `events` is None where the environment has no place for events."""

    scores: int
    aggregates: int
    evaluations: ResultCounts
    metrics: Delivery
    events: Delivery | None


@dataclass(frozen=True)
class PublishSettings:
    """`per_step` False leaves out the points of single steps; `timeout_s` wins over the environment's."""

    per_step: bool = True
    timeout_s: float | None = None


async def publish(
    experiment: EvaluatedExperiment,
    execution: Execution,
    settings: PublishSettings,
    environ: Mapping[str, str],
    clock: Clock | None = None,
) -> Publication:
    """Deliver all points and events of an experiment.

    Raises:
        NothingToDo: there is no evaluation, or none with a score; then the counts of errors have been delivered.
        InputError: an OTEL_* variable cannot be used.
        TelemetryError: something did not arrive.
    """
    clock = clock or SystemClock()
    found = tuple(samples(experiment))
    if not found:
        raise NothingToDo("the experiment holds no evaluation", hint="Give steps metrics, and run evaluate again.")
    metrics, logs = _endpoints(environ, settings)
    resource = resource_attributes(execution.workflow_name, environ)
    content = content_allowed(environ)
    summary = summarize(experiment)
    scores = score_points(found, execution, content=content) if settings.per_step else ()
    aggregates = tuple(aggregate_points(summary, execution))
    time_ns = time.time_ns()
    delivered = await deliver(metrics, metric_batches(chain(scores, aggregates), resource, time_ns), clock)
    events = None
    if logs is not None:
        records = evaluation_events(found, execution, time_ns, content=content)
        events = await deliver(logs, event_batches(records, resource), clock)
    if summary.evaluations.judged == 0:
        counts = summary.evaluations
        raise NothingToDo(
            f"no score among {counts.total} evaluations: {counts.errors} errors, {counts.skipped} skipped",
            hint=f"Their number was published to {metrics.shown}; the evaluated experiment says why.",
        )
    return Publication(delivered.items - len(aggregates), len(aggregates), summary.evaluations, delivered, events)


def _endpoints(environ: Mapping[str, str], settings: PublishSettings) -> tuple[Endpoint, Endpoint | None]:
    """Where points and events go: events nowhere if only metrics have an address, or OTEL_LOGS_EXPORTER is none."""
    if is_switched_off("metrics", environ):
        raise InputError(
            "OTEL_SDK_DISABLED or OTEL_METRICS_EXPORTER switches off what publish is for",
            hint="Unset it for this command, or leave the command out.",
        )
    metrics = resolve("metrics", environ, timeout_s=settings.timeout_s)
    wanted = not is_switched_off("logs", environ) and (
        is_configured("logs", environ) or not is_configured("metrics", environ)
    )
    return metrics, resolve("logs", environ, timeout_s=settings.timeout_s) if wanted else None
