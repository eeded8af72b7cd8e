"""Python's search for reference cycles, limited where many objects are made that have none.

It looks through them all.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final


@contextmanager
def no_cycle_collection() -> Iterator[None]:
    """Switch the search off inside the block. With many rows or models it takes as long as making them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


THRESHOLDS: Final = (50_000, 20, 1000)
"""Objects until the youngest are looked at, and how often that happens before older ones are."""


@contextmanager
def rare_cycle_collection() -> Iterator[None]:
    """Until the end of the block, never look again at what exists now, and rarely at what is made meanwhile."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
