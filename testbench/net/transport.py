"""How requests get there, to agents, gateways and tools: httpx as the A2A SDK wants it, over aiohttp's connections.

    LeanHttpClient (the httpx client that the SDK is given) -> tracing, if wanted -> AiohttpTransport -> aiohttp

Made by `testbench.schema.a2a_client` and `testbench.net.endpoint`. httpx's own pool looks at all connections for each
request, and collapses at a few dozen in flight; aiohttp's does not. Every fault becomes the httpx exception that says
the same, above all whether the request can have reached the server (`testbench.a2a_protocol.errors`).
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
from aiohttp import hdrs
from multidict import CIMultiDict
from yarl import URL

from testbench.errors import AgentError, InputError


@dataclass
class Stopwatch:
    """From just before the first request until the last whole reply was read: their time, without our own.

    `outer` is the watch of the block around this one, which sees the same.
    """

    sent: float | None = None
    received: float | None = None
    now: Callable[[], float] = time.monotonic
    outer: Stopwatch | None = None

    @property
    def seconds(self) -> float | None:
        """None before the first reply."""
        return None if self.sent is None or self.received is None else self.received - self.sent

    def send(self) -> None:
        """A request leaves now."""
        if self.sent is None:
            self.sent = self.now()
        if self.outer is not None:
            self.outer.send()

    def receive(self) -> None:
        """A whole reply is here now."""
        self.received = self.now()
        if self.outer is not None:
            self.outer.receive()


_WATCH: ContextVar[Stopwatch | None] = ContextVar("stopwatch", default=None)


def current() -> Stopwatch:
    """Return the watch of the block that this task is in; one that nobody looks at where there is none."""
    return _WATCH.get() or Stopwatch()


@contextmanager
def stopwatch(now: Callable[[], float] = time.monotonic) -> Iterator[Stopwatch]:
    """Time the requests that this task makes inside the block."""
    watch = Stopwatch(now=now, outer=_WATCH.get())
    token = _WATCH.set(watch)
    try:
        yield watch
    finally:
        _WATCH.reset(token)


KEEPALIVE_S: Final = 3.0
"""Shorter than what servers keep: a connection that the server closes while we send looks like a lost message."""
STREAM: Final = "text/event-stream"
LONGEST_REPLY: Final = 64 * 2**20
"""Bytes: a body that goes on and on would take the memory, and with it the process and all that is in flight."""
NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
"""Faults of a request that cannot have reached anybody."""
OF_PACKED_BODIES: Final = (b"content-encoding", b"content-length")


class LeanHttpClient(httpx.AsyncClient):
    """httpx's client without what an agent never gets to see: cookies, redirects, authentication in several rounds.

    A third of the time that httpx takes for a request goes there. A cookie that one scenario was given must not go with
    the messages of another, either.
    """

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        *,
        headers: httpx.Headers,
        params: httpx.QueryParams,
        timeout: httpx.Timeout,
    ) -> None:
        super().__init__(transport=transport, headers=headers, params=params, timeout=timeout)
        self._over = transport
        self._parsed = lru_cache(maxsize=64)(httpx.URL)

    def build_request(self, method: str, url: httpx.URL | str, **options: Any) -> httpx.Request:
        return super().build_request(method, self._parsed(url), **options)

    async def send(self, request: httpx.Request, *, stream: bool = False, **_: Any) -> httpx.Response:
        if self.is_closed:
            raise RuntimeError("the client has been closed")
        response = await self._over.handle_async_request(request)
        if not stream:
            await response.aread()
        return response


class AiohttpTransport(httpx.AsyncBaseTransport):
    """As many connections to one server as there are requests in flight. Make it where an event loop runs."""

    def __init__(self, agent_url: str) -> None:
        """Proxies and certificates are the environment's, as for httpx: HTTP(S)_PROXY, NO_PROXY, SSL_CERT_FILE.

        Raises:
            InputError: the proxy is of a kind that is not supported.
        """
        self._proxy = _proxy(agent_url)
        encrypted = agent_url.startswith("https:") or (self._proxy is not None and self._proxy.scheme == "https")
        tls: ssl.SSLContext | bool = httpx.create_ssl_context() if encrypted else True
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=tls, keepalive_timeout=KEEPALIVE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("accept", "accept-encoding", "content-type", "user-agent"),
        )
        self._turns = Turns()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        limits = request.extensions.get("timeout", {})
        content = await request.aread()
        await self._turns.next(first=True)  # which also lets the loop see what connections were closed meanwhile
        watch = current()
        watch.send()
        with _faults_as_of_httpx():
            response = await self._session.request(
                request.method,
                URL(str(request.url), encoded=True),
                headers=CIMultiDict(request.headers.multi_items()),
                data=content or None,
                allow_redirects=False,
                proxy=self._proxy,
                timeout=aiohttp.ClientTimeout(
                    total=None,
                    connect=limits.get("connect"),
                    sock_connect=limits.get("connect"),
                    sock_read=limits.get("read"),
                ),
            )
            if response.content_type == STREAM:  # comes in pieces: whoever asked for it reads
                return _response(request, response, _Stream(response))
            body = await _whole(response)
        watch.receive()
        await self._turns.next()
        return _response(request, response, httpx.ByteStream(body))

    async def aclose(self) -> None:
        await self._session.close()


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    """Return the body.

    Raises:
        AgentError: it is longer than `LONGEST_REPLY`.
    """
    pieces: list[bytes] = []
    size = 0
    try:
        async for piece in response.content.iter_any():
            size += len(piece)
            if size > LONGEST_REPLY:
                raise AgentError(f"the reply is longer than {LONGEST_REPLY >> 20} MiB", kind="protocol")
            pieces.append(piece)
    except BaseException:  # also where nobody waits for it any more
        response.close()
        raise
    return b"".join(pieces)


def _response(
    request: httpx.Request, response: aiohttp.ClientResponse, stream: httpx.AsyncByteStream
) -> httpx.Response:
    """The reply without the headers of what aiohttp has unpacked already, where `LONGEST_REPLY` counts."""
    extensions = {"http_version": b"HTTP/1.1", "reason_phrase": (response.reason or "").encode(errors="replace")}
    headers = list(response.raw_headers)
    if hdrs.CONTENT_ENCODING in response.headers:
        headers = [(name, value) for name, value in headers if name.lower() not in OF_PACKED_BODIES]
    return httpx.Response(response.status, headers=headers, stream=stream, extensions=extensions, request=request)


class _Stream(httpx.AsyncByteStream):
    """The body of a reply that goes on, as it comes."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _faults_as_of_httpx():
            async for chunk in self._response.content.iter_any():
                yield chunk

    async def aclose(self) -> None:
        self._response.close()


class Turns:
    """Lets one of those who wait go on in each round of the event loop, so that it looks after its sockets in between.

    Otherwise the replies of a whole round are worked on first, and those that come meanwhile lie unread: with 256 in
    flight that alone made an agent look several times slower than it was. Requests that are to leave come first:
    replies that are here can wait, their time was taken.
    """

    def __init__(self) -> None:
        self._first: deque[asyncio.Future[None]] = deque()
        self._others: deque[asyncio.Future[None]] = deque()

    async def next(self, *, first: bool = False) -> None:
        """Wait for a turn; those that are `first` have theirs before all others."""
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        nobody = not self._first and not self._others
        (self._first if first else self._others).append(turn)
        if nobody:
            loop.call_soon(self._let_one_go_on, loop)
        await turn

    def _let_one_go_on(self, loop: asyncio.AbstractEventLoop) -> None:
        turn = (self._first or self._others).popleft()
        if not turn.done():  # cancelled
            turn.set_result(None)
        if self._first or self._others:
            loop.call_soon(self._let_one_go_on, loop)


@contextmanager
def _faults_as_of_httpx() -> Iterator[None]:
    """The order matters: what cannot have been sent comes first, and whatever is left may have been."""
    try:
        yield
    except (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError) as error:
        raise httpx.ProxyError(f"the proxy: {_reason(error)}") from error
    except aiohttp.ClientConnectorError as error:
        raise httpx.ConnectError(_reason(error)) from error
    except aiohttp.ConnectionTimeoutError as error:
        raise httpx.ConnectTimeout("no connection in time") from error
    except aiohttp.ServerTimeoutError as error:
        raise httpx.ReadTimeout("no answer in time") from error
    except aiohttp.InvalidURL as error:
        raise httpx.UnsupportedProtocol("no URL of an agent") from error
    except aiohttp.ClientResponseError as error:
        raise httpx.RemoteProtocolError(f"the reply is not HTTP: {error.message}") from error
    except aiohttp.ServerDisconnectedError as error:
        raise httpx.RemoteProtocolError("the server closed the connection without a reply") from error
    except aiohttp.ClientPayloadError as error:
        raise httpx.ReadError("the connection was cut in the middle of the reply") from error
    except aiohttp.ClientError as error:
        raise httpx.ReadError(str(error)) from error


def _reason(error: aiohttp.ClientConnectorError | aiohttp.ClientHttpProxyError) -> str:
    """What the system or the proxy said, in words for people."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"HTTP {error.status}: {error.message}"
    cause = error.os_error
    if cause.errno is None or cause.errno <= 0 or isinstance(cause, socket.gaierror | ssl.SSLError):
        return f"{error.host}:{error.port}: {cause.strerror or cause}"
    return f"{error.host}:{error.port}: {os.strerror(cause.errno)}"


def _proxy(agent_url: str) -> URL | None:
    """The proxy that the environment names for this address, with the credentials in it."""
    address, known = urlsplit(agent_url), getproxies()
    named = known.get(address.scheme) or known.get("all")
    if not named or proxy_bypass(address.netloc.rpartition("@")[2]):
        return None
    proxy = URL(named if "://" in named else f"http://{named}")
    if proxy.scheme not in ("http", "https"):
        raise InputError(
            f"a proxy of the kind {proxy.scheme!r} is not supported",
            hint=f"Name an HTTP proxy in {address.scheme.upper()}_PROXY, or the agent's host in NO_PROXY.",
        )
    return proxy
