"""How long to wait before a judge is asked again. Pure; `testbench.metrics.openai_judge` does the waiting."""

from __future__ import annotations

import random

from testbench import defaults


def wait_before(attempt: int, asked_for: float | None, draw: random.Random) -> float:
    """Seconds before the next try: what the server asked for, and exponential back-off with jitter on top.

    On top, because all who were refused at once would come back at once, and a server may well ask for 0 seconds.
    """
    ceiling = min(defaults.BACKOFF_CAP_S, defaults.BACKOFF_BASE_S * 2.0 ** min(attempt - 1, 60))
    return (asked_for or 0.0) + draw.uniform(ceiling / 2, ceiling)
