"""HTTP as targets and tools need it: one address to post to, bounded replies, and faults with a name.

Nothing is remembered between requests: no cookies, and no credentials of the environment (only its proxies).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, Literal
from urllib.parse import unquote

import aiohttp
import httpx

from testbench import __version__
from testbench.arena.targets.target import Headers
from testbench.errors import InputError
from testbench.net.transport import AgentHttp, AgentTransport
from testbench.safe_text import redact_url

Instrument = Callable[[httpx.AsyncBaseTransport], httpx.AsyncBaseTransport]
"""Puts something around the transport that every request takes, e.g. to trace it."""


def as_it_is(transport: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
    """Puts nothing around it."""
    return transport


CONNECT_TIMEOUT_S: Final = 10.0
FAULTS: Final = (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError)
NOT_SENT: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)


class HttpFaultError(Exception):
    """A request without a whole reply. `sent`: it may have arrived; `kind` is a word of `AgentError`."""

    def __init__(self, message: str, kind: Literal["unreachable", "timeout"], *, sent: bool) -> None:
        super().__init__(message)
        self.kind = kind
        self.sent = sent


class TooLongError(Exception):
    """A reply that is longer than anybody is ready to read."""


class Endpoint:
    """One address to post to, with a connection pool of its own."""

    def __init__(self, url: str, headers: Headers, instrument: Instrument, *, below: str = "") -> None:
        """`below` is put behind the path of `url`, before its query.

        A user and a password in `url` go into the header `authorization`, unless that is given.

        Raises:
            InputError: it is no address of a web server.
        """
        try:
            whole = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise _no_address(url) from error
        if whole.scheme not in ("http", "https") or not whole.host:
            raise _no_address(url)
        # aiohttp refuses a request that has credentials both in its address and in a header
        self._url = whole.copy_with(userinfo=b"", path=whole.path.rstrip("/") + below if below else whole.path)
        self._http = _open(self._url, headers, whole, instrument)

    @asynccontextmanager
    async def post(self, content: bytes, timeout_s: float) -> AsyncIterator[httpx.Response]:
        """The reply to a request, to be read inside the block, all in `timeout_s` seconds.

        Raises:
            HttpFaultError: there is none, or not all of it.
        """
        async with _named_faults(timeout_s), self._http.stream("POST", self._url, content=content) as response:
            yield response

    async def status_of(self, path: str, timeout_s: float) -> int:
        """The status of a GET beside the endpoint: whether somebody is there.

        Raises:
            HttpFaultError: nobody answers.
        """
        url = self._url.join(path).copy_with(query=self._url.query or None)
        async with _named_faults(timeout_s), self._http.stream("GET", url) as response:
            return response.status_code

    async def close(self) -> None:
        await self._http.aclose()


async def read(response: httpx.Response, limit: int) -> bytes:
    """The whole body.

    Raises:
        TooLongError: it has more than `limit` bytes.
    """
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > limit:
            raise TooLongError(f"more than {limit} bytes")
    return bytes(body)


@asynccontextmanager
async def _named_faults(timeout_s: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except FAULTS as error:
        raise _fault(error, timeout_s) from error


def _fault(error: Exception, timeout_s: float) -> HttpFaultError:
    if isinstance(error, NOT_SENT):
        return HttpFaultError(f"cannot be reached: {error}", "unreachable", sent=False)
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return HttpFaultError(f"no answer within {timeout_s:g} s", "timeout", sent=True)
    return HttpFaultError(f"the connection was cut: {error}", "unreachable", sent=True)


def _open(url: httpx.URL, headers: Headers, whole: httpx.URL, instrument: Instrument) -> httpx.AsyncClient:
    defaults = {
        "user-agent": f"testbench/{__version__}",
        "content-type": "application/json",
        "accept-encoding": "identity",  # a proxy that compresses a stream holds back its first tokens
    }
    given = httpx.Headers(list(headers))
    if whole.userinfo and "authorization" not in given:
        user, _, password = whole.userinfo.decode().partition(":")
        given["authorization"] = aiohttp.encode_basic_auth(unquote(user), unquote(password))
    ours = ((name, value) for name, value in defaults.items() if name not in given)
    return AgentHttp(
        instrument(AgentTransport(str(url))),
        headers=httpx.Headers([*ours, *given.multi_items()]),
        params=httpx.QueryParams(),
        timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
    )


def _no_address(url: str) -> InputError:
    return InputError(f"{redact_url(url)!r} is no address of a web server", hint="Write it as http(s)://host[:port]/…")
