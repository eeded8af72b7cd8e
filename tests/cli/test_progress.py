"""Progress: a bar on a terminal, lines elsewhere, nothing where a machine reads."""

from __future__ import annotations

import asyncio
import io
import logging
import sys

import pytest

from testbench.cli import progress
from testbench.cli.progress import Tally, duration, open_progress
from testbench.net.clock import FakeClock


@pytest.fixture(autouse=True)
def info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "testbench.cli.progress")


async def test_lines_come_every_few_seconds_and_not_more_often(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    with open_progress("run", 40, kept=10, clock=clock) as shown:
        for number in range(12):
            await clock.sleep(1)
            shown.advance(failed=number == 3)
    assert caplog.messages == [
        "run: 15 of 40 steps, 1 failed, 1.0/s, 25 s left",
        "run: 20 of 40 steps, 1 failed, 1.0/s, 20 s left",
    ]


async def test_a_line_comes_also_while_nothing_is_done(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "INTERVAL_S", 0.0)
    shown = asyncio.Event()

    def note(_: logging.LogRecord) -> bool:
        shown.set()
        return True

    progress.log.addFilter(note)
    with open_progress("run", 40, clock=FakeClock()):
        await shown.wait()
    progress.log.removeFilter(note)
    assert caplog.messages[0] == "run: 0 of 40 steps"
    caplog.clear()
    for _ in range(5):
        await asyncio.sleep(0)
    assert caplog.messages == []


def test_it_works_without_an_event_loop(caplog: pytest.LogCaptureFixture) -> None:
    with open_progress("evaluate", 2, unit="evaluations", clock=FakeClock()) as shown:
        shown.advance()
    assert caplog.messages == []


def test_silent_is_silent(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    with open_progress("run", 1, silent=True) as shown:
        shown.advance()
    assert (caplog.messages, capsys.readouterr().err) == ([], "")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_it_is_a_bar(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    clock = FakeClock()
    with open_progress("[bold]run", 4, kept=1, clock=clock) as shown:
        clock._elapsed = 4.0
        shown.advance()
        shown.advance(failed=True)
    for part in ("[bold]run", "3/4", "1 failed", "0.5/s", "0:00:00"):
        assert part in terminal.getvalue()
    assert caplog.messages == []


def test_a_narrow_terminal_still_shows_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "16")
    with open_progress("run", 40) as shown:
        shown.advance(failed=True)
    assert "1/40" in terminal.getvalue()
    assert "1 failed" in terminal.getvalue()


@pytest.mark.parametrize(("name", "value"), [("TERM", "dumb"), ("TESTBENCH_LOG_FORMAT", "json")])
def test_a_terminal_that_cannot_draw_or_feeds_a_machine_gets_lines(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(name, value)
    clock = FakeClock()
    with open_progress("run", 2, clock=clock) as shown:
        clock._elapsed = 9.0
        shown.advance()
    assert caplog.messages == ["run: 1 of 2 steps, 0.1/s, 9 s left"]


def test_without_a_stderr_there_is_nothing_to_show(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with open_progress("run", 1, clock=FakeClock()) as shown:
        shown.advance()
    assert caplog.messages == []


def test_a_title_cannot_drive_the_terminal(caplog: pytest.LogCaptureFixture) -> None:
    assert Tally("run", "steps", 3, done=3).line(0.0) == "run: 3 of 3 steps"
    clock = FakeClock()
    with open_progress("a\x1b[2Jb", 2, clock=clock) as shown:
        clock._elapsed = 9.0
        shown.advance()
    assert caplog.messages == ["a\\x1b[2Jb: 1 of 2 steps, 0.1/s, 9 s left"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (9.4, "9 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (7500, "2 h 5 min")]
)
def test_a_duration_is_told_as_people_do(seconds: float, text: str) -> None:
    assert duration(seconds) == text
