"""Exporting over OTLP/HTTP with an account of every item: what was sent arrived, or there is a TelemetryError.

Requests are posted with httpx rather than through the SDK's OTLP exporter. The exporter takes any answer below 400 for
success, redirects and logins included; it does not read `partial_success`; its failures are log lines, not errors; and
its time limit (seconds, where the specification says milliseconds) does not bound a server that answers drop by drop.

The time limit of an `Endpoint` bounds one request with all its retries. A request that was cut off may have been
delivered; it is sent again as OTLP asks, and as its points keep their time they fall on the same samples.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import random
import ssl
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import httpx

from testbench import __version__, defaults
from testbench.errors import TelemetryError
from testbench.net.clock import Clock
from testbench.safe_text import printable
from testbench.telemetry.endpoints import PREFIX, Compression, Endpoint, Signal
from testbench.telemetry.replies import ANSWER_LENGTH, Kind, Reply, read_reply

LONGEST_REPLY: Final = 64 * 1024
"""Bytes of a reply that are read."""
NOUNS: Final[dict[Signal, str]] = {"metrics": "data points", "logs": "events", "traces": "spans"}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """One request's protobuf body, and how many items it holds."""

    body: bytes
    items: int


@dataclass(frozen=True)
class Delivery:
    """What arrived: `items` were accepted in `requests`; `sent_bytes` counts bodies as sent, compressed."""

    endpoint: str
    items: int = 0
    requests: int = 0
    sent_bytes: int = 0


async def deliver(endpoint: Endpoint, batches: Iterable[Batch], clock: Clock) -> Delivery:
    """Send the batches one after another; ends at the first that does not arrive.

    A batch of which the collector rejects a part is not sent again; the batches after it still are, so that as much as
    possible arrives, and then the loss is raised.

    Raises:
        TelemetryError: something did not arrive; with the endpoint, its answer, and how much had arrived.
        InputError: a certificate cannot be read.
    """
    items = requests = sent_bytes = rejected = 0
    complaint = ""
    async with _client(endpoint) as client:
        courier = _Courier(endpoint, client, clock)
        for batch in batches:
            content = _compress(batch.body, endpoint.compression)
            reply = await courier.send(content)
            if reply.kind not in ("accepted", "rejected"):
                raise _failure(endpoint, reply, items)
            if reply.kind == "accepted" and reply.text:
                logger.warning("%s warns: %s", endpoint.shown, endpoint.redact(reply.text))
            complaint = complaint or (reply.text if reply.kind == "rejected" else "")
            rejected += min(reply.rejected, batch.items)
            items += batch.items - min(reply.rejected, batch.items)
            requests += 1
            sent_bytes += len(content)
    if rejected:
        noun = NOUNS[endpoint.signal]
        text = f"rejected {rejected} of {items + rejected} {noun}: {complaint or 'it gave no reason'}"
        raise _failure(endpoint, Reply("rejected", text), None)
    return Delivery(endpoint.shown, items, requests, sent_bytes)


async def attempt(endpoint: Endpoint, batch: Batch, clock: Clock, heard: Callable[[Reply], None]) -> Reply:
    """Send one batch and return what became of it, for telemetry whose loss is reported and fails nothing.

    `heard` is told of each reply on the way, for a caller that gives up while another try is under way.

    Raises:
        InputError: a certificate cannot be read.
    """
    async with _client(endpoint) as client:
        return await _Courier(endpoint, client, clock, heard).send(_compress(batch.body, endpoint.compression))


def describe(endpoint: Endpoint, reply: Reply) -> str:
    """The endpoint and what it answered, for people, without secrets."""
    return f"{endpoint.shown} {endpoint.redact(reply.text)}"


def _client(endpoint: Endpoint) -> httpx.AsyncClient:
    """Without a time limit of its own: the courier's bounds a request as a whole."""
    return httpx.AsyncClient(verify=endpoint.tls_context(), timeout=None)  # noqa: S113  # nosec B113


class _Courier:
    """Takes one request at a time to the endpoint, and back what became of it."""

    def __init__(
        self,
        endpoint: Endpoint,
        client: httpx.AsyncClient,
        clock: Clock,
        heard: Callable[[Reply], None] = lambda reply: None,
    ) -> None:
        self._endpoint = endpoint
        self._client = client
        self._clock = clock
        self._heard = heard
        self._headers = {"user-agent": f"testbench/{__version__}", **endpoint.headers}
        self._headers["content-type"] = "application/x-protobuf"
        if endpoint.compression != "none":
            self._headers["content-encoding"] = endpoint.compression

    async def send(self, content: bytes) -> Reply:
        """The final reply within the endpoint's time limit, after retries of what may be tried again."""
        limit = self._endpoint.timeout_s
        deadline = self._clock.monotonic() + limit
        last: Reply | None = None
        wait = defaults.BACKOFF_BASE_S
        try:
            async with asyncio.timeout(limit):
                while True:
                    last = await self._post(content)
                    self._heard(last)
                    pause = last.retry_after if last.retry_after is not None else wait * random.uniform(0.8, 1.2)  # noqa: S311  # nosec B311
                    if not last.retryable or self._clock.monotonic() + pause >= deadline:
                        return last
                    await self._clock.sleep(pause)
                    wait = min(2 * wait, defaults.BACKOFF_CAP_S)
        except TimeoutError:
            before = f"; before that it {last.text}" if last else ""
            return Reply("timeout", f"gave no answer within {limit:g} s{before}")

    async def _post(self, content: bytes) -> Reply:
        try:
            async with self._client.stream(
                "POST", self._endpoint.url, content=content, headers=self._headers
            ) as response:
                headers = {name.lower(): value for name, value in response.headers.items()}
                body = await _read(response)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:  # OSError: a TLS alert that httpx lets through
            return _unreachable(error)
        return read_reply(self._endpoint.signal, response.status_code, headers, body, self._clock.now())


async def _read(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) >= LONGEST_REPLY:
            break
    return bytes(body[:LONGEST_REPLY])


def _compress(body: bytes, compression: Compression) -> bytes:
    match compression:
        case "gzip":
            return gzip.compress(body, compresslevel=6, mtime=0)
        case "deflate":
            return zlib.compress(body)
        case "none":
            return body


def _unreachable(error: Exception) -> Reply:
    """No answer at all. A certificate that does not fit will not fit the next time either."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return Reply("tls", f"failed in TLS: {printable(str(cause), ANSWER_LENGTH)}")
        cause = cause.__cause__ or cause.__context__
    said = printable(str(error), ANSWER_LENGTH) or type(error).__name__
    return Reply("unreachable", f"cannot be reached: {said}", retryable=isinstance(error, httpx.TransportError))


def _failure(endpoint: Endpoint, reply: Reply, arrived: int | None) -> TelemetryError:
    noun = NOUNS[endpoint.signal]
    so_far = "" if arrived is None else f" ({arrived or 'no'} {noun} had arrived)"
    return TelemetryError(describe(endpoint, reply) + so_far, hint=_hint(endpoint.signal, reply.kind))


def _hint(signal: Signal, kind: Kind) -> str:
    match kind:
        case "unauthorized":
            return f"Give the credentials in {PREFIX}HEADERS, e.g. authorization=Bearer%20TOKEN"
        case "not_found" if signal == "logs":
            return "OTEL_LOGS_EXPORTER=none publishes without events, for a backend that takes metrics only."
        case "not_found" | "not_otlp":
            return f"{PREFIX}ENDPOINT is the OTLP/HTTP address of a collector, usually with port 4318."
        case "tls":
            return f"{PREFIX}CERTIFICATE names the file of the authority; a collector without TLS wants http://"
        case "timeout":
            return f"Give it longer with --timeout (seconds) or {PREFIX}TIMEOUT (milliseconds)."
        case "rejected":
            return "The collector's own log and limits say which items it rejects."
        case "unreachable":
            return f"Start a collector there, or set {PREFIX}ENDPOINT to one that runs."
        case "refused" | "accepted":
            return "The collector's own log says more."
