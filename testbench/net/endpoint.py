"""One web server to post to: bounded replies, and faults with a name.

Used by `testbench.openai_api` for gateways and by `testbench.arena.targets` for tools. Nothing is remembered between
requests: no cookies, and no credentials of the environment (only its proxies and certificates).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, Literal, TypeAlias
from urllib.parse import unquote

import aiohttp
import httpx

from testbench import __version__
from testbench.errors import AgentError, InputError
from testbench.net.transport import NOT_SENT, AiohttpTransport, LeanHttpClient
from testbench.safe_text import redact_url

Headers: TypeAlias = tuple[tuple[str, str], ...]
Instrument: TypeAlias = Callable[[httpx.AsyncBaseTransport], httpx.AsyncBaseTransport]
"""Puts something around the transport that every request takes, e.g. to trace it."""

CONNECT_TIMEOUT_S: Final = 10.0
NO_ACCESS: Final = (401, 403, 407)
"""Statuses that say the credential is wrong, missing or not enough."""
NOT_TAKEN: Final = (429, 503)
"""Statuses that say the request was refused before anybody looked at it."""
_FAULTS: Final = (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError)


def no_instrument(transport: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
    """Put nothing around it."""
    return transport


class HttpFaultError(Exception):
    """A request without a whole reply. `sent`: it may have arrived; `kind` is a word of `AgentError`."""

    def __init__(self, message: str, kind: Literal["unreachable", "timeout"], *, sent: bool) -> None:
        super().__init__(message)
        self.kind = kind
        self.sent = sent


class ReplyTooLongError(Exception):
    """A reply that is longer than anybody is ready to read."""


class HttpEndpoint:
    """A web server's address, and what is below it, with a connection pool of its own. Make it where a loop runs."""

    def __init__(
        self, url: str, headers: Headers, instrument: Instrument = no_instrument, *, compressed: bool = False
    ) -> None:
        """A user and a password in `url` go into the header `authorization`, unless that is given; its query is sent.

        Replies may be `compressed` where they are not streamed: a proxy that compresses a stream holds back its first
        tokens.

        Raises:
            InputError: it is not the address of a web server.
        """
        try:
            whole = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise _not_an_address(url) from error
        if whole.scheme not in ("http", "https") or not whole.host:
            raise _not_an_address(url)
        # aiohttp refuses a request that has credentials both in its address and in a header
        self._url = whole.copy_with(userinfo=b"")
        self._below: dict[str, httpx.URL] = {"": self._url}
        given = httpx.Headers(list(headers))
        if whole.userinfo and "authorization" not in given:
            user, _, password = whole.userinfo.decode().partition(":")
            given["authorization"] = aiohttp.encode_basic_auth(unquote(user), unquote(password))
        defaults = {
            "user-agent": f"testbench/{__version__}",
            "content-type": "application/json",
            "accept-encoding": "gzip, deflate" if compressed else "identity",
        }
        ours = ((name, value) for name, value in defaults.items() if name not in given)
        self._http = LeanHttpClient(
            instrument(AiohttpTransport(str(self._url))),
            headers=httpx.Headers([*ours, *given.multi_items()]),
            params=httpx.QueryParams(),
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
        )

    @asynccontextmanager
    async def post(self, content: bytes, timeout_s: float, below: str = "") -> AsyncIterator[httpx.Response]:
        """Give the reply to a request, to be read inside the block, all in `timeout_s` seconds.

        `below` is put behind the path of the address, before its query.

        Raises:
            HttpFaultError: there is none, or not all of it.
            ReplyTooLongError: it is longer than the transport reads.
        """
        request = self._http.build_request("POST", self._address(below), content=content)
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._http.send(request, stream=True)
                try:
                    yield response
                finally:
                    await response.aclose()
        except (AgentError, *_FAULTS) as error:
            raise _fault(error, timeout_s) from error

    async def status_of(self, below: str, timeout_s: float) -> int:
        """Return the status of a GET: whether somebody is there.

        Raises:
            HttpFaultError: nobody answers.
        """
        request = self._http.build_request("GET", self._address(below))
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._http.send(request, stream=True)
                await response.aclose()
        except (AgentError, *_FAULTS) as error:
            raise _fault(error, timeout_s) from error
        return response.status_code

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    def _address(self, below: str) -> httpx.URL:
        if below not in self._below:
            self._below[below] = self._url.copy_with(path=self._url.path.rstrip("/") + below)
        return self._below[below]


async def read_reply(response: httpx.Response, limit: int) -> bytes:
    """Return the whole body.

    Raises:
        ReplyTooLongError: it has more than `limit` bytes.
    """
    body = await read_start(response, limit + 1)
    if len(body) > limit:
        raise ReplyTooLongError(f"more than {limit} bytes")
    return body


async def read_start(response: httpx.Response, limit: int) -> bytes:
    """Return the body, or the first `limit` bytes of it."""
    if isinstance(response.stream, httpx.ByteStream):  # the transport has read and unpacked it
        return b"".join(response.stream)[:limit]
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) >= limit:
            break
    return bytes(body[:limit])


def _fault(error: Exception, timeout_s: float) -> HttpFaultError | ReplyTooLongError:
    if isinstance(error, AgentError):  # the transport's word for a reply without end
        return ReplyTooLongError(error.message)
    if isinstance(error, (*NOT_SENT, httpx.UnsupportedProtocol)):
        return HttpFaultError(f"cannot be reached: {error}", "unreachable", sent=False)
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return HttpFaultError(f"no answer within {timeout_s:g} s", "timeout", sent=True)
    return HttpFaultError(f"the connection was cut: {error}", "unreachable", sent=True)


def _not_an_address(url: str) -> InputError:
    return InputError(
        f"{redact_url(url)!r} is not the address of a web server", hint="Write it as http(s)://host[:port]/…"
    )
