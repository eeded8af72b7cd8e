"""How long a server asks to be left alone: the header `Retry-After`, whoever sent it.

Used for agents, judges and collectors. It is as untrusted as any answer: what makes no sense is as good as none.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds to wait as the header says, a number or a date (RFC 9110, section 10.2.3); None if it says none."""
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        seconds = float(text)
        return seconds if math.isfinite(seconds) else None
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds())
