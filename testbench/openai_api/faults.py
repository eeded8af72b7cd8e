"""Why a gateway gave no reply, as one error: its users turn it into a `JudgeError` or an `AgentError`.

A chat completion changes nothing on the other side: a request whose reply was lost may always be made again. So a
fault is retryable if it can pass, and `delivered` only says whether somebody may have worked on the request.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, TypeAlias

from testbench.net.endpoint import NO_ACCESS, NOT_TAKEN, HttpFaultError
from testbench.net.retry import read_retry_after
from testbench.safe_text import redact_line

FaultKind: TypeAlias = Literal[
    "unreachable", "timeout", "auth", "rate_limited", "content_filter", "http_error", "unreadable"
]
SAID_LENGTH: Final = 500
"""Characters of a gateway's words that an error keeps."""
PASSES: Final = frozenset({408, 409, 425, 429})
"""Client errors that pass; those of the server (5xx) pass too."""
NO_MONEY_LEFT: Final = "insufficient_quota"


@dataclass(eq=False)
class GatewayError(Exception):
    """A request without the reply that was asked for. `said` is one line without any secret."""

    kind: FaultKind
    said: str
    status: int | None = None
    """Of the reply, or the one that an error inside of a good reply names; 0 where it names none."""
    complaint: str = ""
    """What a refused request is refused for: the option, if one is named, and the gateway's words."""
    retryable: bool = False
    retry_after: float | None = None
    """Seconds that the gateway asked for."""
    delivered: bool = True
    """Somebody may have worked on the request."""
    charged: bool = True
    """It may be charged for."""

    @property
    def overloaded(self) -> bool:
        """The gateway asks for fewer requests at once."""
        return self.status in NOT_TAKEN

    @property
    def answered(self) -> str:
        """What the gateway did, e.g. `answered 503`."""
        return f"answered {self.status}" if self.status else "says in its reply"

    def __str__(self) -> str:
        return self.said


def transport_error(fault: HttpFaultError, secrets: Sequence[str]) -> GatewayError:
    """Return the error of a request without a reply."""
    said = redact_line(str(fault), secrets, SAID_LENGTH)
    return GatewayError(fault.kind, said, retryable=True, delivered=fault.sent, charged=fault.sent)


def status_error(
    status: int, body: bytes, headers: Mapping[str, str], secrets: Sequence[str], now: datetime
) -> GatewayError:
    """Return the error that a reply without success is; 0 is the status of an error that names none."""
    error = read_error(body)
    said = redact_line(error.message, secrets, SAID_LENGTH)
    kind: FaultKind = "rate_limited" if status == 429 else "http_error"
    if status in NO_ACCESS:
        kind = "auth"
    elif error.code == "content_filter":
        kind = "content_filter"
    by_server = status >= 500 or status == 0
    lasting = kind in ("auth", "content_filter") or error.code == NO_MONEY_LEFT
    passes = (status in PASSES or by_server) and not lasting
    return GatewayError(
        kind,
        said,
        status=status,
        complaint=f"{error.param} {said}",
        retryable=passes,
        retry_after=read_retry_after(headers.get("retry-after"), now) if passes else None,
        delivered=by_server and status not in NOT_TAKEN,
        charged=False,
    )


def unreadable_error(error: Exception, secrets: Sequence[str]) -> GatewayError:
    """Return the error of a reply with a good status that is not what was asked for."""
    return GatewayError("unreadable", redact_line(str(error), secrets, SAID_LENGTH))


@dataclass(frozen=True)
class ErrorBody:
    """An error as gateways write it; what it does not say is empty."""

    message: str
    code: str = ""
    param: str = ""


def read_error(body: bytes) -> ErrorBody:
    """Return the error in a body, in the shapes that gateways use; else the text as it is."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return ErrorBody(body[: 4 * SAID_LENGTH].decode(errors="replace"))
    error = content.get("error", content) if isinstance(content, dict) else content
    if not isinstance(error, dict):
        return ErrorBody(str(error))
    said = error.get("message") or error.get("detail") or json.dumps(error, ensure_ascii=False)
    return ErrorBody(str(said), str(error.get("code") or error.get("type") or ""), str(error.get("param") or ""))
