"""Data generation by workers that are stopped, killed or lost: every request is answered once, and none is lost."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from testbench.arena import commands
from testbench.arena.conclusion import Conclusion
from testbench.arena.datagen.reducer import reduce_datagen
from testbench.arena.datagen.worker import work_datagen
from testbench.arena.runs.context import JobContext
from testbench.arena.stores import MemoryStore
from testbench.cli.phase import main
from testbench.errors import StoreError
from testbench.schema.shards import Shard, all_shards
from tests.support.datagen_job import (
    FILES,
    KEY,
    batch,
    context_of,
    documents_of,
    files_of,
    inventive,
    provider,
    repeating,
    rows,
    run,
    unlike,
    wanted,
)
from tests.support.docs_pages import ROOT, blocks
from tests.support.servers.scripted_judge import ScriptedJudge, prompt_tokens
from tests.support.setup_phase import loaded, steps_of


@pytest.fixture
def model(judge: ScriptedJudge) -> ScriptedJudge:
    judge.answer("Batch", inventive())
    return judge


@pytest.fixture
def context(tmp_path: Path, model: ScriptedJudge) -> JobContext:
    """Twenty items of one provider, in memory."""
    return context_of(documents_of(tmp_path, {"count": 20}, provider("gpt", model.base_url)))


# --- shards and resume ----------------------------------------------------------------------------------------------


async def rounds_of(context: JobContext, shards: int) -> Conclusion:
    """What several workers and a reducer do, one after the other."""
    for number in range(1, 11):
        for shard in all_shards(shards):
            await work_datagen(replace(context, shard=shard, worker=f"worker-{shard.index}", round=number))
        end = await reduce_datagen(replace(context, shard=Shard(0, shards), worker="reducer", round=number))
        if end is not None:
            return end
    raise AssertionError("no end")


@pytest.mark.parametrize("shards", [1, 3, 7])
def test_every_request_belongs_to_one_shard(shards: int, context: JobContext, model: ScriptedJudge) -> None:
    model.answer("Batch", repeating())
    end = asyncio.run(rounds_of(context, shards))
    assert end.reason == "Succeeded"
    answers = [name for name in files_of(context) if "/req_" in name]
    assert len(answers) == len(model.chats) == len({name.rpartition("/")[2] for name in answers})


def test_a_shard_that_did_not_finish_is_a_failure_and_can_be_made_up_for(context: JobContext) -> None:
    asyncio.run(work_datagen(replace(context, shard=Shard(0, 2), worker="a")))
    end = asyncio.run(reduce_datagen(replace(context, shard=Shard(0, 2), worker="r")))
    assert end is not None
    assert (end.phase, end.reason) == ("Failed", "MissingShards")
    assert not [name for name in files_of(context) if name.startswith(("dataset", "summary", "rounds"))]
    assert asyncio.run(rounds_of(context, 2)).reason == "Succeeded"


def test_a_round_that_is_done_is_not_asked_again_for_what_failed(context: JobContext, model: ScriptedJudge) -> None:
    model.statuses(400)
    for _ in range(2):
        asyncio.run(work_datagen(replace(context, concurrency=1)))
    assert len(model.chats) == 3
    end = run(context)
    assert (end.reason, end.summary["rounds"], end.summary["errors"]) == ("Succeeded", "2", "1")


def test_an_answer_that_got_lost_is_a_failure_and_is_asked_for_again(context: JobContext, model: ScriptedJudge) -> None:
    asyncio.run(work_datagen(context))
    store = context.store.whole
    assert isinstance(store, MemoryStore)
    lost = next(name for name in store.files if "/req_" in name)
    del store.files[lost]
    end = asyncio.run(reduce_datagen(context))
    assert end is not None
    assert (end.phase, end.reason) == ("Failed", "MissingItems")
    asked = len(model.chats)
    assert run(context).reason == "Succeeded"
    assert len(model.chats) == asked + 1


@pytest.mark.parametrize("content", [b"{", b"null\n", b'{"plan_digest": "x"}'])
def test_a_file_that_is_damaged_stops_the_work(content: bytes, context: JobContext) -> None:
    asyncio.run(work_datagen(context))
    store = context.store.whole
    assert isinstance(store, MemoryStore)
    store.files[next(name for name in store.files if "/req_" in name)] = content
    with pytest.raises(StoreError, match="is not what it should be"):
        asyncio.run(reduce_datagen(context))


@pytest.mark.parametrize("kind", ["/req_", "/done-", "rounds/2"])
def test_a_file_of_another_plan_stops_the_work(kind: str, context: JobContext, model: ScriptedJudge) -> None:
    model.answer("Batch", repeating())
    asyncio.run(work_datagen(context))
    assert asyncio.run(reduce_datagen(context)) is None
    store = context.store.whole
    assert isinstance(store, MemoryStore)
    (name, *_) = (name for name in store.files if kind in name)
    store.files[name] = store.files[name].replace(context.plan.digest.encode(), b"sha256:other")
    with pytest.raises(StoreError, match="belongs to another plan"):
        asyncio.run(reduce_datagen(replace(context, round=2)))


def test_a_reducer_that_is_started_again_says_the_same(context: JobContext, model: ScriptedJudge) -> None:
    model.answer("Batch", batch("When is ebb?", "How high is flood?"), inventive())
    asyncio.run(work_datagen(context))
    for _ in range(2):
        assert asyncio.run(reduce_datagen(context)) is None
    end = run(context)
    before = files_of(context)
    assert run(context) == end
    assert files_of(context) == before


def test_a_worker_that_is_killed_at_any_file_asks_nothing_twice(tmp_path: Path, model: ScriptedJudge) -> None:
    documents = documents_of(tmp_path, {"count": 20}, provider("gpt", model.base_url))
    for files_written in range(7):
        store, asked = MemoryStore(), len(model.chats)
        killed = replace(context_of(documents, KilledAfter(store, files_written)), concurrency=1)
        with pytest.raises(KilledError):
            run(killed)
        end = run(replace(context_of(documents, store), concurrency=1))
        assert end.reason == "Succeeded"
        answers = [name for name in store.files if "/req_" in name]
        in_flight = 1 if files_written < 3 else 0
        assert len(model.chats) - asked == len(answers) + in_flight


class KilledError(Exception):
    """The process is no more."""


class KilledAfter:
    """A store that lets so many files through; then the process is killed."""

    def __init__(self, store: MemoryStore, files: int) -> None:
        self._store = store
        self._left = files

    def create(self, name: str, content: bytes) -> bool:
        if self._left == 0:
            raise KilledError
        self._left -= 1
        return self._store.create(name, content)

    def read(self, name: str) -> bytes | None:
        return self._store.read(name)

    def names(self, folder: str) -> tuple[str, ...]:
        return self._store.names(folder)

    def url(self, name: str) -> str:
        return self._store.url(name)


def test_a_signal_keeps_what_is_answered(context: JobContext, model: ScriptedJudge) -> None:
    async def interrupted() -> None:
        task = asyncio.create_task(work_datagen(replace(context, concurrency=1)))
        await asyncio.to_thread(model.wait_requests, 2)
        await asyncio.to_thread(model.wait_in_flight, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    def second_hangs(prompt: str) -> Mapping[str, Any]:
        model.hang_next(1)
        return batch(*(unlike(n) for n in range(wanted(prompt))))

    model.answer("Batch", second_hangs, inventive())
    asyncio.run(interrupted())
    model.release()
    kept = [name for name in files_of(context) if "/req_" in name]
    assert len(kept) == 1
    assert not [name for name in files_of(context) if "done" in name]
    before = len(model.chats)
    assert run(context).reason == "Succeeded"
    assert len(model.chats) - before == len([name for name in files_of(context) if "/req_" in name]) - 1


def test_more_or_fewer_workers_take_up_what_others_have_done(context: JobContext, model: ScriptedJudge) -> None:
    asyncio.run(work_datagen(replace(context, shard=Shard(0, 2), worker="a")))
    assert len(model.chats) == 2
    assert run(context).reason == "Succeeded"
    assert len(model.chats) == 3


# --- as a command ---------------------------------------------------------------------------------------------------


def run_command(folder: Path, *options: str) -> list[str]:
    """`arena run` of the manifest and the bundle in a folder, asking one after the other."""
    paths = [str(folder / "manifest.yaml"), "--source", str(folder / "bundle"), "--output", str(folder / "out")]
    return [sys.executable, "-m", "testbench", "arena", "run", *paths, "--concurrency", "1", *options]


def called(*arguments: str) -> int:
    """The exit code of a command of `testbench arena`."""
    return main(commands.command, list(arguments))


def written_job(folder: Path, model: ScriptedJudge) -> None:
    documents_of(folder, {"count": 20}, provider("gpt", model.base_url))
    for path, text in FILES.items():
        file = folder / "bundle" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.mark.parametrize(("how", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143)])
def test_a_command_that_is_stopped_goes_on_with_what_it_has(
    how: signal.Signals, code: int, tmp_path: Path, model: ScriptedJudge
) -> None:
    said = inventive()

    def hangs_after_this(prompt: str) -> Mapping[str, Any]:
        model.hang_next(1)
        return said(prompt)

    model.answer("Batch", hangs_after_this, said)
    written_job(tmp_path, model)
    with subprocess.Popen(
        run_command(tmp_path), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        model.wait_requests(2)
        process.send_signal(how)
        _, told = process.communicate()
    assert process.returncode == code
    model.release()
    found = re.search(r"run (\S+) ->", told)
    assert found is not None
    again = subprocess.run(
        run_command(tmp_path, "--resume", found.group(1)), capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr
    assert "20 of 20 items" in again.stdout
    (dataset,) = tmp_path.glob("out/default/gen/*/dataset.jsonl")
    assert len(rows(dataset.read_bytes())) == 20
    assert len(model.chats) == 3 + 1


def test_several_workers_make_one_dataset(tmp_path: Path, model: ScriptedJudge) -> None:
    model.answer("Batch", repeating())
    written_job(tmp_path, model)
    assert called(*run_command(tmp_path, "--workers", "2")[4:]) == 0
    (dataset,) = tmp_path.glob("out/default/gen/*/dataset.jsonl")
    made = [row["user_input"] for row in rows(dataset.read_bytes())]
    assert len(set(made)) == len(made) == 20
    assert {path.parent.parent.name for path in tmp_path.glob("out/default/gen/*/shards/*/round-2/done-2.json")} == {
        "0",
        "1",
    }


def test_a_shortfall_is_exit_code_1_and_an_outage_exit_code_3(
    tmp_path: Path, model: ScriptedJudge, capsys: pytest.CaptureFixture[str]
) -> None:
    model.answer("Batch", batch("When is ebb?"))
    written_job(tmp_path, model)
    assert called(*run_command(tmp_path)[4:]) == 1
    assert "InsufficientUnique: 1 of 20 items" in capsys.readouterr().out
    model.fail_rate(1.0, status=401)
    assert called(*run_command(tmp_path)[4:]) == 3
    assert "GenerationFailed: 0 of 20 items" in capsys.readouterr().out


def test_the_example_of_the_docs_runs_as_it_stands(
    tmp_path: Path, model: ScriptedJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "how-to" / "generate-data.md").read_text()
    files = {block.mark.removeprefix("file: "): block.text for block in blocks(page) if block.mark.startswith("file: ")}
    files |= {"material/prompts/support.md": "Questions.", "material/handbook/a/returns.md": "Within 30 days."}
    files["job.yaml"] = files["job.yaml"].replace("http://localhost:11001/v1", model.base_url)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    commands = re.findall(r"^    testbench arena (.+)$", page, re.MULTILINE)
    assert len(commands) == 2
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for line in commands:
        assert called(*line.split()) == 0
    (dataset,) = tmp_path.glob("data/arena/default/returns-questions/*/dataset.jsonl")
    assert len(steps_of(loaded(dataset))) == 50
    (chat, *_) = model.chats
    assert chat.headers["authorization"] == f"Bearer {KEY}"
    assert "Within 30 days." in model.prompts[0]


@pytest.mark.parametrize("options", [("plan",), ("run", "--dry-run")])
def test_a_plan_says_what_would_be_asked_and_asks_nobody(
    options: tuple[str, ...], tmp_path: Path, model: ScriptedJudge, capsys: pytest.CaptureFixture[str]
) -> None:
    written_job(tmp_path, model)
    name, *flags = options
    line = [name, str(tmp_path / "manifest.yaml"), "--source", str(tmp_path / "bundle"), *flags]
    assert called(*line) == 0
    material = "20 items as jsonl, from 1 prompt with 2 passages of documents\nwritten by gpt\nfirst round: 3 requests"
    assert material in capsys.readouterr().out
    assert called(*line, "--json") == 0
    generation = json.loads(capsys.readouterr().out)["generation"]
    assert not model.chats
    assert called(*run_command(tmp_path)[4:]) == 0
    tokens = sum(prompt_tokens(request.json()) for request in model.chats)
    assert generation["requests"] == len(model.chats)
    assert generation["input_tokens"] == pytest.approx(tokens, rel=0.2)
