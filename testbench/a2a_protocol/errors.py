"""What went wrong with a request to an agent: every exception of SDK and HTTP client as one `AgentError`.

Called by `testbench.schema.a2a_client` and `a2a_card`. The question that matters is whether the message may have
reached the agent: only where it cannot have, sending it again is safe.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal

import httpx
from a2a.utils.errors import (
    A2AError,
    InternalError,
    InvalidAgentResponseError,
    InvalidParamsError,
    InvalidRequestError,
    JSONParseError,
    MethodNotFoundError,
    VersionNotSupportedError,
)
from google.protobuf.json_format import ParseError

from testbench.errors import AgentError
from testbench.net.endpoint import NO_ACCESS, NOT_TAKEN
from testbench.net.retry import read_retry_after
from testbench.net.transport import NOT_SENT
from testbench.safe_text import printable, redact_line

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

ERROR_INFO: Final = "type.googleapis.com/google.rpc.ErrorInfo"
"""What the SDK's own servers add to each error, and what says nothing that its message does not."""
MESSAGE_LENGTH: Final = 500
BODY_LENGTH: Final = 300

UNKNOWN_METHOD: Final = (MethodNotFoundError, VersionNotSupportedError)
INVALID: Final = (InvalidRequestError, InvalidParamsError, JSONParseError)
UNKNOWN_METHOD_STATUSES: Final = (404, 405)
INVALID_STATUSES: Final = (400, 415, 422)
UNKNOWN_METHOD_CODES: Final = (-32601, -32009)
INVALID_CODES: Final = (-32600, -32602, -32700)

Refusal = Literal["unknown", "invalid"]
"""How an agent refuses what may be the wrong protocol generation: it does not know the method, or not the message."""

CREDENTIALS_HINT: Final = "Give credentials with --header 'Authorization: Bearer …' or TESTBENCH_RUN_HEADER."


class UnreadableReplyError(ValueError):
    """A reply that is no JSON, or no reply of the protocol; its text says what it is instead."""


def refusal_of(error: BaseException | None) -> Refusal | None:
    """Return how a request was refused before anybody looked at what it says; None for every other end."""
    cause = error.__cause__ if error is not None and isinstance(error.__cause__, httpx.HTTPError) else error
    if isinstance(cause, httpx.HTTPStatusError):
        status, code = cause.response.status_code, (_rpc_error(cause.response) or {}).get("code")
        if isinstance(code, int):
            return "unknown" if code in UNKNOWN_METHOD_CODES else "invalid" if code in INVALID_CODES else None
        return "unknown" if status in UNKNOWN_METHOD_STATUSES else "invalid" if status in INVALID_STATUSES else None
    return "unknown" if isinstance(cause, UNKNOWN_METHOD) else "invalid" if isinstance(cause, INVALID) else None


def told_data(error: dict[str, Any]) -> str:
    """Return the message of a JSON-RPC error with what its `data` says, which the SDK does not show."""
    told = error.get("data")
    if isinstance(told, list):
        told = [one for one in told if not (isinstance(one, dict) and one.get("@type") == ERROR_INFO)]
    message = str(error.get("message") or f"error {error.get('code')}")
    if told in (None, "", {}, []):
        return message
    words = told if isinstance(told, str) else json.dumps(told, ensure_ascii=False)
    return message if words in message else f"{message}: {words}"


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
    if isinstance(error, UnreadableReplyError):
        return AgentError(said, kind="protocol")
    what = f"the reply is not of the A2A protocol: {type(error).__name__}: {said}"
    return AgentError(printable(what, MESSAGE_LENGTH), kind="protocol")


def shown(text: str, secrets: Sequence[str], limit: int = MESSAGE_LENGTH) -> str:
    """What an agent said, on one line; a secret is gone before the end is cut, which could leave half of it."""
    return redact_line(text, secrets, limit)


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
        error = _rpc_error(response)
        return shown(response.text if error is None else told_data(error), secrets, BODY_LENGTH)
    except httpx.ResponseNotRead:
        return ""


def _rpc_error(response: httpx.Response) -> dict[str, Any] | None:
    """The JSON-RPC error that a reply with a status of failure holds, if it does."""
    try:
        body = json.loads(response.content)
    except (ValueError, RecursionError, httpx.ResponseNotRead):
        return None
    error = body.get("error") if isinstance(body, dict) and "jsonrpc" in body else None
    return error if isinstance(error, dict) else None
