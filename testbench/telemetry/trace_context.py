"""Ids of spans that nobody collects, and the header `traceparent` that gives them to the agent (W3C Trace Context).

Used by `testbench.telemetry.tracing`, and by `http_spans` for the header of spans that are collected.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import httpx
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

W3C: Final = TraceContextTextMapPropagator()


class NonExportedSpans:
    """Gives ids and the sampler's decision, as the tracers of `provider` would, where nobody collects spans.

    There a span of the SDK would cost a seventh of the time of a step, all of it for what is thrown away
    (`benchmarks/run.py`).
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._ids = provider.id_generator
        self._sampler = provider.sampler

    def start_span(self, name: str, context: Context | None = None, kind: SpanKind = SpanKind.INTERNAL) -> trace.Span:
        parent = trace.get_current_span(context).get_span_context()
        trace_id = parent.trace_id if parent.is_valid else self._ids.generate_trace_id()
        sampled = self._sampler.should_sample(context, trace_id, name).decision is Decision.RECORD_AND_SAMPLE
        flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if sampled else trace.TraceFlags.DEFAULT)
        return trace.NonRecordingSpan(trace.SpanContext(trace_id, self._ids.generate_span_id(), False, flags))


SpanSource: TypeAlias = trace.Tracer | NonExportedSpans


class TraceparentTransport(httpx.AsyncBaseTransport):
    """Gives the agent an id below the step's span, and keeps nothing of the request."""

    def __init__(self, transport: httpx.AsyncBaseTransport, spans: SpanSource) -> None:
        self._transport = transport
        self._spans = spans

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if trace.get_current_span().get_span_context().is_valid:
            span = self._spans.start_span(request.method, kind=SpanKind.CLIENT)
            W3C.inject(request.headers, trace.set_span_in_context(span))
        return await self._transport.handle_async_request(request)

    async def aclose(self) -> None:
        await self._transport.aclose()
