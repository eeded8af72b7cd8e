"""The trace of a run: one for each scenario, with a span for each step and the agent's HTTP requests below it.

`testbench/run.py` uses `open_tracing`; `testbench.execution` knows only the protocol in `testbench.schema.tracing`.
Spans are sent in the background by the SDK's batch processor and through `testbench.telemetry.delivery`, so that what
the collector answered is known. Nothing here is global: the process may trace one run after another.

Traces never decide about a run. Where the environment names no endpoint for them, ids are recorded and given to the
agent all the same, and nothing is sent; a collector that is down costs one warning at the end. What is needed only to
export is imported only then.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import httpx
from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Status, StatusCode

from testbench import __version__, defaults
from testbench.errors import TestbenchError
from testbench.safe_text import printable, redact_url
from testbench.schema.tracing import Attributes, Span, Tracing, Untraced
from testbench.telemetry import attributes as names
from testbench.telemetry.attributes import attribute_text, content_allowed, resource_attributes
from testbench.telemetry.endpoints import is_configured, resolve
from testbench.telemetry.trace_context import NonExportedSpans, SpanSource, TraceparentTransport

if TYPE_CHECKING:
    from testbench.telemetry.span_export import CountingExporter

QUEUE_SIZE: Final = 20_000
"""Ended spans that may wait for a slow collector; OTEL_BSP_MAX_QUEUE_SIZE wins."""
MESSAGE_LENGTH: Final = 300

logger = logging.getLogger(__name__)


@contextmanager
def open_tracing(*, workflow_name: str, agent_url: str, flush_s: float = defaults.TRACE_FLUSH_S) -> Iterator[Tracing]:
    """Trace a run; at the end wait up to `flush_s` seconds for the spans, and warn once if not all were delivered.

    An environment that cannot be used costs the traces and a warning, never the run.
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        yield Untraced()
        return
    try:
        provider, exporter = _open(workflow_name)
    except (TestbenchError, ValueError) as error:  # ValueError: a number of the SDK's own OTEL_* variables
        logger.warning("traces are off: %s", error)
        yield Untraced()
        return
    shared = {names.WORKFLOW_NAME: workflow_name, names.AGENT_URL: redact_url(agent_url)}
    try:
        yield _SdkTracing(provider, shared, content=content_allowed(os.environ), exported=exporter is not None)
    finally:
        if exporter is not None:
            _flush(provider, exporter, flush_s)


def _flush(provider: TracerProvider, exporter: CountingExporter, seconds: float) -> None:
    """Wait so long for what has to be sent, and say what was lost."""
    limit = threading.Timer(seconds, exporter.give_up)
    limit.start()
    try:
        provider.shutdown()
    finally:
        limit.cancel()
    if exporter.lost:
        logger.warning("%d of %d spans did not arrive: %s", exporter.lost, exporter.ended.count, exporter.complaint)


def _open(workflow_name: str) -> tuple[TracerProvider, CountingExporter | None]:
    """Return the SDK's provider of spans, and who exports them where the environment names an endpoint.

    Raises:
        TestbenchError, ValueError: a variable of the environment cannot be used.
    """
    provider = TracerProvider(resource=Resource(resource_attributes(workflow_name, os.environ)), shutdown_on_exit=False)
    if not is_configured("traces", os.environ):
        return provider, None
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from testbench.telemetry import http_spans  # noqa: F401  # OTEL_PROPAGATORS is read by the import
    from testbench.telemetry.span_export import CountingExporter

    exporter = CountingExporter(resolve("traces", os.environ))
    chosen = os.environ.get("OTEL_BSP_MAX_QUEUE_SIZE", "").strip()
    provider.add_span_processor(exporter.ended)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=None if chosen else QUEUE_SIZE))
    return provider, exporter


class _SdkSpan:
    """A span of the SDK that lets no content out where that was not wanted."""

    def __init__(self, span: trace.Span, *, content: bool) -> None:
        self.sdk_span = span
        self._content = content

    @property
    def trace_id(self) -> str:
        return trace.format_trace_id(self.sdk_span.get_span_context().trace_id)

    @property
    def span_id(self) -> str:
        return trace.format_span_id(self.sdk_span.get_span_context().span_id)

    def set(self, attributes: Attributes) -> None:
        if not self.sdk_span.is_recording():
            return
        for key, value in attributes.items():
            if not isinstance(value, str):
                self.sdk_span.set_attribute(key, value)
            elif self._content or key in names.PLAIN_TEXT:
                self.sdk_span.set_attribute(key, attribute_text(value))

    def fail(self, kind: str, message: str) -> None:
        self.sdk_span.set_attribute(names.ERROR_TYPE, attribute_text(kind))
        said = printable(message, MESSAGE_LENGTH) if self._content else kind
        self.sdk_span.set_status(Status(StatusCode.ERROR, attribute_text(said)))

    def end(self) -> None:
        self.sdk_span.end()


class _SdkTracing:
    """The tracer of one run."""

    def __init__(self, provider: TracerProvider, shared: Mapping[str, str], *, content: bool, exported: bool) -> None:
        self._provider = provider
        self._exported = exported
        self._spans: SpanSource = (
            provider.get_tracer(names.RUN_SCOPE, __version__) if exported else NonExportedSpans(provider)
        )
        self._shared = shared
        self._content = content

    def start_scenario(self, name: str, attributes: Attributes) -> Span:
        return self._start(names.SCENARIO_SPAN.format(name=attribute_text(name)), Context(), attributes)

    @contextmanager
    def step(self, parent: Span, position: int, attributes: Attributes) -> Iterator[Span]:
        if not isinstance(parent, _SdkSpan):
            raise TypeError("the parent was started by another tracer")
        below = trace.set_span_in_context(parent.sdk_span, Context())
        with _active(self._start(names.STEP_SPAN.format(number=position + 1), below, attributes)) as span:
            yield span

    @contextmanager
    def resume(self, trace_id: str | None, span_id: str | None, name: str, attributes: Attributes) -> Iterator[Span]:
        with _active(self._start(attribute_text(name), _context_of(trace_id, span_id), attributes)) as span:
            yield span

    def instrument(self, transport: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
        if not self._exported:
            return TraceparentTransport(transport, self._spans)
        from testbench.telemetry.http_spans import InstrumentedTransport

        return InstrumentedTransport(transport, self._provider)

    def _start(self, name: str, context: Context, attributes: Attributes) -> _SdkSpan:
        span = _SdkSpan(self._spans.start_span(name, context), content=self._content)
        span.set(self._shared)
        span.set(attributes)
        return span


@contextmanager
def _active(span: _SdkSpan) -> Iterator[_SdkSpan]:
    """Requests inside the block are children of the span, which ends with it."""
    token = attach(trace.set_span_in_context(span.sdk_span))
    try:
        yield span
    except BaseException as error:
        span.fail(type(error).__name__, str(error))
        raise
    finally:
        detach(token)
        span.end()


def _context_of(trace_id: str | None, span_id: str | None) -> Context:
    """The place of a span that another process recorded; an empty one where the ids are none."""
    try:
        known = trace.SpanContext(
            int(trace_id or "", 16), int(span_id or "", 16), is_remote=True, trace_flags=trace.TraceFlags(1)
        )
    except ValueError:
        return Context()
    return trace.set_span_in_context(trace.NonRecordingSpan(known), Context()) if known.is_valid else Context()
