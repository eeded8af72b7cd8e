"""The HTTP requests of OpenTelemetry's OTLP exporters: posted with retries and a time limit, and their replies read.

By themselves the exporters take any answer below 400 for success, redirects and logins included; they do not read
`partial_success`; and their time limit (seconds, where the specification says milliseconds) does not bound a server
that answers drop by drop. So their session has an `OtlpAdapter`, which lets them see success only where the collector
said so, does what has to be tried again by itself, and keeps the reply for `testbench.telemetry.delivery`.
"""

from __future__ import annotations

import asyncio
import os
import random
import ssl
import threading
from http.client import HTTPException
from io import BytesIO
from typing import Any, Final

from requests import PreparedRequest, RequestException, Response, exceptions
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies
from urllib3.exceptions import HTTPError

from testbench import __version__
from testbench.errors import TelemetryError
from testbench.net.clock import Clock
from testbench.net.retry import compute_backoff
from testbench.safe_text import printable
from testbench.telemetry.endpoints import Endpoint
from testbench.telemetry.replies import ANSWER_LENGTH, ExportReply, read_reply

LONGEST_REPLY: Final = 64 * 1024
"""Bytes of a reply that are read."""


class _Attempts:
    """One request with all its tries, between the thread that makes them and the one that waits for their end."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        """Either all is said, or nobody waits any longer."""
        self.abandoned = False
        self.final: ExportReply | None = None
        self.last: ExportReply | None = None
        """What the last try brought, while another one may be under way."""


class OtlpAdapter(HTTPAdapter):
    """Posts to one endpoint. `reply` says what became of the last request; None before there was one.

    The time limit of an `Endpoint` bounds one request with all its tries. A request that was cut off may have been
    delivered; it is sent again as OTLP asks, and as its points keep their time they fall on the same samples.
    """

    def __init__(self, endpoint: Endpoint, clock: Clock) -> None:
        super().__init__(pool_connections=1, pool_maxsize=1)
        self.reply: ExportReply | None = None
        self.sent_bytes = 0
        """Of all bodies that were accepted, compressed as they were sent."""
        self._endpoint = endpoint
        self._clock = clock
        self._attempts: _Attempts | None = None
        self._given_up = False

    def give_up(self) -> None:
        """End the request that is under way, in whatever state it is, and start no other."""
        self._given_up = True
        attempts = self._attempts
        if attempts is not None:
            attempts.ended.set()

    def send(self, request: PreparedRequest, *_: Any, **__: Any) -> Response:
        """Return a reply if the collector has taken all of the request; settings of the session do not count.

        Raises:
            TelemetryError: it has not, or nobody knows.
        """
        self._set_headers(request)
        self.reply = self._send_within_limit(request)
        if self.reply.kind != "accepted":
            # neither a status nor an error of `requests`: the exporter would try again what is final by now
            raise TelemetryError(describe(self._endpoint, self.reply.text), hint="")
        self.sent_bytes += int(request.headers["content-length"])
        response = Response()
        response.status_code, response.raw, response.request = 200, BytesIO(), request
        return response

    def _set_headers(self, request: PreparedRequest) -> None:
        """Put the endpoint's own on the request, and nothing that the exporter took from the process's environment."""
        headers = {"user-agent": f"testbench/{__version__}", **self._endpoint.headers}
        headers["content-type"] = "application/x-protobuf"
        if self._endpoint.compression != "none":
            headers["content-encoding"] = self._endpoint.compression
        request.prepare_headers(headers)
        request.prepare_content_length(request.body)
        request.prepare_auth(None)  # user and password of the address

    def _send_within_limit(self, request: PreparedRequest) -> ExportReply:
        """Return the final reply; or, when the time is over or all is given up, what is known by then."""
        limit = self._endpoint.timeout_s
        self._attempts = attempts = _Attempts()
        if not self._given_up:
            # in a thread that may be left behind: no timeout of a socket bounds a server that answers drop by drop
            threading.Thread(target=self._try, args=(request, attempts), name="otlp", daemon=True).start()
            attempts.ended.wait(limit)
        attempts.abandoned = True
        if attempts.final is not None:
            return attempts.final
        if self._given_up:
            return attempts.last or ExportReply("given_up", "was not reached in time")
        before = f"; before that it {attempts.last.text}" if attempts.last else ""
        return ExportReply("timeout", f"{_no_answer(limit)}{before}")

    def _try(self, request: PreparedRequest, attempts: _Attempts) -> None:
        """Post until the reply is final, or too late to be of use."""
        deadline = self._clock.monotonic() + self._endpoint.timeout_s
        failures = 0
        try:
            while not attempts.abandoned:
                reply = self._post(request)
                failures += 1
                pause = compute_backoff(failures, random.random(), retry_after=reply.retry_after)  # noqa: S311  # nosec B311
                if not reply.retryable or self._clock.monotonic() + pause >= deadline:
                    attempts.final = reply
                    return
                attempts.last = reply
                asyncio.run(self._clock.sleep(pause))
        finally:
            attempts.ended.set()

    def _post(self, request: PreparedRequest) -> ExportReply:
        """Post once and return what the reply means."""
        at = self._endpoint
        authorities = at.certificate or os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
        own = str(at.client_certificate) if at.client_certificate else None
        try:
            with super().send(
                request,
                stream=True,
                timeout=at.timeout_s,
                verify=str(authorities) if authorities else True,
                cert=(own, str(at.client_key)) if own and at.client_key else own,
                proxies=get_environ_proxies(at.url),
            ) as response:
                body = response.raw.read(LONGEST_REPLY, decode_content=True)
        except (RequestException, HTTPError, HTTPException, OSError) as error:
            return _unreachable(error, at.timeout_s)
        headers = {name.lower(): value for name, value in response.headers.items()}
        return read_reply(at.signal, response.status_code, headers, body, self._clock.now())


def describe(endpoint: Endpoint, answer: str) -> str:
    """Return the endpoint and what it answered, for people, without secrets."""
    return f"{endpoint.shown} {endpoint.redact(answer)}"


def _no_answer(limit: float) -> str:
    return f"gave no answer within {limit:g} s"


def _unreachable(error: Exception, limit: float) -> ExportReply:
    """Return what no answer at all means. A certificate that does not fit will not fit the next time either."""
    cause: BaseException = error
    while (below := cause.__cause__ or cause.__context__) is not None:
        cause = below
        if isinstance(cause, ssl.SSLError):
            return ExportReply("tls", f"failed in TLS: {printable(str(cause), ANSWER_LENGTH)}")
    if isinstance(cause, TimeoutError) and cause.errno is None:  # the socket's, which is that of the whole request
        return ExportReply("timeout", _no_answer(limit))
    # the innermost error is the system's; those around it show the address with its query
    said = printable(str(cause), ANSWER_LENGTH) or type(cause).__name__
    transient = isinstance(error, exceptions.ConnectionError | exceptions.Timeout | HTTPError | HTTPException)
    return ExportReply("unreachable", f"cannot be reached: {said}", retryable=transient)
