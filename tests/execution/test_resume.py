"""Stopped at any moment, the same command finishes the work and sends only what was in flight."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from testbench.schema.chain import read_mark
from tests.support.run_phase import JOURNAL, OUTPUT, Desk

if TYPE_CHECKING:
    from tests.support.servers.scripted_agent import ScriptedAgent

RUN = Path(__file__).parents[2] / "testbench" / "run.py"


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    return Desk(tmp_path)


@contextmanager
def process(url: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The phase as a process of its own."""
    command = [sys.executable, str(RUN), url, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def stopped_with_two_in_flight(desk: Desk, agent: ScriptedAgent, number: signal.Signals) -> tuple[int, list[str]]:
    """Seven scenarios, two at once: five are done when the last two hang and the process gets a signal.

    Its exit code, and the lines on its stderr.
    """
    desk.ask(*[f"question {number}" for number in range(5)], "!slow one", "!slow two")
    with process(agent.url, "w", "--concurrency", "2", "--header", "Authorization: hidden", "--fresh") as running:
        agent.wait_for(lambda: len(agent.received) == 7)
        running.send_signal(number)
        _, err = running.communicate()
    agent.release()
    return running.returncode, err.splitlines()


def sent(agent: ScriptedAgent) -> Counter[str]:
    return Counter(received.text for received in agent.received)


def test_killed_it_goes_on_and_sends_only_what_was_in_flight(desk: Desk, agent: ScriptedAgent) -> None:
    stopped_with_two_in_flight(desk, agent, signal.SIGKILL)
    assert not (desk.folder / OUTPUT).exists()
    noted = json.loads((desk.folder / JOURNAL).read_bytes().splitlines()[1])["session"]
    assert desk.run(agent.url, "w", "--concurrency", "2", "--header", "Authorization: another") == 0
    assert sent(agent) == Counter({f"question {number}": 1 for number in range(5)} | {"!slow one": 2, "!slow two": 2})
    answers = [step.answer for step in desk.steps()]
    assert answers == [*(f"answer to: question {number}" for number in range(5)), "one", "two"]
    assert desk.left() == {Path(OUTPUT).name}
    run = desk.executed().run
    assert run is not None
    assert run.started_at == datetime.fromisoformat(noted["started_at"]), "the work began with the first process"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_keeps_what_is_done_and_tells_how_to_go_on(
    desk: Desk, agent: ScriptedAgent, number: signal.Signals, code: int
) -> None:
    returned, (*_, error, hint, last) = stopped_with_two_in_flight(desk, agent, number)
    assert returned == code
    assert error in ("error: interrupted", "error: terminated")
    assert f"testbench/run.py {agent.url} w --concurrency 2 --header 'Authorization: …'" in hint
    assert "hidden" not in hint
    assert "--fresh" not in hint
    assert f"(exit {code})" in last
    assert (desk.folder / JOURNAL).read_bytes().count(b'\n{"name":') == 5
    assert not (desk.folder / OUTPUT).exists()


def test_a_finished_run_is_not_run_again(desk: Desk, agent: ScriptedAgent, capsys: pytest.CaptureFixture[str]) -> None:
    desk.ask("a", "b")
    assert desk.run(agent.url) == 0
    before = (desk.folder / OUTPUT).read_bytes()
    agent.close()
    assert desk.run(agent.url) == 0
    told = capsys.readouterr().out
    assert "already complete: 2 of 2" in told
    started = desk.executed().run
    assert started is not None
    assert f"(of {started.started_at:%Y-%m-%d %H:%M:%S} UTC, nobody was asked)" in told
    assert (desk.folder / OUTPUT).read_bytes() == before


def test_fresh_runs_all_again(desk: Desk, agent: ScriptedAgent) -> None:
    desk.ask("a", "b")
    desk.run(agent.url)
    assert desk.run(agent.url, "--fresh") == 0
    assert sent(agent) == {"a": 2, "b": 2}


@pytest.mark.parametrize("change", ["input", "workflow", "header", "rule"])
def test_another_run_begins_anew_and_the_old_answers_are_put_aside(
    desk: Desk, agent: ScriptedAgent, nobody: str, change: str
) -> None:
    desk.ask("a", "b")
    desk.run(agent.url)
    before = (desk.folder / OUTPUT).read_bytes()
    if change == "input":
        desk.ask("a", "b", default_threshold=0.5)
    arguments = {"workflow": ["w"], "header": ["--header", "X-Model: x"], "rule": ["--on-step-error", "continue"]}
    assert desk.run(agent.url, *arguments.get(change, [])) == 0
    assert sent(agent) == {"a": 2, "b": 2}
    assert (desk.folder / f"{OUTPUT}.previous-1").read_bytes() == before


def test_an_agent_that_is_down_costs_no_earlier_answers_and_they_are_not_taken_for_its_own(
    desk: Desk, agent: ScriptedAgent, nobody: str
) -> None:
    desk.ask("a")
    desk.run(agent.url)
    before = (desk.folder / OUTPUT).read_bytes()
    assert desk.run(nobody) == 3
    assert (desk.folder / OUTPUT).read_bytes() == before
    mark = read_mark(desk.folder / OUTPUT)
    assert mark is not None
    assert (mark.phase, nobody in mark.reason) == ("run", True)
    assert desk.run(agent.url) == 0
    assert read_mark(desk.folder / OUTPUT) is None


def test_an_agent_that_answers_nothing_costs_no_earlier_answers(
    desk: Desk, agent: ScriptedAgent, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.ask("a")
    desk.run(agent.url)
    before = (desk.folder / OUTPUT).read_bytes()
    desk.ask("!fail b")
    assert desk.run(agent.url) == 3
    assert "the agent answered not a single step" in capsys.readouterr().err
    assert (desk.folder / OUTPUT).read_bytes() == before
    assert read_mark(desk.folder / OUTPUT) is not None


def test_only_the_last_five_earlier_results_are_kept(desk: Desk, agent: ScriptedAgent) -> None:
    for number in range(8):
        desk.ask(f"question {number}")
        assert desk.run(agent.url) == 0
    name = Path(OUTPUT).name
    assert desk.left() == {name, *(f"{name}.previous-{number}" for number in range(3, 8))}


def test_where_nothing_was_answered_the_same_command_asks_again(desk: Desk, agent: ScriptedAgent) -> None:
    desk.ask("a")
    agent.fail_rate(1.0, status=403)
    assert desk.run(agent.url, "--retries", "0") == 3
    agent.fail_rate(0)
    assert desk.run(agent.url) == 0
    assert [step.status for step in desk.steps()] == ["ok"]


def test_settings_that_do_not_change_the_questions_are_the_same_run(
    desk: Desk, agent: ScriptedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.ask("a")
    desk.run(agent.url, "--header", "Authorization: Bearer old")
    more = ["--concurrency", "3", "--timeout", "9", "--retries", "0", "--header", "Authorization: Bearer new"]
    assert desk.run(agent.url, *more) == 0
    assert sent(agent) == {"a": 1}


def test_retry_errors_sends_only_scenarios_with_failed_steps(
    desk: Desk, agent: ScriptedAgent, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.ask("a", ("b", "!slow c", "d"), "e")
    agent.fail_rate(0)
    agent.statuses(200, 200, 500)
    assert desk.run(agent.url, "--concurrency", "1") == 0
    assert [step.status for step in desk.steps()] == ["ok", "ok", "error", "skipped", "ok"]
    agent.release()
    assert desk.run(agent.url, "--retry-errors") == 0
    assert sent(agent) == {"a": 1, "b": 2, "!slow c": 1, "d": 1, "e": 1}
    assert [step.status for step in desk.steps()] == ["ok"] * 5
    assert "kept      2 scenarios" in capsys.readouterr().out
    assert desk.run(agent.url, "--retry-errors") == 0
    assert "already complete" in capsys.readouterr().out


def test_a_second_process_refuses_to_write_the_same_output(desk: Desk, agent: ScriptedAgent) -> None:
    desk.ask("!slow a")
    with process(agent.url) as first:
        agent.wait_in_flight(1)
        with process(agent.url) as second:
            _, err = second.communicate()
        assert second.returncode == 3
        assert f"another run is writing {Path(OUTPUT).name} (process {first.pid} on" in err.splitlines()[0]
        agent.release()
        assert first.wait() == 0
    assert sent(agent) == {"!slow a": 1}


def test_a_kill_between_output_and_journal_loses_nothing(desk: Desk, agent: ScriptedAgent) -> None:
    desk.ask("a", "!fail b")
    desk.run(agent.url)
    executed = desk.executed()
    assert executed.run is not None
    header = json.dumps({"journal": 1, "identity": executed.run.identity})
    lines = [header, *(scenario.model_dump_json(exclude_none=True) for scenario in executed.scenarios)]
    (desk.folder / JOURNAL).write_text("\n".join(lines) + "\n")
    agent.close()
    assert desk.run(agent.url) == 0
    assert desk.executed().scenarios == executed.scenarios
    assert desk.left() == {Path(OUTPUT).name}


def test_a_disk_that_is_full_ends_it_and_what_was_written_is_taken_up(
    desk: Desk, agent: ScriptedAgent, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.ask(*[f"question {number}" for number in range(6)])
    real = os.write

    def fill(descriptor: int, content: bytes) -> int:
        if b"question 3" in content:
            raise OSError(28, "No space left on device")
        return real(descriptor, content)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fill)
        assert desk.run(agent.url, "--concurrency", "1") == 3
    assert "No space left on device" in capsys.readouterr().err
    assert desk.run(agent.url, "--concurrency", "1") == 0
    assert sent(agent) == Counter({f"question {number}": 1 for number in range(6)} | {"question 3": 2})
