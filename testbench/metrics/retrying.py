"""How long to wait before a judge is asked again. Pure; `testbench.metrics.openai_judge` does the waiting."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from testbench import defaults


def wait_before(attempt: int, asked_for: float | None, draw: random.Random) -> float:
    """Seconds before the next try: what the server asked for, else exponential back-off with jitter."""
    if asked_for is not None:
        return asked_for
    ceiling = min(defaults.BACKOFF_CAP_S, defaults.BACKOFF_BASE_S * 2.0 ** (attempt - 1))
    return draw.uniform(ceiling / 2, ceiling)


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that `Retry-After` asks for (a number or a date, RFC 9110 section 10.2.3); None if unreadable."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None
