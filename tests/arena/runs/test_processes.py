"""`cli.py run --workers N`: processes share the work of every type of job, and their number changes no result."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.support.arena_runs import (
    EVALUATION,
    Arena,
    agent_entry,
    agent_runtime,
    arena_job,
    model,
    provider,
    timeless,
)
from tests.support.servers.scripted_chat import ScriptedChat

if TYPE_CHECKING:
    from tests.support.servers.scripted_agent import ScriptedAgent


def test_any_number_of_workers_gives_the_same_results(arena: Arena, chat: ScriptedChat, agent: ScriptedAgent) -> None:
    arena.write(
        arena_job({"default": [model("gpt"), agent_entry("bot")]}, trials=2, **EVALUATION),
        provider("gpt", chat.base_url),
        agent_runtime("bot", agent.url),
    )
    for workers in ("1", "2"):
        assert arena.call("run", "--workers", workers) == 0
    whole, dealt = (timeless(json.loads((run / "results.json").read_text())) for run in arena.runs)
    assert dealt == whole
    assert len({(run / "junit.xml").read_text().count("<testcase") for run in arena.runs}) == 1


def test_a_load_test_is_sent_by_processes_that_begin_together(arena: Arena, chat: ScriptedChat) -> None:
    load = {"rampUp": "0s", "duration": "1s", "targetRPS": 10}
    arena.write(arena_job({"default": [model("gpt")]}, type="loadtest", loadTest=load), provider("gpt", chat.base_url))
    arena.call("run", "--workers", "2")
    assert arena.summary()["reason"] in ("Succeeded", "GeneratorSaturated")  # on a busy machine the test is void
    assert {path.parent.name for path in arena.run.glob("shards/*/done.json")} == {"0", "1"}
    assert arena.summary()["counts"]["total"] == len(chat.chats) >= 10
