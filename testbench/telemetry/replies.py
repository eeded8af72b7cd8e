"""What a collector's reply to an export means: pure, and strict, because every doubt must end in an error.

OTLP/HTTP: 2xx with an Export…ServiceResponse (empty when all is well) is success, unless its `partial_success` says
that items were rejected; 429, 502, 503 and 504 may be tried again, after `Retry-After` where it is given; everything
else, redirects included, is final. Called by `testbench.telemetry.adapter`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Final, Literal, TypeAlias

from google.protobuf import json_format
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]  # the package has no types
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from testbench.net.retry import read_retry_after
from testbench.safe_text import printable, redact_url
from testbench.telemetry.endpoints import Signal

RETRYABLE: Final = frozenset({429, 502, 503, 504})
ANSWER_LENGTH: Final = 300
"""Characters of a server's answer that are shown."""

Response: TypeAlias = ExportMetricsServiceResponse | ExportLogsServiceResponse | ExportTraceServiceResponse
Kind = Literal[
    "accepted",
    "rejected",
    "refused",
    "unauthorized",
    "not_found",
    "not_otlp",
    "unreachable",
    "tls",
    "timeout",
    "given_up",
]

RESPONSES: Final[Mapping[Signal, tuple[type[Response], str]]] = {
    "metrics": (ExportMetricsServiceResponse, "rejected_data_points"),
    "logs": (ExportLogsServiceResponse, "rejected_log_records"),
    "traces": (ExportTraceServiceResponse, "rejected_spans"),
}
"""The message that answers a signal, and where it counts what was rejected."""
REFUSALS: Final[Mapping[int, Kind]] = {401: "unauthorized", 403: "unauthorized", 404: "not_found"}


@dataclass(frozen=True)
class ExportReply:
    """How one request ended. `text` says it to a person; `rejected` counts items of an accepted request."""

    kind: Kind
    text: str = ""
    rejected: int = 0
    retryable: bool = False
    retry_after: float | None = None


def read_reply(signal: Signal, status: int, headers: Mapping[str, str], body: bytes, now: datetime) -> ExportReply:
    """Return the meaning of a reply; header names in lower case, `now` for a `Retry-After` that is a date."""
    if 200 <= status < 300:
        return _read_success(signal, status, headers, body)
    text = f"answered {status} {_phrase(status)}".rstrip()
    if 300 <= status < 400:
        return ExportReply("refused", f"{text} to {redact_url(headers.get('location', ''))}, and is not followed")
    said = _error_message(headers, body)
    text = f"{text}: {said}" if said else text
    wait = read_retry_after(headers.get("retry-after"), now)
    return ExportReply(REFUSALS.get(status, "refused"), text, retryable=status in RETRYABLE, retry_after=wait)


def _read_success(signal: Signal, status: int, headers: Mapping[str, str], body: bytes) -> ExportReply:
    if not body.strip():
        return ExportReply("accepted")
    response_type, count = RESPONSES[signal]
    response = response_type()
    try:
        if "json" in headers.get("content-type", ""):
            json_format.Parse(body, response, ignore_unknown_fields=True)
        else:
            response.ParseFromString(body)
    except (DecodeError, json_format.ParseError, UnicodeDecodeError):
        return ExportReply("not_otlp", f"answered {status}, but not as an OTLP collector: {_text(body)}")
    rejected = int(getattr(response.partial_success, count))
    said = printable(response.partial_success.error_message, ANSWER_LENGTH)
    return ExportReply("rejected" if rejected > 0 else "accepted", said, rejected=max(0, rejected))


def _error_message(headers: Mapping[str, str], body: bytes) -> str:
    """A collector's errors are google.rpc.Status messages; a proxy's are text."""
    if "protobuf" not in headers.get("content-type", ""):
        return _text(body)
    status = Status()
    try:
        status.ParseFromString(body)
    except DecodeError:
        return _text(body)
    return printable(status.message, ANSWER_LENGTH)


def _text(body: bytes) -> str:
    return printable(body.decode("utf-8", errors="replace"), ANSWER_LENGTH)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
