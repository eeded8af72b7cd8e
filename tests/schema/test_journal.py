"""The journal: what was appended is found again, whatever stopped the process; and one run at a time."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from testbench.errors import StoreError
from testbench.net.clock import FakeClock
from testbench.schema.ids import ScenarioKey
from testbench.schema.journal import Journal, RunSession, journal_path, read_journal
from testbench.schema.lock import hold_lock
from testbench.schema.models import ExecutedScenario, ExecutedStep, Turn


def scenario(name: str, text: str = "fine") -> ExecutedScenario:
    turns = (Turn(type="human", content="hi"), Turn(type="agent", content=text))
    step = ExecutedStep(id=f"stp_{name}", input="hi", turns=turns, status="ok")
    return ExecutedScenario(id=f"scn_{name}", name=name, steps=(step,))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return journal_path(tmp_path / "out.json")


def write(path: Path, *names: str, identity: str = "run_1") -> None:
    with Journal(path, identity, read_journal(path, identity, ExecutedScenario), FakeClock()) as journal:
        for name in names:
            journal.append(scenario(name))


def names(path: Path, identity: str = "run_1") -> list[str] | None:
    found = read_journal(path, identity, ExecutedScenario)
    return None if found is None else [scenario.name for scenario in found.scenarios.values()]


def test_what_was_appended_is_found_again_as_it_was(path: Path) -> None:
    hostile = 'line\nbreak \u2028 {"x": 1} \x00 ‮'
    with Journal[ExecutedScenario](path, "run_1", None, FakeClock()) as journal:
        journal.append(scenario("a", hostile))
    found = read_journal(path, "run_1", ExecutedScenario)
    assert found is not None
    assert found.scenarios == {ScenarioKey("scn_a"): scenario("a", hostile)}


def test_a_later_process_goes_on_where_the_first_one_stopped(path: Path) -> None:
    write(path, "a", "b")
    write(path, "c")
    assert names(path) == ["a", "b", "c"]


def test_cut_anywhere_the_whole_lines_survive_and_work_goes_on_after_them(path: Path) -> None:
    """A process can be killed after any byte."""
    write(path, "a", "b")
    content = path.read_bytes()
    ends = [place for place, byte in enumerate(content) if byte == ord("\n")]
    for cut in range(len(content)):
        path.write_bytes(content[:cut])
        whole = sum(end < cut for end in ends)
        assert names(path) == (["a", "b"][: whole - 1] if whole else None), cut
        write(path, "c")
        assert (names(path) or [])[-1] == "c", cut


async def test_each_process_is_a_session_of_which_the_last_note_counts(path: Path) -> None:
    clock = FakeClock()
    for name, seconds in (("a", 5.0), ("b", 7.0)):
        found = read_journal(path, "run_1", ExecutedScenario)
        with Journal(path, "run_1", found, clock) as journal:
            journal.begin(RunSession(started_at=clock.now(), agent_name=name))
            await clock.sleep(seconds)
            journal.append(scenario(name))
            await clock.sleep(0.5)
    found = read_journal(path, "run_1", ExecutedScenario)
    assert found is not None
    assert [(session.agent_name, session.seconds) for session in found.sessions] == [("a", 5.5), ("b", 7.5)]
    assert names(path) == ["a", "b"]


async def test_after_a_kill_the_time_until_the_last_note_is_known(path: Path) -> None:
    clock = FakeClock()
    journal = Journal[ExecutedScenario](path, "run_1", None, clock)
    journal.begin(RunSession(started_at=clock.now()))
    await clock.sleep(9.0)
    journal.append(scenario("a"))
    await clock.sleep(0.5)
    journal.append(scenario("b"))
    found = read_journal(path, "run_1", ExecutedScenario)
    assert found is not None
    assert [session.seconds for session in found.sessions] == [9.0]
    journal.close()


def test_a_journal_of_another_run_is_none(path: Path) -> None:
    write(path, "a")
    assert names(path, "run_2") is None
    assert read_journal(path.with_name("other"), "run_1", ExecutedScenario) is None
    path.write_bytes(b"[]\n" * 3)
    assert names(path) is None


def test_a_journal_begun_anew_keeps_nothing_of_the_old_one(path: Path) -> None:
    write(path, "a", "b", "c")
    write(path, "d", identity="run_2")
    assert names(path, "run_2") == ["d"]
    assert len(path.read_bytes().splitlines()) == 2


def test_a_line_that_cannot_be_read_costs_only_its_scenario(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(path, "a", "b", "c")
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = b"\xff" + lines[2][5:]
    path.write_bytes(b"".join(lines))
    assert names(path) == ["a", "c"]
    assert "line 3" in caplog.text


def test_a_full_disk_keeps_the_whole_lines(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write

    def fill(descriptor: int, content: bytes) -> int:
        if b"scn_b" in content:
            real(descriptor, content[:40])
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, content)

    with Journal[ExecutedScenario](path, "run_1", None, FakeClock()) as journal:
        journal.append(scenario("a"))
        monkeypatch.setattr(os, "write", fill)
        with pytest.raises(StoreError, match="No space left"):
            journal.append(scenario("b"))
        monkeypatch.undo()
    assert path.read_bytes().endswith(b"}\n")
    assert names(path) == ["a"]


def test_a_disk_that_is_full_once_the_output_is_written_takes_nothing_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    clock = FakeClock()
    with Journal[ExecutedScenario](path, "run_1", None, clock) as journal:
        journal.begin(RunSession(started_at=clock.now()))
        monkeypatch.setattr(os, "write", full)
        journal.discard()
    assert not path.exists()


@pytest.fixture
def read_only(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.write_text("a file where a folder is needed")
    return folder


def test_a_folder_that_cannot_be_written_is_told(read_only: Path) -> None:
    with pytest.raises(StoreError, match="cannot be written"), hold_lock(read_only / "out.json"):
        pass
    with pytest.raises(StoreError, match="cannot be written"):
        Journal(read_only / "out.json.journal", "run_1", None, FakeClock())


def test_a_second_run_of_the_same_output_refuses_and_names_the_first(tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    told = f"another run is writing out.json .process {os.getpid()} on"
    with hold_lock(output), pytest.raises(StoreError, match=told), hold_lock(output):
        pass
    with hold_lock(output), hold_lock(tmp_path / "other.json"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_its_last_holder_removes_while_it_is_taken_still_keeps_others_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, real, removed = tmp_path / "out.json", fcntl.flock, list[Path]()

    def just_released(descriptor: int, operation: int) -> None:
        real(descriptor, operation)
        if not removed:
            removed.extend(tmp_path.iterdir())
            removed[0].unlink()

    monkeypatch.setattr(fcntl, "flock", just_released)
    with hold_lock(output), pytest.raises(StoreError, match="another run is writing"), hold_lock(output):
        pass
    assert removed == [tmp_path / ".out.json.lock"]
