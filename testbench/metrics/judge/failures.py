"""From the faults of a gateway to the judge errors of Testbench. Used by `testbench.metrics.judge.client`."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import httpx

from testbench.errors import JudgeError
from testbench.metrics.judge.gateway import RefusedError
from testbench.metrics.judge.judge import JudgeSettings
from testbench.net.retry import read_retry_after
from testbench.safe_text import redact_url

RETRYABLE: Final = frozenset({408, 409, 425, 429})
"""Client errors that pass; those of the server (5xx) pass too."""


def explain(error: Exception, settings: JudgeSettings, now: datetime) -> JudgeError:
    """Return what the failure of a request means.

    A timeout counts as a pushback: of a server that queues what it cannot do, it is the only sign of too much.
    """
    if isinstance(error, RefusedError):
        return _explain_status(error, settings.role, now)
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        message = f"the {settings.role} gave no answer within {settings.timeout_s:g} s"
        late = JudgeError(message, kind="timeout", retryable=True)
        late.overloaded = True
        return late
    if isinstance(error, httpx.HTTPError):
        message = f"the {settings.role} at {redact_url(settings.base_url)} cannot be reached: {error}"
        return JudgeError(message, kind="unreachable", retryable=True)
    return JudgeError(f"the {settings.role}'s gateway sent {error}", kind="http_error", retryable=True)


def is_free_of_charge(error: Exception) -> bool:
    """Return whether nothing can have been charged: refused, or never arrived. After a timeout nobody knows."""
    never_arrived = httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError | httpx.UnsupportedProtocol
    return isinstance(error, RefusedError | never_arrived)


def complaint_of(error: RefusedError) -> str:
    """What a refused request is refused for, in the gateway's words."""
    return f"{error.param or ''} {error.said}"


def _explain_status(error: RefusedError, role: str, now: datetime) -> JudgeError:
    status = error.status
    message = f"the {role}'s gateway answered {status}: {error.said}"
    if status in (401, 403):
        hint = "Check the key in OPENAI_API_KEY and what it may use."
        return JudgeError(message, kind="auth", hint=hint)
    if error.code == "content_filter":
        return JudgeError(message, kind="content_filter")
    lasting = status == 429 and error.code == "insufficient_quota"
    passes = (status in RETRYABLE or status >= 500) and not lasting
    refused = JudgeError(message, kind="rate_limited" if status == 429 else "http_error", retryable=passes)
    refused.retry_after = read_retry_after(error.headers.get("retry-after"), now)
    refused.overloaded = status in (429, 503)
    return refused
