"""Spans on their way out: delivered like everything else, counted, and given up when a run does not want to wait.

`testbench.telemetry.tracing` hands a `CountingExporter` to the SDK's batch processor, which calls it in its own thread.
The SDK's result of a flush says nothing about delivery; `lost` does.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from testbench.net.clock import SystemClock
from testbench.telemetry.adapter import describe
from testbench.telemetry.batches import ExportBatch
from testbench.telemetry.delivery import OtlpSender
from testbench.telemetry.endpoints import Endpoint


class EndedSpans(SpanProcessor):
    """Counts the spans that have to arrive; one that the batch processor drops for want of room is a loss, too."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is not None and span.context.trace_flags.sampled:
            with self._lock:
                self.count += 1


class CountingExporter(SpanExporter):
    """Delivers batches of spans. `lost` and `complaint` are final after the provider's shutdown."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Open the exporter; nothing is sent yet.

        Raises:
            InputError: a certificate cannot be read.
        """
        self.ended = EndedSpans()
        self._endpoint = endpoint
        self._sender = OtlpSender(endpoint, SystemClock())

    @property
    def lost(self) -> int:
        """Spans that ended and were not taken by the collector."""
        return self.ended.count - self._sender.delivered

    @property
    def complaint(self) -> str:
        """The endpoint and its last failure, for people."""
        return describe(self._endpoint, self._sender.complaint)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        reply = self._sender.send(ExportBatch(spans, len(spans)))
        return SpanExportResult.SUCCESS if reply.kind == "accepted" else SpanExportResult.FAILURE

    def give_up(self) -> None:
        """Start nothing more, and cut off what is under way."""
        self._sender.give_up()

    def shutdown(self) -> None:
        self._sender.close()
