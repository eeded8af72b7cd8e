"""What went wrong with a request to an agent: every exception of SDK and HTTP client as one `AgentError`.

Called by `testbench.schema.a2a_client` and `a2a_card`. The question that matters is whether the message may have
reached the agent: only where it cannot have, sending it again is safe.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpx
from a2a.utils.errors import A2AError, InternalError, InvalidAgentResponseError
from google.protobuf.json_format import ParseError

from testbench.errors import AgentError
from testbench.printable import printable

TRANSPORT_FAULTS: Final = (
    A2AError,
    httpx.HTTPError,
    httpx.InvalidURL,
    TimeoutError,
    ParseError,
    TypeError,
    ValueError,
    KeyError,
    AttributeError,
    RecursionError,
)
"""What a request can end with; the SDK lets the last ones through for replies that are not of the protocol."""

MESSAGE_LENGTH: Final = 500
BODY_LENGTH: Final = 300
NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
NOT_TAKEN: Final = (429, 503)
"""Statuses that say the request was refused before anybody looked at it."""
NO_ACCESS: Final = (401, 403, 407)

CREDENTIALS_HINT: Final = "Give credentials with --header 'Authorization: Bearer …' or TESTBENCH_RUN_HEADER."


def agent_error(error: BaseException) -> AgentError:
    """The error of a request that failed; its cause decides where the SDK wraps the HTTP client's."""
    cause = error.__cause__ if isinstance(error.__cause__, httpx.HTTPError) else error
    if isinstance(cause, httpx.HTTPStatusError):
        return _of_status(cause.response)
    if isinstance(cause, NOT_SENT):
        return AgentError(_said(cause, "no connection"), kind="unreachable", retryable=True, delivered=False)
    if isinstance(cause, httpx.TimeoutException | TimeoutError):
        return AgentError("no answer in time", kind="timeout", hint="Give the agent longer with --timeout.")
    if isinstance(cause, httpx.HTTPError):
        return AgentError(_said(cause, "the connection was cut"), kind="unreachable")
    if isinstance(error, InternalError | InvalidAgentResponseError):
        return AgentError(_said(error, "internal error"), kind="failed", hint="The agent's own log says more.")
    if isinstance(error, A2AError):
        return AgentError(_said(error, "protocol error"), kind="protocol")
    what = f"{type(error).__name__}: {error}"
    return AgentError(printable(f"the reply is not of the A2A protocol: {what}", MESSAGE_LENGTH), kind="protocol")


def _of_status(response: httpx.Response) -> AgentError:
    status = response.status_code
    message = printable(f"HTTP {status}: {_body(response) or response.reason_phrase}", MESSAGE_LENGTH)
    if status in NO_ACCESS:
        return AgentError(message, kind="auth_required", delivered=False, hint=CREDENTIALS_HINT)
    if status in NOT_TAKEN:
        refused = AgentError(
            message,
            kind="rate_limited" if status == 429 else "http_error",
            retryable=True,
            retry_after=retry_after(response.headers.get("retry-after"), datetime.now(UTC)),
            delivered=False,
            hint="The agent is overloaded: try a lower --concurrency, or auto.",
        )
        refused.overloaded = True
        return refused
    if response.is_redirect:
        target = printable(response.headers.get("location", ""), BODY_LENGTH)
        message = f"HTTP {status}: redirected to {target}"
        return AgentError(message, kind="http_error", delivered=False, hint="Give the address that it redirects to.")
    return AgentError(message, kind="http_error", delivered=status >= 500)


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds to wait as a `Retry-After` header says, in seconds or as a date (RFC 9110, section 10.2.3)."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - now).total_seconds())
    except (ValueError, TypeError):
        return None


def _body(response: httpx.Response) -> str:
    try:
        return printable(response.text[: 4 * BODY_LENGTH], BODY_LENGTH)
    except httpx.ResponseNotRead:
        return ""


def _said(error: BaseException, otherwise: str) -> str:
    return printable(str(error), MESSAGE_LENGTH) or otherwise
