"""Spans on their way out: delivered like everything else, counted, and given up when a run does not want to wait.

`testbench.telemetry.tracing` hands a `CountingExporter` to the SDK's batch processor, which calls it in its own thread.
The SDK's result of a flush says nothing about delivery; `lost` does.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import cast

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from testbench.net.clock import SystemClock
from testbench.telemetry.delivery import Batch, attempt, describe
from testbench.telemetry.endpoints import Endpoint
from testbench.telemetry.replies import Reply


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
    """Delivers batches of spans. `complaint` is the last failure, for people; read it after the provider's shutdown."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Raises InputError for a certificate that cannot be read."""
        endpoint.tls_context()
        self.ended = EndedSpans()
        self.complaint = f"{endpoint.shown} was not reached in time"
        self._endpoint = endpoint
        self._delivered = 0
        self._give_up_at = math.inf
        self._flight: tuple[asyncio.AbstractEventLoop, asyncio.Task[None]] | None = None
        self._lock = threading.Lock()

    @property
    def lost(self) -> int:
        """Spans that ended and were not taken by the collector."""
        return self.ended.count - self._delivered

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        before = self._delivered
        with suppress(asyncio.CancelledError):  # given up
            asyncio.run(self._send(spans))
        return SpanExportResult.SUCCESS if self._delivered - before == len(spans) else SpanExportResult.FAILURE

    def give_up_after(self, seconds: float) -> None:
        """Start nothing after so many seconds from now, and cut off what is under way then."""
        with self._lock:
            self._give_up_at = time.monotonic() + seconds
            flight = self._flight
        if flight is not None:
            loop, task = flight
            with suppress(RuntimeError):  # the loop was closed meanwhile: the batch is through
                loop.call_soon_threadsafe(lambda: loop.call_later(seconds, task.cancel))

    async def _send(self, spans: Sequence[ReadableSpan]) -> None:
        with self._lock:
            remaining = self._give_up_at - time.monotonic()
            self._flight = (asyncio.get_running_loop(), cast("asyncio.Task[None]", asyncio.current_task()))
        if remaining <= 0:
            return
        batch = Batch(encode_spans(spans).SerializeToString(), len(spans))
        endpoint = replace(self._endpoint, timeout_s=min(remaining, self._endpoint.timeout_s))
        reply = await attempt(endpoint, batch, SystemClock(), self._note)
        self._note(reply)
        if reply.kind in ("accepted", "rejected"):
            self._delivered += batch.items - min(reply.rejected, batch.items)

    def _note(self, reply: Reply) -> None:
        if reply.kind != "accepted":
            self.complaint = describe(self._endpoint, reply)
