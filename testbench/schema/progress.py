"""How far a piece of work has come, as whoever does the work reports it.

`testbench.cli.progress` shows it to people; packages and tests know only what stands here.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TypeAlias


class Progress(Protocol):
    """Receives a call for every piece of work that is done."""

    def advance(self, *, failed: bool = False) -> None: ...


ShowProgress: TypeAlias = Callable[[str, int, int], AbstractContextManager[Progress]]
"""Opens the progress of work with this title: so many pieces in all, of which so many were done before."""


class HiddenProgress:
    """Progress that nobody sees."""

    def advance(self, *, failed: bool = False) -> None:
        return None


def hide_progress(title: str, total: int, kept: int) -> AbstractContextManager[Progress]:
    """Open progress that nobody sees."""
    return nullcontext(HiddenProgress())
