"""The header Retry-After as servers write it, and as they should not: it never ends a run."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbench.net.retry import read_retry_after

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("7", 7.0),
        (" 0 ", 0.0),
        ("1.5", 1.5),
        ("Thu, 01 Jan 2026 12:01:00 GMT", 60.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
        ("Thu, 01 Jan 2026 12:01:00 -0000", 60.0),
        ("soon", None),
        ("-3", None),
        ("nan", None),
        ("9" * 400, None),
        ("Thu, 01 Jan 99999999999999999999 12:01:00 GMT", None),
        ("Thu, 01 Jan 2026 99999999999:01:00 GMT", None),
        ("Thu, 01 Jan 2026 12:01:00 +" + "9" * 30, None),
    ],
)
def test_retry_after_in_seconds_or_as_a_date(header: str | None, seconds: float | None) -> None:
    assert read_retry_after(header, NOW) == seconds


@given(st.text() | st.from_regex(r"Thu, [0-9]+ Jan [0-9]+ [0-9]+:[0-9]+:[0-9]+ [+-][0-9]+"))
def test_whatever_a_server_writes_is_a_wait_or_none(header: str) -> None:
    wait = read_retry_after(header, NOW)
    assert wait is None or wait >= 0
