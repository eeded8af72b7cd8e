"""Garbage collection as a load test needs it: rarely, and without what was there before.

Called around the sending. A collection that looks at all imported modules stops the event loop for tens of
milliseconds, in which everything that is due is late.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

THRESHOLDS: Final = (50_000, 20, 1000)
"""Objects until the youngest are looked at, and how often that happens before older ones are."""


@contextmanager
def paced() -> Iterator[None]:
    """What exists now is not looked at again, and what is made meanwhile rarely, until the end of the block."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
