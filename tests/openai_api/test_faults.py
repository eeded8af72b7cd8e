"""What a refusal of a gateway means, whoever asked: whether it passes, was worked on, and whose words it keeps."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from testbench.net.endpoint import HttpFaultError
from testbench.openai_api.faults import ErrorBody, FaultKind, read_error, status_error, transport_error

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "kind", "retryable", "delivered"),
    [
        (400, "http_error", False, False),
        (401, "auth", False, False),
        (403, "auth", False, False),
        (404, "http_error", False, False),
        (408, "http_error", True, False),
        (409, "http_error", True, False),
        (429, "rate_limited", True, False),
        (500, "http_error", True, True),
        (503, "http_error", True, False),
        (0, "http_error", True, True),
    ],
)
def test_a_status_says_whether_it_passes_and_whether_anybody_worked_on_it(
    status: int, kind: FaultKind, retryable: bool, delivered: bool
) -> None:
    fault = status_error(status, b"no", {"retry-after": "7"}, (), NOW)
    assert (fault.kind, fault.retryable, fault.delivered, fault.charged) == (kind, retryable, delivered, False)
    assert fault.retry_after == (7.0 if retryable else None)
    assert fault.overloaded is (status in (429, 503))


@pytest.mark.parametrize("status", [400, 429, 500])
def test_what_lasts_is_not_tried_again_whatever_the_status(status: int) -> None:
    for code, kind in (("content_filter", "content_filter"), ("insufficient_quota", None)):
        fault = status_error(status, f'{{"error": {{"code": "{code}"}}}}'.encode(), {}, (), NOW)
        assert not fault.retryable
        assert kind in (None, fault.kind)


@pytest.mark.parametrize("sent", [True, False])
def test_a_request_without_a_reply_may_be_made_again_and_costs_nothing_where_it_did_not_arrive(sent: bool) -> None:
    fault = transport_error(HttpFaultError("cannot be reached: token-1", "unreachable", sent=sent), ("token-1",))
    assert (fault.retryable, fault.delivered, fault.charged) == (True, sent, sent)
    assert fault.said == "cannot be reached: …"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"error": {"message": "m", "code": "c", "param": "p"}}', ErrorBody("m", "c", "p")),
        (b'{"error": {"message": "m", "type": "t"}}', ErrorBody("m", "t")),
        (b'{"error": "no"}', ErrorBody("no")),
        (b'{"detail": "no"}', ErrorBody("no")),
        (b'{"x": 1}', ErrorBody('{"x": 1}')),
        (b"[1]", ErrorBody("[1]")),
        (b"<html>", ErrorBody("<html>")),
        (b"[" * 100_000, ErrorBody("[" * 2000)),
        (b"", ErrorBody("")),
    ],
)
def test_an_error_is_read_in_every_shape(body: bytes, error: ErrorBody) -> None:
    assert read_error(body) == error


def test_a_secret_is_gone_before_its_end_is_cut() -> None:
    fault = status_error(400, b"x" * 495 + b"secret-key", {}, ("secret-key",), NOW)
    assert "secret" not in fault.said
    assert len(fault.said) <= 500
