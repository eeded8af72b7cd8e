"""A load test by workers that are processes, as on this machine and in a cluster's pods."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from testbench.arena.commands import command
from testbench.cli.phase import main
from tests.support.load_jobs import GREETING, manifest, provider
from tests.support.servers.scripted_chat import ScriptedChat

RUN = ("--run-id", "run-1")
FOLDER = Path("out/default/storm/run-1")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "source"
    source.mkdir()
    (source / "greeting.yaml").write_text(GREETING)
    return tmp_path


def arena(name: str, *arguments: str) -> list[str]:
    return [name, "manifest.yaml", "--source", "source", "--output", "out", *arguments]


def summary(folder: Path) -> Any:
    (found,) = folder.glob("out/default/storm/*/summary.json")
    return json.loads(found.read_text())


def test_two_processes_send_one_load(folder: Path, chat: ScriptedChat) -> None:
    manifest(folder, {"targetRPS": 20, "duration": "1s"}, provider(chat.base_url))
    code = main(command, arena("run", "--workers", "2"))
    found = summary(folder)
    # a busy machine may be late, and then says so; it is no promise of a test
    assert (found["reason"], code) in (("Succeeded", 0), ("GeneratorSaturated", 3))
    assert found["counts"] == {"total": 20, "passed": 20, "failed": 0, "errors": 0, "unjudged": 0}
    assert len(chat.chats) == 20
    (results,) = folder.glob("out/default/storm/*/results.json")
    assert json.loads(results.read_text())["workers"] == 2


def test_a_worker_that_is_killed_is_missing(
    folder: Path, chat: ScriptedChat, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest(folder, {"targetRPS": 20, "duration": "10m"}, provider(chat.base_url))
    assert main(command, arena("plan-run", *RUN)) == 0
    module = [sys.executable, "-m", "testbench", "arena"]
    with subprocess.Popen(
        [*module, *arena("work", *RUN, "--index", "0", "--count", "1")], stderr=subprocess.DEVNULL
    ) as worker:
        try:
            chat.wait_requests(3)
        finally:
            worker.kill()
    assert main(command, arena("reduce", *RUN, "--count", "1")) == 3
    assert "MissingWorkers" in (FOLDER / "incomplete-0-of-1-workers" / "summary.json").read_text()
    assert capsys.readouterr().out.splitlines()[-1].startswith("arena: could not be done (exit 3): MissingWorkers")


def test_a_worker_that_is_told_to_stop_writes_what_it_has(folder: Path, chat: ScriptedChat) -> None:
    manifest(folder, {"targetRPS": 20, "duration": "10m"}, provider(chat.base_url))
    assert main(command, arena("plan-run", *RUN)) == 0
    module = [sys.executable, "-m", "testbench", "arena"]
    told = ["--index", "0", "--count", "1", "--tell-items"]
    with subprocess.Popen(
        [*module, *arena("work", *RUN, *told)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as worker:
        assert worker.stdout is not None
        try:
            assert worker.stdout.readline() == "item answered\n"
        finally:
            worker.terminate()
    assert worker.returncode == 75
    shard = FOLDER / "shards" / "0"
    assert list(shard.glob("part-*.parquet"))
    assert not (shard / "done.json").exists()
    assert main(command, arena("reduce", *RUN, "--count", "1")) == 3
