"""A load test from the manifest to its verdict, against real servers; whatever goes wrong, it is never a pass."""

from __future__ import annotations

import asyncio
import io
import json
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pyarrow.parquet as pq
import pytest
import yaml

from testbench.arena.conclusion import Conclusion
from testbench.arena.load.outputs import LoadResults
from testbench.arena.load.recording import END_FILE
from testbench.arena.load.reducer import reduce_load
from testbench.arena.load.worker import work_load
from testbench.arena.runs.context import JobContext, name_part
from testbench.arena.runs.job_types import run_in_this_process
from testbench.arena.stores import MemoryStore
from testbench.errors import AgentError, InputError, StoreError, WorkError
from testbench.schema.shards import Shard
from tests.support.load_jobs import (
    GREETING,
    TWO_TURNS,
    Leisurely,
    agent_runtime,
    files_of,
    load_job,
    manifest,
    provider,
)
from tests.support.servers.scripted_chat import ScriptedChat

if TYPE_CHECKING:
    from tests.support.servers.scripted_agent import ScriptedAgent

BRIEF = {"targetRPS": 800, "duration": "25ms"}
"""Twenty turns in half a second of this machine."""
PATIENT = {"metric": "latency_p99", "operator": "<", "value": "60s"}


def run(context: JobContext) -> Conclusion:
    return asyncio.run(run_in_this_process(context))


def results_of(context: JobContext, folder: str = "") -> LoadResults:
    return LoadResults.model_validate_json(files_of(context)[f"{folder}results.json"])


class Answered(AbstractContextManager["Answered"]):
    """Progress that says when so many turns were answered."""

    def __init__(self, wanted: int) -> None:
        self.enough = asyncio.Event()
        self._left = wanted

    def advance(self, *, failed: bool = False) -> None:
        self._left -= 1
        if self._left <= 0:
            self.enough.set()

    def __exit__(self, *_: object) -> None:
        return None


# --- a whole test ---------------------------------------------------------------------------------------------------


def test_models_and_agents_are_sent_every_turn_of_the_schedule(
    tmp_path: Path, chat: ScriptedChat, agent: ScriptedAgent
) -> None:
    path = manifest(tmp_path, BRIEF | {"thresholds": [PATIENT]}, provider(chat.base_url), agent_runtime(agent.url))
    context = load_job(path, {"a.yaml": GREETING, "b.yaml": TWO_TURNS})
    conclusion = run(context)
    assert (conclusion.phase, conclusion.reason) == ("Succeeded", "Succeeded")
    table = pq.read_table(io.BytesIO(files_of(context)["samples.parquet"])).to_pylist()
    # 20 turns with 1.5 turns each: 14 conversations, dealt over two scenarios with two under test
    assert len({row["arrival"] for row in table}) == 14
    assert {(row["scenario"], row["system"]) for row in table} == {
        (scenario, one) for scenario in ("greeting", "two turns") for one in ("assistant", "gpt")
    }
    asked = len(chat.chats) + len(agent.received)
    assert len(table) == asked == conclusion.counts.total == conclusion.counts.passed
    assert set(results_of(context).measures.by_system) == {"assistant", "gpt"}


def test_everything_that_was_asked_for_is_written_and_the_summary_last(tmp_path: Path, chat: ScriptedChat) -> None:
    formats = {"evaluation": {"outputFormats": ["junit", "csv", "json"]}}
    context = load_job(manifest(tmp_path, BRIEF, provider(chat.base_url), **formats))
    conclusion = run(context)
    files = files_of(context)
    assert [name for name in files if "/" not in name] == [
        "results.json", "samples.parquet", "results.csv", "junit.xml", "report.html", "summary.json",
    ]  # fmt: skip
    assert json.loads(files["summary.json"])["reason"] == conclusion.reason
    assert conclusion.summary["requests"] == "20"
    assert files["results.csv"].decode().startswith("second,due,answered,errors,p50_ms,p95_ms\n0,20,")
    suite = ET.fromstring(files["junit.xml"])[0]
    assert [case.get("name") for case in suite] == ["the load was as planned", "error_rate <= 0.01"]
    assert b"<title>" in files["report.html"]


def test_a_model_speaks_under_the_prompt_of_each_scenario(tmp_path: Path, chat: ScriptedChat) -> None:
    files = {
        "config.arena.yaml": "kind: Arena\nspec:\n  prompt_configs: [{id: greet, file: p.yaml}]\n",
        "p.yaml": "kind: PromptConfig\nspec: {task_type: greet, system_template: Be brief.}\n",
        "a.yaml": "kind: Scenario\nspec: {id: a, description: d, task_type: greet, turns: [{role: user, content: hi}]}",
        "b.yaml": TWO_TURNS,
    }
    context = load_job(manifest(tmp_path, BRIEF, provider(chat.base_url)), files)
    run(context)
    prompts = {body["messages"][-1]["content"]: body["messages"][0] for body in chat.bodies}
    assert prompts["hi"] == {"role": "system", "content": "Be brief."}
    assert prompts["one"]["role"] == "user"


def test_without_a_rate_each_worker_keeps_one_conversation_going(tmp_path: Path, chat: ScriptedChat) -> None:
    context = load_job(manifest(tmp_path, {"duration": "15ms"}, provider(chat.base_url)), shard=Shard(1, 2), worker="b")
    asyncio.run(work_load(context))
    other = replace(context, shard=Shard(0, 2), worker="a")
    asyncio.run(work_load(other))
    assert chat.max_in_flight == 1
    asyncio.run(reduce_load(other))
    assert results_of(context).measures.turns == len(chat.chats) >= 2  # none was taken for another's


def test_workers_begin_together_and_share_one_schedule(tmp_path: Path, chat: ScriptedChat) -> None:
    path, store = manifest(tmp_path, BRIEF, provider(chat.base_url)), MemoryStore()
    clock, ready, starts = Leisurely(), asyncio.Barrier(2), list[datetime]()

    async def common() -> datetime:
        await ready.wait()
        starts.append(clock.now() + timedelta(milliseconds=5))
        return starts[0]

    async def both() -> Conclusion:
        whole = replace(load_job(path, store=store), clock=clock, common_start=common)
        workers = [replace(whole, shard=Shard(index, 2), worker=f"w{index}") for index in range(2)]
        await asyncio.gather(*map(work_load, workers))
        return await reduce_load(workers[0])

    conclusion = asyncio.run(both())
    context = load_job(path, store=store)
    assert conclusion.reason == "Succeeded"
    found = results_of(context)
    assert (found.workers, found.measures.turns, found.started_at) == (2, 20, starts[0])


# --- quality under load ---------------------------------------------------------------------------------------------


def test_answers_are_judged_at_each_level_of_the_load(tmp_path: Path, chat: ScriptedChat) -> None:
    limit = {"metric": "pass_rate", "operator": ">=", "value": "0.9"}
    settings = {"targetRPS": 800, "rampUp": "20ms", "duration": "50ms", "thresholds": [limit]}
    context = load_job(manifest(tmp_path, settings, provider(chat.base_url)))
    answers = iter(range(10_000))
    chat.says(lambda body: "hello" if next(answers) < 8 else "overloaded")  # good as long as the load is small
    conclusion = run(context)
    assert conclusion.reason == "LimitMissed"
    found = results_of(context)
    assert [level.name for level in found.levels] == [f"ramp, quarter {part}" for part in range(1, 5)] + ["plateau"]
    assert sum(level.judged for level in found.levels) == found.measures.turns == 32
    assert found.levels[0].pass_rate == 1
    assert [level.passed for level in found.levels[-1:]] == [0]
    assert found.pass_rate == 8 / 32
    assert conclusion.summary["pass_rate"] == "0.25"


def test_a_pass_rate_that_nothing_judges_is_a_limit_missed(tmp_path: Path, chat: ScriptedChat) -> None:
    limit = {"metric": "pass_rate", "operator": ">=", "value": "0"}
    context = load_job(
        manifest(tmp_path, BRIEF | {"thresholds": [limit]}, provider(chat.base_url)), {"b.yaml": TWO_TURNS}
    )
    conclusion = run(context)
    assert (conclusion.phase, conclusion.reason) == ("Failed", "LimitMissed")
    assert "pass_rate not measured" in conclusion.message


def test_every_check_that_gates_and_asks_nobody_has_to_pass(tmp_path: Path, chat: ScriptedChat) -> None:
    def contains(text: str, **more: Any) -> dict[str, Any]:
        return {"metric_name": "builtin.contains", "parameters": {"text": text}, **more}

    judged = {"metric_name": "builtin.judge", "parameters": {"criteria": "polite"}}
    good = {
        "name": "good",
        "steps": [
            {"input": "one", "metrics": [contains("hello"), contains("never", gating=False), judged]},
            {"input": "two", "metrics": [contains("never")], "quarantine": True},
        ],
    }
    half = {
        "name": "half",
        "steps": [{"input": "one", "metrics": [contains("hello")]}, {"input": "two", "metrics": [contains("never")]}],
    }
    told = {"name": "told", "steps": [{"input": "one", "metrics": [contains("never", gating=False)]}]}
    files = {f"{each['name']}.yaml": yaml.safe_dump(each) for each in (good, half, told)}
    context = load_job(manifest(tmp_path, BRIEF, provider(chat.base_url)), files)
    chat.says("hello")
    run(context)
    assert results_of(context).pass_rate == 0.5  # of the good and the half, as many each


def test_an_answer_that_never_came_did_not_pass(tmp_path: Path, chat: ScriptedChat) -> None:
    context = load_job(manifest(tmp_path, BRIEF, provider(chat.base_url)))
    chat.fail_rate(0.5, status=500)
    run(context)
    found = results_of(context)
    assert found.pass_rate == found.measures.answered / found.measures.turns < 1


# --- what goes wrong ------------------------------------------------------------------------------------------------


def test_an_outage_is_no_fast_system(tmp_path: Path, chat: ScriptedChat) -> None:
    context = load_job(manifest(tmp_path, BRIEF | {"thresholds": [PATIENT]}, provider(chat.base_url)))
    chat.fail_rate(1.0, status=503)
    conclusion = run(context)
    assert (conclusion.phase, conclusion.reason) == ("Failed", "LimitMissed")
    found = results_of(context)
    assert found.measures.errors == {"http_error": 20}
    assert all(not limit.kept for limit in found.limits)


def test_nobody_there_is_not_even_begun(tmp_path: Path, nobody: str) -> None:
    context = load_job(manifest(tmp_path, BRIEF, provider(f"{nobody}/v1")))
    with pytest.raises(AgentError):
        run(context)
    assert not files_of(context)
    conclusion = asyncio.run(reduce_load(context))
    assert (conclusion.phase, conclusion.reason) == ("Failed", "MissingWorkers")


def test_a_worker_that_was_stopped_leaves_its_samples_and_is_missing(tmp_path: Path, chat: ScriptedChat) -> None:
    context = load_job(manifest(tmp_path, {"targetRPS": 400, "duration": "10m"}, provider(chat.base_url)))

    async def stopped() -> None:
        answered = Answered(3)
        task = asyncio.create_task(work_load(replace(context, show_progress=lambda *_: answered)))
        await answered.enough.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(stopped())
    conclusion = asyncio.run(reduce_load(context))
    assert (conclusion.phase, conclusion.reason) == ("Failed", "MissingWorkers")
    assert results_of(context, "incomplete-0-of-1-workers/").measures.turns >= 3
    with pytest.raises(WorkError, match="begun and not finished"):
        asyncio.run(work_load(context))


def test_a_part_that_is_gone_makes_its_worker_missing(tmp_path: Path, chat: ScriptedChat) -> None:
    context = load_job(manifest(tmp_path, BRIEF, provider(chat.base_url)))
    asyncio.run(work_load(context))
    store = context.store.whole
    assert isinstance(store, MemoryStore)
    del store.files[f"default/storm/run-1/{name_part(0, 'local', 1, 'parquet')}"]
    assert asyncio.run(reduce_load(context)).reason == "MissingWorkers"


def test_samples_of_which_some_are_missing_make_their_worker_missing(tmp_path: Path, chat: ScriptedChat) -> None:
    context = load_job(manifest(tmp_path, BRIEF, provider(chat.base_url)))
    asyncio.run(work_load(context))
    store = context.store.whole
    assert isinstance(store, MemoryStore)
    name = f"default/storm/run-1/shards/0/{END_FILE}"
    store.files[name] = store.files[name].replace(b'"samples": 20', b'"samples": 21')
    assert asyncio.run(reduce_load(context)).reason == "MissingWorkers"


def test_a_second_process_of_the_same_worker_does_not_double_the_load(tmp_path: Path, chat: ScriptedChat) -> None:
    context = load_job(manifest(tmp_path, BRIEF, provider(chat.base_url)))
    ready = asyncio.Barrier(2)

    async def common() -> datetime:
        await ready.wait()
        return context.clock.now() + timedelta(milliseconds=5)

    async def both() -> list[BaseException | None]:
        workers = [work_load(replace(context, worker=name, common_start=common)) for name in ("a", "b")]
        return await asyncio.gather(*workers, return_exceptions=True)

    assert {type(ended) for ended in asyncio.run(both())} == {type(None), WorkError}
    assert len(chat.chats) == 20
    assert asyncio.run(reduce_load(context)).reason == "Succeeded"


def test_workers_that_began_apart_are_no_load_test(tmp_path: Path, chat: ScriptedChat) -> None:
    context = load_job(manifest(tmp_path, BRIEF, provider(chat.base_url)), shard=Shard(0, 2), worker="a")
    early = datetime.now(UTC) - timedelta(seconds=10)

    async def over() -> datetime:
        return early

    asyncio.run(work_load(context))
    asyncio.run(work_load(replace(context, shard=Shard(1, 2), worker="b", common_start=over)))
    assert asyncio.run(reduce_load(context)).reason == "NoCommonStart"


def test_a_generator_that_is_late_makes_the_test_void(tmp_path: Path, chat: ScriptedChat) -> None:
    context = load_job(manifest(tmp_path, BRIEF, provider(chat.base_url)))
    begun = datetime.now(UTC) - timedelta(seconds=5)

    async def over() -> datetime:
        return begun

    conclusion = run(replace(context, common_start=over))  # everything is due at once, five seconds ago
    assert (conclusion.phase, conclusion.reason) == ("Failed", "GeneratorSaturated")
    assert conclusion.summary["verdict"] == "error"


def test_a_budget_ends_the_sending(tmp_path: Path, chat: ScriptedChat) -> None:
    chat.cost(0.1)
    settings = {"targetRPS": 400, "duration": "10m", "budgetLimit": "0.5"}
    context = load_job(
        manifest(tmp_path, settings, provider(chat.base_url, pricing={"inputCostPer1K": "10", "outputCostPer1K": "10"}))
    )
    conclusion = run(context)
    assert (conclusion.phase, conclusion.reason) == ("Failed", "BudgetExceeded")
    cost = results_of(context).measures.total_cost
    assert cost is not None
    assert cost >= 0.5


def test_workers_share_the_budget(tmp_path: Path, chat: ScriptedChat) -> None:
    prices = {"inputCostPer1K": "10", "outputCostPer1K": "10"}
    settings = {"duration": "10m", "budgetLimit": "0.5"}
    context = load_job(manifest(tmp_path, settings, provider(chat.base_url, pricing=prices)), shard=Shard(0, 2))
    asyncio.run(work_load(context))
    alone = len(chat.chats)
    asyncio.run(work_load(replace(context, shard=Shard(1, 2))))
    assert asyncio.run(reduce_load(context)).reason == "BudgetExceeded"
    assert len(chat.chats) == 2 * alone
    cost = results_of(context).measures.total_cost
    assert cost is not None
    assert 0.5 <= cost < 0.5 + 2 * cost / len(chat.chats)  # one after the other: no more than each one's last answer


def test_a_budget_that_cannot_be_counted_ends_the_sending_too(tmp_path: Path, chat: ScriptedChat) -> None:
    settings = {"targetRPS": 400, "duration": "10m", "budgetLimit": "1000"}
    context = load_job(manifest(tmp_path, settings, provider(chat.base_url)))
    conclusion = run(context)
    assert (conclusion.phase, conclusion.reason) == ("Failed", "BudgetUnknown")


def test_samples_that_cannot_be_kept_end_the_test(tmp_path: Path, chat: ScriptedChat) -> None:
    store = MemoryStore(fail={"default/storm/run-1/" + name_part(0, "local", 1, "parquet")})
    context = load_job(manifest(tmp_path, BRIEF, provider(chat.base_url)), store=store)
    with pytest.raises(StoreError, match="cannot be written"):
        run(context)


def test_an_output_that_is_not_written_fails_the_job(tmp_path: Path, chat: ScriptedChat) -> None:
    store = MemoryStore(fail={"default/storm/run-1/report.html"})
    context = load_job(manifest(tmp_path, BRIEF, provider(chat.base_url)), store=store)
    conclusion = run(context)
    assert (conclusion.phase, conclusion.reason) == ("Failed", "OutputFailed")
    assert "summary.json" not in files_of(context)
    store.fail.clear()
    assert asyncio.run(reduce_load(context)).reason == "Succeeded"
    assert json.loads(files_of(context)["summary.json"])["reason"] == "Succeeded"


def test_reducing_again_changes_nothing(tmp_path: Path, chat: ScriptedChat) -> None:
    context = load_job(manifest(tmp_path, BRIEF, provider(chat.base_url)))
    first = run(context)
    files = files_of(context)
    assert asyncio.run(reduce_load(context)) == first
    assert files_of(context) == files


def test_a_scenario_without_a_question_of_its_own_is_bad_input(tmp_path: Path, chat: ScriptedChat) -> None:
    groups = {"default": [{"providerRef": {"name": "gpt"}}], "selfplay": [{"providerRef": {"name": "user"}}]}
    tested = provider(chat.base_url), provider(chat.base_url, "user")
    arena = {"self_play": {"personas": [{"file": "persona.yaml"}]}}
    turn = {"role": "shopper", "persona": "angry", "turns": 1}
    files: dict[str, Any] = {
        "config.arena.yaml": {"kind": "Arena", "spec": arena},
        "persona.yaml": {"kind": "Persona", "spec": {"id": "angry", "system_prompt": "You buy."}},
        "s.yaml": {"kind": "Scenario", "spec": {"id": "s", "description": "d", "turns": [turn]}},
    }
    path = manifest(tmp_path, BRIEF, *tested, providers=groups)
    context = load_job(path, {name: yaml.safe_dump(content) for name, content in files.items()})
    with pytest.raises(InputError, match="without steps"):
        asyncio.run(work_load(context))
    assert not chat.chats
