"""A worker may die at any moment: the next one goes on with what is there, and every item is in the result once."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbench.arena.evaluation.results import reduce_parts
from testbench.arena.evaluation.rows import build_row
from testbench.arena.evaluation.worker import work_evaluation
from testbench.arena.plan.model import SystemUnderTest
from testbench.arena.runs.context import JobContext, OnSpent, RunFolder
from testbench.arena.runs.opening import RunOptions, prepare_run
from testbench.arena.runs.parts import is_done, read_counted_parts, read_done_markers
from testbench.arena.stores import MemoryStore
from testbench.arena.targets.target import Target
from testbench.errors import StoreError
from testbench.net.clock import FakeClock
from testbench.schema.agent import AgentClient, FakeAgentClient
from testbench.schema.shards import Shard, all_shards
from tests.support.arena_runs import Arena, agent_entry, agent_runtime, arena_job, asks, model, provider
from tests.support.servers.scripted_chat import ScriptedChat
from tests.support.servers.scripting import PATIENCE_SECONDS

ITEMS = 8
QUESTIONS = {f"question {number}" for number in range(ITEMS)}


@pytest.fixture
def arena(tmp_path: Path, chat: ScriptedChat, monkeypatch: pytest.MonkeyPatch) -> Arena:
    monkeypatch.chdir(tmp_path)
    found = Arena(tmp_path)
    found.bundle(**{f"s{number}": asks(f"s{number}", f"question {number}") for number in range(ITEMS)})
    found.write(arena_job({"default": [model("gpt")]}), provider("gpt", chat.base_url))
    return found


def worker(arena: Arena, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "testbench", "arena", *arguments, "--concurrency", "2"]
    command += ["--source", str(arena.source), "--output", str(arena.output)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def work(arena: Arena) -> subprocess.Popen[str]:
    place = ("--run-id", "r1", "--index", "0", "--count", "1")
    return worker(arena, "work", str(arena.manifest), *place)


def ended(process: subprocess.Popen[str]) -> int:
    """The exit code of a process."""
    process.communicate(timeout=PATIENCE_SECONDS)
    return process.returncode


def wait_for_requests(chat: ScriptedChat, number: int, process: subprocess.Popen[str]) -> None:
    """Until so many have arrived, or the process has ended without them."""
    chat.wait_for(lambda: len(chat.chats) >= number or process.poll() is not None)


def asked(chat: ScriptedChat) -> list[str]:
    return [body["messages"][-1]["content"] for body in chat.bodies]


def kept(arena: Arena) -> set[str]:
    """The questions whose results are written down."""
    plan = arena.plan()
    parts = [path.read_bytes() for path in sorted((arena.run / "shards").rglob("part-*"))]
    return {one.scenario.steps[0].input for one in reduce_parts(plan, parts).results.values()}


def test_a_worker_that_is_killed_again_and_again_loses_only_what_was_in_flight(
    arena: Arena, chat: ScriptedChat
) -> None:
    assert arena.call("plan-run", "--run-id", "r1") == 0
    for _ in range(2):
        known, before = kept(arena), len(chat.chats)
        killed = answers(chat, 2)
        process = work(arena)
        wait_until(partial(more_than, arena, known))
        process.kill()
        killed.set()
        process.communicate(timeout=PATIENCE_SECONDS)
        assert known.isdisjoint(asked(chat)[before:])
        assert not (arena.run / "shards" / "0" / "done.json").exists()
    chat.says("answer to it")
    known, before = kept(arena), len(chat.chats)
    assert ended(work(arena)) == 0
    assert set(asked(chat)[before:]) == QUESTIONS - known
    assert arena.call("reduce", "--run-id", "r1", "--count", "1") == 0
    assert sorted(one.steps[0].input for one in arena.results().scenarios) == sorted(QUESTIONS)


def more_than(arena: Arena, known: set[str]) -> bool:
    """Whether further results are written down."""
    return kept(arena) > known


def answers(chat: ScriptedChat, number: int) -> threading.Event:
    """Let the chat answer so many questions, and the others only once the event is set."""
    left, event = iter(range(number)), threading.Event()

    def answer(body: object) -> str:
        if next(left, None) is None and not event.wait(PATIENCE_SECONDS):
            raise TimeoutError("nobody was killed")
        return "answer to it"

    chat.says(answer)
    return event


def wait_until(condition: Callable[[], bool]) -> None:
    """What another process writes can only be looked at again and again."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the condition did not come true")
        threading.Event().wait(0.01)


def test_a_worker_that_is_told_to_stop_writes_down_what_it_has_and_says_so(arena: Arena, chat: ScriptedChat) -> None:
    assert arena.call("plan-run", "--run-id", "r1") == 0
    stopped = answers(chat, 3)
    process = work(arena)
    wait_until(lambda: bool(kept(arena)))
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=PATIENCE_SECONDS)
    stopped.set()
    assert process.returncode == 75
    assert "arena: stopped before the end (exit 75)" in said
    known, before = kept(arena), len(chat.chats)
    chat.says("answer to it")
    assert ended(work(arena)) == 0
    assert set(asked(chat)[before:]) == QUESTIONS - known


def test_a_run_that_is_told_to_stop_says_how_it_goes_on(arena: Arena, chat: ScriptedChat) -> None:
    chat.hang()
    process = worker(arena, "run", str(arena.manifest), "--workers", "2")
    wait_for_requests(chat, 2, process)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 143, said
    resumed = re.search(r"--resume (\S+)", said)
    assert resumed
    assert not (arena.run / "summary.json").exists()
    chat.release()
    assert arena.call("run", "--resume", resumed[1]) == 0
    assert len(arena.results().scenarios) == ITEMS


def test_a_process_that_is_killed_is_started_again(arena: Arena, chat: ScriptedChat) -> None:
    chat.hang()
    process = worker(arena, "run", str(arena.manifest), "--workers", "2")
    wait_for_requests(chat, 4, process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    chat.release()
    said, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, said
    assert len(arena.results().scenarios) == ITEMS


# --- every moment, without processes --------------------------------------------------------------------------------


class CrashError(BaseException):
    """The end of the process, as far as the code can tell."""


@dataclass
class DyingStore:
    """Takes so many more files and then none: the process is dead, or the disk is full."""

    whole: MemoryStore
    left: int

    def create(self, name: str, content: bytes) -> bool:
        if self.left <= 0:
            raise StoreError("no space left", hint="Make room.")
        self.left -= 1
        return self.whole.create(name, content)

    def read(self, name: str) -> bytes | None:
        return self.whole.read(name)

    def names(self, folder: str) -> tuple[str, ...]:
        return self.whole.names(folder)

    def url(self, name: str) -> str:
        return self.whole.url(name)


@dataclass
class FakeClients:
    """Answers from memory, and dies with the process after so many answers."""

    store: DyingStore
    left: int
    asked: list[str] = field(default_factory=list)

    def target(self, kind: str, name: str) -> Target:
        raise NotImplementedError

    def system(self, system: SystemUnderTest, *, on_spent: OnSpent | None = None) -> AgentClient:
        def answer(text: str) -> str:
            self.asked.append(text)
            if len(self.asked) > self.left:
                self.store.left = 0  # a dead process writes nothing more
                raise CrashError
            return f"answer to: {text}"

        return FakeAgentClient(answer)

    def entry(self, kind: str, name: str, *, on_spent: OnSpent | None = None) -> AgentClient:
        raise NotImplementedError


@pytest.fixture(scope="module")
def planned() -> Iterator[JobContext]:
    """A context with a plan, and a fake where everything else is."""
    with tempfile.TemporaryDirectory() as folder:
        arena = Arena(Path(folder))
        arena.bundle(**{f"s{number}": asks(f"s{number}", f"question {number}") for number in range(ITEMS)})
        arena.write(arena_job({"default": [agent_entry("bot")]}, trials=2), agent_runtime("bot", "http://127.0.0.1:9"))
        run = prepare_run(RunOptions(arena.manifest, source=arena.source))
        yield JobContext(
            job=run.job,
            documents=run.documents,
            plan=run.plan,
            store=RunFolder(MemoryStore(), "run"),
            run_id="run",
            clients=FakeClients(DyingStore(MemoryStore(), 0), 0),
        )


@settings(max_examples=25)
@given(crashes=st.lists(st.tuples(st.integers(0, 2 * ITEMS), st.integers(0, 4)), max_size=5), shards=st.integers(1, 4))
def test_whenever_workers_die_every_item_is_in_the_result_once(
    planned: JobContext, crashes: list[tuple[int, int]], shards: int
) -> None:
    memory = MemoryStore()
    asked: Counter[str] = Counter()
    for number, (answers, files) in enumerate([*crashes, (1000, 1000)]):
        for index in range(shards):
            store = DyingStore(memory, files)
            clients = FakeClients(store, answers)
            context = replace(
                planned,
                store=RunFolder(store, "run"),
                clients=clients,
                shard=Shard(index, shards),
                worker=f"w{number}",
                clock=FakeClock(),
                concurrency=3,
            )
            try:
                asyncio.run(work_evaluation(context))
            except (CrashError, StoreError):
                assert number < len(crashes)
            asked.update(clients.asked)
    folder = RunFolder(memory, "run")
    assert all(is_done(folder, planned.plan, shard) for shard in all_shards(shards))
    reduction = reduce_parts(
        planned.plan, (part for _, part in read_counted_parts(folder, read_done_markers(folder, planned.plan)))
    )
    assert reduction.complete
    assert {build_row(item, reduction.results[item.key].scenario).status for item in planned.plan.items} == {"passed"}
    assert max(asked.values()) <= 2 * (1 + len(crashes))


# --- after an outage ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", ["1", "2"])
def test_after_an_outage_only_what_was_an_error_is_done_again(arena: Arena, chat: ScriptedChat, workers: str) -> None:
    down = {"question 2", "question 5"}
    chat.says(lambda body: "" if body["messages"][-1]["content"] in down else "answer to it")
    assert arena.call("run") == 3
    (first,) = arena.runs
    before = {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    chat.says("answer to it")
    asked_before = len(chat.chats)
    assert arena.call("run", "--retry-errors", first.name, "--workers", workers) == 0
    assert set(asked(chat)[asked_before:]) == down
    assert arena.summary(arena.runs[-1])["counts"]["passed"] == ITEMS
    assert {path: path.read_bytes() for path in before} == before


def test_a_bad_score_is_no_error_and_stays(arena: Arena, chat: ScriptedChat) -> None:
    chat.says("no")
    assert arena.call("run") == 1
    chat.says("answer to it")
    asked_before = len(chat.chats)
    assert arena.call("run", "--retry-errors", arena.run.name) == 1
    assert len(chat.chats) == asked_before


def test_of_a_load_test_no_part_is_done_again(
    arena: Arena, chat: ScriptedChat, capsys: pytest.CaptureFixture[str]
) -> None:
    tested = {"default": [model("gpt")]}
    load = {"rampUp": "0s", "duration": "1s", "targetRPS": 1}
    arena.write(arena_job(tested, type="loadtest", loadTest=load), provider("gpt", chat.base_url))
    assert arena.call("run", "--retry-errors", "r1") == 2
    assert "only of an evaluation" in capsys.readouterr().err
    assert chat.chats == []


def test_errors_of_another_plan_are_not_done_again(arena: Arena, capsys: pytest.CaptureFixture[str]) -> None:
    assert arena.call("run") == 0
    arena.bundle(s0=asks("s0", "another question"))
    assert arena.call("run", "--retry-errors", arena.run.name) == 2
    assert "was begun with another plan" in capsys.readouterr().err
    assert arena.call("run", "--retry-errors", "no-such-run") == 2
