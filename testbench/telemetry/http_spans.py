"""The HTTP requests of a step in its trace: a span for each, whose id goes to the agent as `traceparent`.

Put around an agent's transport by `testbench.telemetry.tracing` while spans are exported; the spans are those of
OpenTelemetry's instrumentation of httpx, in the stable semantic conventions. It would put the address with its query,
and an exception with its message and its stack, into a span: `_RequestTracer` keeps both out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import httpx
from opentelemetry import trace
from opentelemetry.instrumentation.httpx import AsyncOpenTelemetryTransport, RequestInfo
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import Status, StatusCode

from testbench.safe_text import redact_url
from testbench.telemetry import attributes as names
from testbench.telemetry.trace_context import W3C

STABLE_NAMES: Final = "OTEL_SEMCONV_STABILITY_OPT_IN"


class InstrumentedTransport(httpx.AsyncBaseTransport):
    """Requests outside of any span go through as they are."""

    def __init__(self, transport: httpx.AsyncBaseTransport, provider: trace.TracerProvider) -> None:
        if "http" not in os.environ.get(STABLE_NAMES, ""):  # read by the first instrumentation of the process
            os.environ[STABLE_NAMES] = f"{os.environ.get(STABLE_NAMES, '')},http"
        self._transport = transport
        self._instrumented = AsyncOpenTelemetryTransport(
            transport, _RequestTracer(provider), NoOpMeterProvider(), request_hook=_give_traceparent
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if not trace.get_current_span().get_span_context().is_valid:
            return await self._transport.handle_async_request(request)
        return await self._instrumented.handle_async_request(request)

    async def aclose(self) -> None:
        await self._transport.aclose()


async def _give_traceparent(span: trace.Span, request: RequestInfo) -> None:
    """Give the agent the span's id, whatever OTEL_PROPAGATORS says: what it did is found by that id."""
    if request.headers is not None:
        W3C.inject(request.headers, trace.set_span_in_context(span))


class _RequestTracer(trace.TracerProvider, trace.Tracer):
    """Starts spans without anything that an address or an exception may say of credentials or content.

    Also the provider of itself, which is what the instrumentation asks for.
    """

    def __init__(self, provider: trace.TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer(__name__)

    def get_tracer(self, *scope: Any, **options: Any) -> trace.Tracer:
        self._tracer = self._provider.get_tracer(*scope, **options)
        return self

    def start_span(self, name: str, *given: Any, **options: Any) -> trace.Span:
        return self._tracer.start_span(name, *given, **options)

    @contextmanager
    def start_as_current_span(  # type: ignore[override]  # a context manager, as the SDK's own
        self, name: str, *, attributes: Mapping[str, Any], **options: Any
    ) -> Iterator[trace.Span]:
        attributes = {key: _without_secrets(value) for key, value in attributes.items()}
        with self._tracer.start_as_current_span(
            name, attributes=attributes, record_exception=False, set_status_on_exception=False, **options
        ) as span:
            try:
                yield span
            except BaseException as error:
                span.set_attribute(names.ERROR_TYPE, type(error).__name__)
                span.set_status(Status(StatusCode.ERROR))
                raise


def _without_secrets(value: Any) -> Any:
    return redact_url(value) if isinstance(value, str) and "://" in value else value
