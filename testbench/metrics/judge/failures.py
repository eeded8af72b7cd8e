"""From the faults of a gateway to the judge errors of Testbench. Used by `testbench.metrics.judge.client`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import httpx

from testbench.errors import JudgeError
from testbench.metrics.judge.gateway import RefusedError
from testbench.metrics.judge.judge import JudgeSettings
from testbench.net.retry import retry_after
from testbench.safe_text import shown_url

RETRYABLE: Final = frozenset({408, 409, 425, 429})
"""Client errors that pass; those of the server (5xx) pass too."""


@dataclass(frozen=True)
class Failed:
    """One request that failed, the seconds to wait that the server asked for, and those that the request took."""

    error: JudgeError
    retry_after: float | None = None
    seconds: float = 0.0


def explain(error: Exception, settings: JudgeSettings, now: datetime) -> Failed:
    """What the failure of a request means."""
    if isinstance(error, RefusedError):
        return _explain_status(error, settings.role, now)
    if is_timeout(error):
        message = f"the {settings.role} gave no answer within {settings.timeout_s:g} s"
        return Failed(JudgeError(message, kind="timeout", retryable=True))
    if isinstance(error, httpx.HTTPError):
        message = f"the {settings.role} at {shown_url(settings.base_url)} cannot be reached: {error}"
        return Failed(JudgeError(message, kind="unreachable", retryable=True))
    return Failed(JudgeError(f"the {settings.role}'s gateway sent {error}", kind="http_error", retryable=True))


def is_pushback(error: Exception) -> bool:
    """Whether the gateway asks for fewer requests at once."""
    return isinstance(error, RefusedError) and error.status in (429, 503)


def is_timeout(error: Exception) -> bool:
    """Whether there was no answer in time; of a server that queues what it cannot do, the only sign of too much."""
    return isinstance(error, TimeoutError | httpx.TimeoutException)


def is_free_of_charge(error: Exception) -> bool:
    """Whether nothing can have been charged: it was refused, or never arrived. After a timeout nobody knows."""
    never_arrived = httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError | httpx.UnsupportedProtocol
    return isinstance(error, RefusedError | never_arrived)


def complaint_of(error: RefusedError) -> str:
    """What a refused request is refused for, in the gateway's words."""
    return f"{error.param or ''} {error.said}"


def _explain_status(error: RefusedError, role: str, now: datetime) -> Failed:
    status = error.status
    message = f"the {role}'s gateway answered {status}: {error.said}"
    if status in (401, 403):
        hint = "Check the key in OPENAI_API_KEY and what it may use."
        return Failed(JudgeError(message, kind="auth", hint=hint))
    if status == 429:
        lasting = error.code == "insufficient_quota"
        failure = JudgeError(message, kind="rate_limited", retryable=not lasting)
        return Failed(failure, retry_after(error.headers.get("retry-after"), now))
    if error.code == "content_filter":
        return Failed(JudgeError(message, kind="content_filter"))
    passes = status in RETRYABLE or status >= 500
    failure = JudgeError(message, kind="http_error", retryable=passes)
    return Failed(failure, retry_after(error.headers.get("retry-after"), now))
