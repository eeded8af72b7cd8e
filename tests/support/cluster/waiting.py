"""Bounded waits on a condition, for tests and parts that have nothing to be woken by."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

PATIENCE_SECONDS: Final = 60.0
"""Only a broken test waits that long."""
POLL_SECONDS: Final = 0.02

T = TypeVar("T")


def until(look: Callable[[], T | bool | None], what: str = "the condition", seconds: float = PATIENCE_SECONDS) -> T:
    """What `look` returns as soon as it is neither None nor False nor empty; else TimeoutError with `what`."""
    end, pause = time.monotonic() + seconds, threading.Event()
    while time.monotonic() < end:
        found = look()
        if found:
            return found  # type: ignore[return-value]  # a true bool stands for itself
        pause.wait(POLL_SECONDS)
    raise TimeoutError(f"{what} did not come true within {seconds:.0f} s")
