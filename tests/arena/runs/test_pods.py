"""The commands that a cluster's pods call: what they write, what they say at their end, and with which exit code."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from testbench.arena.conclusion import Conclusion
from testbench.arena.operator.pod_messages import PlanMade, RunRefusal, parse_message
from testbench.arena.runs.pod import START_PATIENCE_S, wait_for_start
from testbench.errors import WorkError
from testbench.net.clock import FakeClock
from tests.support.arena_runs import EVALUATION, Arena, arena_job, asks, model, provider
from tests.support.servers.scripted_chat import ScriptedChat

if TYPE_CHECKING:
    from tests.support.servers.s3_store import S3Store


@pytest.fixture
def arena(tmp_path: Path, chat: ScriptedChat, monkeypatch: pytest.MonkeyPatch) -> Arena:
    monkeypatch.chdir(tmp_path)
    found = Arena(tmp_path)
    found.bundle(greets=asks("greets", "hello"), leaves=asks("leaves", "goodbye"))
    found.write(arena_job({"default": [model("gpt")]}, **EVALUATION), provider("gpt", chat.base_url))
    return found


@pytest.fixture
def word(tmp_path: Path) -> Path:
    """Where Kubernetes reads the last word of a pod."""
    file = tmp_path / "termination-log"
    file.touch()
    return file


def test_pods_plan_work_and_reduce(arena: Arena, chat: ScriptedChat, word: Path) -> None:
    run = ("--run-id", "r1", "--termination-message", str(word))
    assert arena.call("plan-run", *run) == 0
    planned = parse_message(word.read_text())
    assert isinstance(planned, PlanMade)
    assert (planned.items, planned.scenarios, planned.systems) == (2, 2, 1)
    assert planned.digest == arena.plan().digest
    assert chat.requests == []
    for index in ("0", "1", "2"):
        assert arena.call("work", *run, "--index", index, "--count", "3") == 0
    assert arena.call("reduce", *run, "--count", "3") == 0
    conclusion = parse_message(word.read_text())
    assert isinstance(conclusion, Conclusion)
    assert (conclusion.reason, conclusion.url) == ("Succeeded", arena.run.as_uri())
    assert conclusion.model_dump(mode="json", exclude_none=True) == arena.summary()


def test_one_pod_does_it_all_and_a_second_one_says_the_same(arena: Arena, chat: ScriptedChat, word: Path) -> None:
    run = ("--run-id", "r1", "--termination-message", str(word))
    assert arena.call("run-all", *run) == 0
    first, asked = word.read_text(), len(chat.chats)
    assert arena.call("run-all", *run) == 0
    assert word.read_text() == first
    assert len(chat.chats) == asked


def test_a_verdict_of_fail_is_said_with_its_numbers(arena: Arena, chat: ScriptedChat, word: Path) -> None:
    chat.says("no")
    assert arena.call("run-all", "--run-id", "r1", "--termination-message", str(word)) == 1
    conclusion = parse_message(word.read_text())
    assert isinstance(conclusion, Conclusion)
    assert (conclusion.phase, conclusion.reason, conclusion.counts.failed) == ("Failed", "BelowThreshold", 2)


@pytest.mark.parametrize("command", ["plan-run", "run-all"])
def test_a_configuration_that_cannot_be_used_is_refused_in_one_word(
    arena: Arena, chat: ScriptedChat, word: Path, command: str
) -> None:
    arena.write(arena_job({"default": [model("nobody")]}))
    assert arena.call(command, "--run-id", "r1", "--termination-message", str(word)) == 78
    refusal = parse_message(word.read_text())
    assert isinstance(refusal, RunRefusal)
    assert refusal.reason == "InvalidConfiguration"
    assert "no Provider 'nobody'" in refusal.message


def test_a_worker_without_a_plan_is_wrongly_configured(arena: Arena, word: Path) -> None:
    assert arena.call("work", "--run-id", "r1", "--index", "0", "--count", "1") == 78
    assert arena.call("work", "--run-id", "../r1", "--index", "0", "--count", "1") == 78
    assert arena.call("work", "--run-id", "r1", "--index", "1", "--count", "1") == 78


def test_an_outage_leaves_no_word_so_that_the_pod_is_tried_again(arena: Arena, nobody: str, word: Path) -> None:
    arena.write(arena_job({"default": [model("gpt")]}), provider("gpt", f"{nobody}/v1"))
    assert arena.call("run-all", "--run-id", "r1", "--termination-message", str(word)) == 3
    assert parse_message(word.read_text()) is None


def test_credentials_of_the_bucket_are_files_too(
    arena: Arena, chat: ScriptedChat, s3: S3Store, word: Path, tmp_path: Path
) -> None:
    s3.make_bucket("results")
    output = {"type": "s3", "s3": {"bucket": "results", "endpoint": s3.endpoint, "secretRef": {"name": "store"}}}
    arena.write(arena_job({"default": [model("gpt")]}, output=output), provider("gpt", chat.base_url))
    run = ("--run-id", "r1", "--termination-message", str(word))
    assert arena.call("run-all", *run, output=False) == 78
    folder = tmp_path / "credentials" / "output"
    folder.mkdir(parents=True)
    (folder / "AWS_ACCESS_KEY_ID").write_text("testing")
    (folder / "AWS_SECRET_ACCESS_KEY").write_text("testing")
    assert arena.call("run-all", *run, "--credentials", str(folder.parent), output=False) == 0
    assert s3.get("results", "default/nightly/r1/summary.json") is not None


def test_a_manifest_that_is_a_list_in_json_does_as_well(arena: Arena, chat: ScriptedChat) -> None:
    items = [arena_job({"default": [model("gpt")]}), *provider("gpt", chat.base_url)]
    arena.manifest.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    assert arena.call("run-all", "--run-id", "r1") == 0


# --- the start of a load test ---------------------------------------------------------------------------------------


class Starting(FakeClock):
    """A clock under which a file appears after some time."""

    def __init__(self, file: Path, after_s: float, content: str) -> None:
        super().__init__()
        self._file, self._after_s, self._content = file, after_s, content

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        if self.monotonic() >= self._after_s:
            self._file.write_text(self._content)


async def test_workers_of_a_load_test_wait_for_their_common_start(tmp_path: Path) -> None:
    clock = Starting(tmp_path / "start.json", 90.0, '{"t0": "2026-01-01T00:03:30Z"}')
    start = await wait_for_start(tmp_path / "start.json", clock)
    assert start == datetime(2026, 1, 1, 0, 3, 30, tzinfo=UTC)
    assert clock.monotonic() == pytest.approx(90.0)


@pytest.mark.parametrize(
    ("after_s", "content", "words"),
    [
        (90.0, '{"t0": "2026-01-01T00:01:00Z"}', "is over"),
        (1.0, "{}", "names no start"),
        (1.0, '{"t0": "2026-01-01T00:03:30"}', "names no zone"),
        (2 * START_PATIENCE_S, "{}", "are not there"),
    ],
)
async def test_a_start_that_was_missed_is_no_load_test(
    tmp_path: Path, after_s: float, content: str, words: str
) -> None:
    file = tmp_path / "start.json"
    with pytest.raises(WorkError, match=words) as caught:
        await wait_for_start(file, Starting(file, after_s, content))
    assert int(caught.value.exit_code) == 76


def test_the_environment_of_a_pod_decides_what_the_gate_asks_for(
    arena: Arena, chat: ScriptedChat, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat.says(lambda body: "no" if "goodbye" in str(body["messages"]) else "answer to it")
    monkeypatch.setenv("TESTBENCH_ARENA_RUN_ALL_MIN_PASS_RATE", "0.5")
    assert arena.call("run-all", "--run-id", "r1") == 0
    monkeypatch.setenv("TESTBENCH_ARENA_RUN_ALL_MIN_PASS_RATE", "0.6")
    assert arena.call("run-all", "--run-id", "r2") == 1
