"""The HTTP requests of a step in its trace: a span for each, whose id goes to the agent as `traceparent`.

Put around an agent's transport by `testbench.telemetry.tracing`. OpenTelemetry's own instrumentation of httpx does the
same for seven times the CPU, a sixth of all that a step cost. Attributes are those of the semantic conventions for HTTP
clients; an address is recorded without user, password and query.
"""

from __future__ import annotations

from functools import lru_cache

import httpx
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from testbench.safe_text import redact_url
from testbench.telemetry import attributes as names
from testbench.telemetry.unheard import SpanSource

W3C = TraceContextTextMapPropagator()
"""By itself: the one of OTEL_PROPAGATORS ends the process where it names what is not installed, such as `b3`."""


class TracedTransport(httpx.AsyncBaseTransport):
    """Requests outside of any span go through as they are."""

    def __init__(self, transport: httpx.AsyncBaseTransport, spans: SpanSource) -> None:
        self._transport = transport
        self._spans = spans
        self._address = lru_cache(maxsize=64)(_address)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if not trace.get_current_span().get_span_context().is_valid:
            return await self._transport.handle_async_request(request)
        attributes = {names.HTTP_METHOD: request.method} | self._address(request.url)
        span = self._spans.start_span(request.method, kind=SpanKind.CLIENT, attributes=attributes)
        try:
            carried: dict[str, str] = {}
            W3C.inject(carried, trace.set_span_in_context(span))
            request.headers.update(carried)
            response = await self._transport.handle_async_request(request)
        except BaseException as error:
            _fail(span, type(error).__name__)
            raise
        else:
            span.set_attribute(names.HTTP_STATUS, response.status_code)
            if response.status_code >= 400:
                _fail(span, str(response.status_code))
            return response
        finally:
            span.end()

    async def aclose(self) -> None:
        await self._transport.aclose()


def _address(url: httpx.URL) -> dict[str, str | int]:
    port = url.port or (443 if url.scheme == "https" else 80)
    return {names.URL: redact_url(str(url)), names.SERVER_ADDRESS: url.host, names.SERVER_PORT: port}


def _fail(span: trace.Span, kind: str) -> None:
    span.set_attribute(names.ERROR_TYPE, kind)
    span.set_status(Status(StatusCode.ERROR))
