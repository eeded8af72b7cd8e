"""Spans that nobody collects: their ids are recorded in files and given to the agent, and nothing else of them is kept.

Used by `testbench.telemetry.tracing` where the environment names no endpoint for traces. There a span of the SDK would
cost a seventh of the time of a step, all of it for what is thrown away (`benchmarks/run.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import SpanKind


class UnheardSpans:
    """Gives ids and the sampler's decision, as the tracers of `provider` would."""

    def __init__(self, provider: TracerProvider) -> None:
        self._ids = provider.id_generator
        self._sampler = provider.sampler

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, str | int] | None = None,
    ) -> trace.Span:
        parent = trace.get_current_span(context).get_span_context()
        trace_id = parent.trace_id if parent.is_valid else self._ids.generate_trace_id()
        sampled = self._sampler.should_sample(context, trace_id, name).decision is Decision.RECORD_AND_SAMPLE
        flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if sampled else trace.TraceFlags.DEFAULT)
        return trace.NonRecordingSpan(trace.SpanContext(trace_id, self._ids.generate_span_id(), False, flags))


SpanSource: TypeAlias = trace.Tracer | UnheardSpans
