"""What keeps a model behind a gateway from answering, as `AgentError`s. Used by `chat` and pure.

A chat completion changes nothing on the other side: a request whose reply was lost may always be made again. So a
fault is retryable if it can pass, and `delivered` only says whether the request may have been paid for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from testbench.a2a_protocol.errors import BODY_LENGTH, MESSAGE_LENGTH
from testbench.arena.targets.completion import Completion
from testbench.arena.targets.gateway import HttpFaultError
from testbench.arena.targets.target import ChatTarget, hide, place
from testbench.errors import AgentError
from testbench.net.endpoint import NO_ACCESS, NOT_TAKEN
from testbench.net.retry import read_retry_after
from testbench.safe_text import printable

PASSES: Final = frozenset({408, 425, 429})
"""Client errors that pass; those of the server (5xx) pass too."""
BROKEN_OFF: Final = frozenset({"error", "abort", "aborted", "cancelled", "canceled"})
"""Reasons to end that are the gateway's or the server's, and none of the model."""
RENAMED: Final[Mapping[str, str | None]] = {"stream_options": None, "max_tokens": "max_completion_tokens"}
"""Options that some gateways refuse, and what says the same to them. All others would change what is tested."""

GATEWAY_HINT: Final = "Check the base URL, the model's name and the gateway's own log."
CREDENTIAL_HINT: Final = "Check the credential of the Provider, and what it may use."
LOAD_HINT: Final = "The gateway asks for fewer requests: lower the concurrency or the rate."
LENGTH_HINT: Final = "Raise the Provider's max_tokens: a cut answer says nothing about the model."


def of_transport(fault: HttpFaultError, target: ChatTarget) -> AgentError:
    """A request without a reply."""
    message = _shown(f"{place(target.base_url)}: {fault}", target)
    return AgentError(message, kind=fault.kind, retryable=True, delivered=fault.sent, hint=GATEWAY_HINT)


def of_status(status: int, body: bytes, headers: Mapping[str, str], target: ChatTarget, now: datetime) -> AgentError:
    """A reply that is no success; 0 is the status of a stream that names none."""
    code, said = _said(body)
    stated = f"HTTP {status}" if status else "the stream says"
    message = _shown(f"{stated}: {said}" if said else stated, target)
    if status in NO_ACCESS:
        return AgentError(message, kind="auth_required", delivered=False, hint=CREDENTIAL_HINT)
    if code == "content_filter":
        return AgentError(message, kind="content_filter", hint="The gateway's own policy refused the conversation.")
    passes = (status in PASSES or status >= 500 or status == 0) and code != "insufficient_quota"
    return AgentError(
        message,
        kind="rate_limited" if status == 429 else "http_error",
        retryable=passes,
        retry_after=read_retry_after(headers.get("retry-after"), now) if passes else None,
        delivered=status not in NOT_TAKEN and (status >= 500 or status == 0),
        hint=LOAD_HINT if status in NOT_TAKEN else GATEWAY_HINT,
    )


def of_unreadable(error: Exception, target: ChatTarget) -> AgentError:
    """A reply with a good status that is no chat completion."""
    message = _shown(f"the reply is no chat completion: {error}", target)
    return AgentError(message, kind="protocol", hint=GATEWAY_HINT)


def check_finished(completion: Completion) -> None:
    """See that the model itself came to an end.

    Raises:
        AgentError: `truncated`, `content_filter` or `failed`: what there is of an answer is none.
    """
    if completion.finish_reason in BROKEN_OFF:
        message = f"the gateway ended the answer: {completion.finish_reason}"
        raise AgentError(message, kind="failed", retryable=True, hint=GATEWAY_HINT)
    if completion.finish_reason == "length":
        raise AgentError("the answer was cut at the limit of tokens", kind="truncated", hint=LENGTH_HINT)
    if completion.finish_reason == "content_filter":
        hint = "The gateway's own policy withheld the answer."
        raise AgentError("the answer was filtered", kind="content_filter", hint=hint)


def understood(options: dict[str, Any], status: int, body: bytes) -> dict[str, Any] | None:
    """The options as a gateway that refused them understands them; None where it refused something else."""
    if status not in (400, 422):
        return None
    text = body.decode(errors="replace")
    for option, instead in RENAMED.items():
        if option in options and option in text:
            rest = {name: value for name, value in options.items() if name != option}
            return rest | ({instead: options[option]} if instead else {})
    return None


def _said(body: bytes) -> tuple[str | None, str]:
    """The code and the message of an error, in the shapes that gateways use; else the text as it is."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None, body[: 4 * BODY_LENGTH].decode(errors="replace")
    error = content.get("error", content) if isinstance(content, dict) else content
    if not isinstance(error, dict):
        return None, str(error)
    code = error.get("code") or error.get("type")
    said = error.get("message") or error.get("detail")
    return str(code) if code else None, str(said or json.dumps(error, ensure_ascii=False))


def _shown(text: str, target: ChatTarget) -> str:
    return printable(hide(target.secrets, text), MESSAGE_LENGTH)
