"""What went wrong with a request to an agent: every exception of SDK and HTTP client as one `AgentError`.

Called by `testbench.schema.a2a_client` and `a2a_card`. The question that matters is whether the message may have
reached the agent: only where it cannot have, sending it again is safe.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import httpx
from a2a.utils.errors import A2AError, InternalError, InvalidAgentResponseError
from google.protobuf.json_format import ParseError

from testbench.errors import AgentError
from testbench.net.retry import read_retry_after
from testbench.safe_text import hide_secrets, printable

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


def agent_error(error: BaseException, secrets: Sequence[str]) -> AgentError:
    """The error of a request that failed; its cause decides where the SDK wraps the HTTP client's.

    Agents and gateways repeat the token that they refuse: `secrets` are left out of what they say.
    """
    cause = error.__cause__ if isinstance(error.__cause__, httpx.HTTPError) else error
    if isinstance(cause, httpx.HTTPStatusError):
        return _of_status(cause.response, secrets)
    said = shown(str(cause if isinstance(cause, httpx.HTTPError) else error), secrets)
    if isinstance(cause, NOT_SENT):
        return AgentError(said or "no connection", kind="unreachable", retryable=True, delivered=False)
    if isinstance(cause, httpx.TimeoutException | TimeoutError):
        return AgentError("no answer in time", kind="timeout", hint="Give the agent longer with --timeout.")
    if isinstance(cause, httpx.HTTPError):
        return AgentError(said or "the connection was cut", kind="unreachable")
    if isinstance(error, InternalError | InvalidAgentResponseError):
        return AgentError(said or "internal error", kind="failed", hint="The agent's own log says more.")
    if isinstance(error, A2AError):
        return AgentError(said or "protocol error", kind="protocol")
    what = f"the reply is not of the A2A protocol: {type(error).__name__}: {said}"
    return AgentError(printable(what, MESSAGE_LENGTH), kind="protocol")


def shown(text: str, secrets: Sequence[str], limit: int = MESSAGE_LENGTH) -> str:
    """What an agent said, on one line; a secret is gone before the end is cut, which could leave half of it."""
    return printable(hide_secrets(text, secrets), limit)


def _of_status(response: httpx.Response, secrets: Sequence[str]) -> AgentError:
    status = response.status_code
    message = f"HTTP {status}: {_body(response, secrets) or printable(response.reason_phrase, BODY_LENGTH)}"
    if status in NO_ACCESS:
        return AgentError(message, kind="auth_required", delivered=False, hint=CREDENTIALS_HINT)
    if status in NOT_TAKEN:
        refused = AgentError(
            message,
            kind="rate_limited" if status == 429 else "http_error",
            retryable=True,
            retry_after=read_retry_after(response.headers.get("retry-after"), datetime.now(UTC)),
            delivered=False,
            hint="The agent is overloaded: try a lower --concurrency, or auto.",
        )
        refused.overloaded = True
        return refused
    if response.is_redirect:
        target = shown(response.headers.get("location", ""), secrets, BODY_LENGTH)
        message = f"HTTP {status}: redirected to {target}"
        return AgentError(message, kind="http_error", delivered=False, hint="Give the address that it redirects to.")
    return AgentError(message, kind="http_error", delivered=status >= 500)


def _body(response: httpx.Response, secrets: Sequence[str]) -> str:
    try:
        return shown(response.text, secrets, BODY_LENGTH)
    except httpx.ResponseNotRead:
        return ""
