"""Python's search for reference cycles, left out where much is made that has none: it would look through all of it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final


@contextmanager
def no_cycle_collection() -> Iterator[None]:
    """No search inside; afterwards as before. With many rows or models it takes as long as making them."""
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
