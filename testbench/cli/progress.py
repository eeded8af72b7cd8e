"""How far a phase has come, on stderr: a bar on a terminal, otherwise a log line every few seconds.

Opened by `run.py` and `evaluate.py`, which hand it to their package; nothing is shown with `--json`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from testbench.cli import logs
from testbench.net.clock import Clock, SystemClock
from testbench.safe_text import printable
from testbench.schema.progress import HiddenProgress, Progress

INTERVAL_S: Final = 5.0
"""Seconds between two lines."""
NARROW: Final = 60
"""Columns; on fewer only the numbers are shown."""

log = logging.getLogger(__name__)


@dataclass
class Tally:
    """Pieces of work: `kept` were done before this process began, and say nothing about its speed."""

    title: str
    unit: str
    total: int
    kept: int = 0
    done: int = 0
    failed: int = 0

    def rate(self, seconds: float) -> float | None:
        """Pieces a second that this process has done in so many; None before the first."""
        return self.done / seconds if self.done and seconds > 0 else None

    def line(self, seconds: float) -> str:
        """What there is to say after so many seconds, e.g. `run: 12 of 40 steps, 1 failed, 3.0/s, 9 s left`."""
        complete = self.kept + self.done
        parts = [f"{complete} of {self.total} {self.unit}"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        if (rate := self.rate(seconds)) is not None:
            parts.append(f"{rate:.1f}/s")
            if complete < self.total:
                parts.append(f"{duration((self.total - complete) / rate)} left")
        return f"{self.title}: {', '.join(parts)}"


def duration(seconds: float) -> str:
    """A time span as people say it: `9 s`, `3 min`, `2 h 5 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


@contextmanager
def open_progress(
    title: str, total: int, *, kept: int = 0, unit: str = "steps", silent: bool = False, clock: Clock | None = None
) -> Iterator[Progress]:
    """Progress over `total` pieces of work, of which `kept` were done before."""
    tally, clock = Tally(printable(title, 60), unit, total, kept), clock or SystemClock()
    if silent:
        yield HiddenProgress()
    elif _draws():
        with _bar(tally, clock) as bar:
            yield bar
    else:
        lines = _Lines(tally, clock)
        try:
            yield lines
        finally:
            lines.stop()


def _draws() -> bool:
    """Whether stderr is a terminal that can draw over what it shows, and nobody wants lines for a machine."""
    dumb = os.environ.get("TERM", "").lower() in ("dumb", "unknown")
    return sys.stderr is not None and sys.stderr.isatty() and not dumb and not logs.as_json()


class _Lines:
    """Log lines: one every few seconds, also while nothing is done, as long as an event loop runs."""

    def __init__(self, tally: Tally, clock: Clock) -> None:
        self._tally = tally
        self._clock = clock
        self._started = self._shown = clock.monotonic()
        self._beat: asyncio.TimerHandle | None = None
        self._plan_beat()

    def advance(self, *, failed: bool = False) -> None:
        self._tally.done += 1
        self._tally.failed += failed
        self._show_if_due()

    def stop(self) -> None:
        if self._beat is not None:
            self._beat.cancel()

    def _show_if_due(self) -> None:
        now = self._clock.monotonic()
        if now - self._shown >= INTERVAL_S:
            self._shown = now
            log.info("%s", self._tally.line(now - self._started))

    def _on_beat(self) -> None:
        self._show_if_due()
        self._plan_beat()

    def _plan_beat(self) -> None:
        try:
            self._beat = asyncio.get_running_loop().call_later(INTERVAL_S, self._on_beat)
        except RuntimeError:
            self._beat = None


class _Bar:
    def __init__(self, bar: Any, task: Any, tally: Tally, clock: Clock) -> None:
        self._bar, self._task, self._tally, self._clock = bar, task, tally, clock
        self._started = clock.monotonic()

    def advance(self, *, failed: bool = False) -> None:
        self._tally.done += 1
        self._tally.failed += failed
        rate = self._tally.rate(self._clock.monotonic() - self._started)
        self._bar.update(
            self._task,
            advance=1,
            failed=f"{self._tally.failed} failed" if self._tally.failed else "",
            rate="" if rate is None else f"{rate:.1f}/s",
        )


@contextmanager
def _bar(tally: Tally, clock: Clock) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    console = Console(file=sys.stderr)
    numbers = (MofNCompleteColumn(), TextColumn("{task.fields[failed]}", style="red", markup=False))
    rest = (
        TextColumn("{task.fields[rate]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    title = TextColumn("{task.description}", markup=False)
    columns = numbers if console.width < NARROW else (title, BarColumn(), *numbers, *rest)
    with RichProgress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(tally.title, total=tally.total, completed=tally.kept, failed="", rate="")
        yield _Bar(bar, task, tally, clock)
