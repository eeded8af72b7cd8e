"""Whatever breaks while a job runs never ends as a pass, nor as a low score: each fault has its name and its code."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from testbench.arena.conclusion import Conclusion
from testbench.arena.evaluation import reducer as reducing
from testbench.arena.runs.job_types import run_in_this_process
from testbench.arena.runs.local import begin_run
from testbench.arena.runs.opening import RunOptions, open_context, prepare_run
from testbench.net.clock import FakeClock
from testbench.schema.models import EvaluatedExperiment
from tests.support.arena_runs import (
    EVALUATION,
    Arena,
    agent_entry,
    agent_runtime,
    arena_job,
    asks,
    model,
    provider,
)
from tests.support.servers.scripted_chat import ScriptedChat
from tests.support.servers.scripted_judge import code_in

if TYPE_CHECKING:
    from tests.support.servers.otlp_receiver import OtlpReceiver
    from tests.support.servers.s3_store import S3Store
    from tests.support.servers.scripted_agent import ScriptedAgent
    from tests.support.servers.scripted_judge import ScriptedJudge


async def patient_run(arena: Arena) -> Conclusion:
    """A run on a clock that does not wait between tries."""
    told = RunOptions(arena.manifest, source=arena.source, output=arena.output, clock=FakeClock())
    run = prepare_run(told)
    begin_run(run)
    with open_context(run) as context:
        return await run_in_this_process(context)


def kinds(experiment: EvaluatedExperiment, provider: str) -> set[str | None]:
    """What went wrong in the conversations of one system."""
    steps = [step for one in experiment.scenarios if one.provider == provider for step in one.steps]
    return {step.error.kind if step.error else None for step in steps}


def test_nobody_there_is_no_verdict_and_can_be_taken_up_again(
    arena: Arena, chat: ScriptedChat, nobody: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arena.write(arena_job({"default": [agent_entry("bot")]}), agent_runtime("bot", nobody))
    assert arena.call("run") == 3
    assert not (arena.run / "summary.json").exists()
    assert not (arena.run / "shards" / "0" / "done.json").exists()
    assert capsys.readouterr().err.splitlines()[-1] == "arena: could not be done (exit 3)"


async def test_an_outage_of_one_provider_is_an_error_of_its_items_alone(
    arena: Arena, chat: ScriptedChat, agent: ScriptedAgent
) -> None:
    arena.write(
        arena_job({"default": [model("gpt"), agent_entry("bot")]}),
        provider("gpt", chat.base_url),
        agent_runtime("bot", agent.url),
    )
    chat.fail_rate(1.0, status=500)
    conclusion = await patient_run(arena)
    assert (conclusion.phase, conclusion.reason) == ("Failed", "NotJudged")
    assert (conclusion.counts.passed, conclusion.counts.errors) == (2, 2)
    experiment = arena.results()
    assert kinds(experiment, "bot") == {None}
    assert "http_error" in kinds(experiment, "gpt")


async def test_an_agent_that_is_down_from_the_beginning_is_an_error_of_its_items_alone(
    arena: Arena, chat: ScriptedChat, nobody: str
) -> None:
    arena.write(
        arena_job({"default": [model("gpt"), agent_entry("bot")]}),
        provider("gpt", chat.base_url),
        agent_runtime("bot", nobody),
    )
    conclusion = await patient_run(arena)
    assert conclusion.reason == "NotJudged"
    assert (conclusion.counts.passed, conclusion.counts.errors) == (2, 2)
    assert "unreachable" in kinds(arena.results(), "bot")


def test_however_the_items_are_dealt_a_system_that_is_down_is_an_error_of_its_items_alone(
    arena: Arena, chat: ScriptedChat, nobody: str
) -> None:
    arena.write(
        arena_job({"default": [model("gpt"), agent_entry("bot")]}),
        provider("gpt", chat.base_url),
        agent_runtime("bot", nobody),
    )
    assert arena.call("plan-run", "--run-id", "r1") == 0
    for index in range(4):  # each meets one system alone
        assert arena.call("work", "--run-id", "r1", "--index", str(index), "--count", "4") == 0
    assert arena.call("reduce", "--run-id", "r1", "--count", "4") == 3
    assert (arena.summary()["reason"], arena.summary()["counts"]["errors"]) == ("NotJudged", 2)
    assert kinds(arena.results(), "gpt") == {None}


async def test_a_storm_of_429_is_never_a_pass(arena: Arena, chat: ScriptedChat) -> None:
    arena.write(arena_job({"default": [model("gpt")]}), provider("gpt", chat.base_url))
    chat.fail_rate(1.0, status=429, retry_after=1)
    conclusion = await patient_run(arena)
    assert (conclusion.phase, conclusion.reason) == ("Failed", "NotJudged")
    assert "rate_limited" in kinds(arena.results(), "gpt")


async def test_a_storm_that_passes_costs_nothing_but_time(arena: Arena, chat: ScriptedChat) -> None:
    arena.write(arena_job({"default": [model("gpt")]}), provider("gpt", chat.base_url))
    chat.fail_rate(0.5, status=429)
    assert (await patient_run(arena)).reason == "Succeeded"


async def test_a_judge_that_is_down_is_no_score(arena: Arena, chat: ScriptedChat, judge: ScriptedJudge) -> None:
    polite = {"metric_name": "builtin.judge", "threshold": 0.0, "parameters": {"criteria": "polite"}}
    arena.bundle(greets={"name": "greets", "steps": [{"input": "hello", "metrics": [polite]}]})
    judge.answer("RubricVerdict", lambda prompt: {"reason": "it is", "score": 5, "code": code_in(prompt)})
    judge.fail_rate(1.0, status=503)
    arena.write(
        arena_job({"default": [model("gpt")], "judge": [model("wise")]}, scenarios={"include": ["greets.yaml"]}),
        provider("gpt", chat.base_url),
        provider("wise", judge.base_url),
    )
    conclusion = await patient_run(arena)
    assert conclusion.reason == "NotJudged"
    (evaluation,) = arena.results().scenarios[0].steps[0].evaluations
    assert (evaluation.result.result, evaluation.result.score) == ("error", None)


def test_a_missing_shard_is_named_and_the_run_can_still_be_completed(arena: Arena, chat: ScriptedChat) -> None:
    arena.write(arena_job({"default": [model("gpt")]}), provider("gpt", chat.base_url))
    assert arena.call("plan-run", "--run-id", "r1") == 0
    assert arena.call("work", "--run-id", "r1", "--index", "0", "--count", "2") == 0
    assert arena.call("reduce", "--run-id", "r1", "--count", "2") == 3
    (early,) = arena.run.glob("incomplete-*")
    assert json.loads((early / "summary.json").read_text())["reason"] == "MissingShards"
    assert not (arena.run / "summary.json").exists()
    assert arena.call("work", "--run-id", "r1", "--index", "1", "--count", "2") == 0
    assert arena.call("reduce", "--run-id", "r1", "--count", "2") == 0
    assert arena.summary()["reason"] == "Succeeded"


def test_a_run_of_which_nothing_is_there_ends_the_same_however_often_it_is_reduced(
    arena: Arena, chat: ScriptedChat, capsys: pytest.CaptureFixture[str]
) -> None:
    arena.write(arena_job({"default": [model("gpt")]}), provider("gpt", chat.base_url))
    assert arena.call("plan-run", "--run-id", "r1") == 0
    for _ in range(2):
        assert arena.call("reduce", "--run-id", "r1", "--count", "1") == 3
        assert "MissingShards: 1 shards did not finish" in capsys.readouterr().out.splitlines()[-1]


def test_a_part_that_was_changed_or_lost_is_a_missing_shard(arena: Arena, chat: ScriptedChat) -> None:
    arena.write(arena_job({"default": [model("gpt")]}), provider("gpt", chat.base_url))
    assert arena.call("plan-run", "--run-id", "r1") == 0
    assert arena.call("work", "--run-id", "r1", "--index", "0", "--count", "1") == 0
    (part, *_) = sorted((arena.run / "shards" / "0").glob("part-*"))
    part.write_bytes(part.read_bytes().replace(b"answer to", b"Answer to"))
    assert arena.call("reduce", "--run-id", "r1", "--count", "1") == 3
    part.unlink()
    assert arena.call("reduce", "--run-id", "r1", "--count", "1") == 3
    reasons = [json.loads(path.read_text())["reason"] for path in arena.run.glob("incomplete-*/summary.json")]
    assert set(reasons) == {"MissingShards"}


def test_a_part_that_was_changed_is_neither_mended_in_place_nor_taken_over(
    arena: Arena, chat: ScriptedChat, capsys: pytest.CaptureFixture[str]
) -> None:
    arena.write(arena_job({"default": [model("gpt")]}), provider("gpt", chat.base_url))
    assert arena.call("run") == 0
    first = arena.run
    (part,) = (path for path in (first / "shards" / "0").glob("part-*") if b"goodbye" in path.read_bytes())
    part.write_bytes(part.read_bytes().replace(b"goodbye", b"Goodbye"))
    assert arena.call("run", "--resume", first.name) == 3
    said = capsys.readouterr().err
    assert "were changed or removed after it was done" in said
    assert f"--retry-errors {first.name}" in said
    asked = len(chat.chats)
    assert arena.call("run", "--retry-errors", first.name) == 0
    assert len(chat.chats) > asked
    assert b"Goodbye" not in b"".join(path.read_bytes() for path in arena.runs[-1].rglob("part-*"))


def test_a_second_worker_of_a_shard_changes_nothing_however_late_it_writes(arena: Arena, chat: ScriptedChat) -> None:
    arena.write(arena_job({"default": [model("gpt")]}), provider("gpt", chat.base_url))
    assert arena.call("run") == 0
    (part, *_) = sorted((arena.run / "shards" / "0").glob("part-*"))
    earlier = part.read_bytes().replace(b"answer to", b"ANSWER to").replace(b'finished_at":"20', b'finished_at":"19')
    part.with_name("part-another-1.jsonl").write_bytes(earlier)
    before = {path: path.read_bytes() for path in arena.run.iterdir() if path.is_file()}
    assert arena.call("reduce", "--run-id", arena.run.name, "--count", "1") == 0
    assert {path: path.read_bytes() for path in before} == before


def test_a_judge_without_its_credential_is_found_before_anything_is_sent(
    arena: Arena, chat: ScriptedChat, capsys: pytest.CaptureFixture[str]
) -> None:
    wise = provider("wise", chat.base_url, credential={"envVar": "KEY_THAT_IS_NOT_SET"})
    arena.write(arena_job({"default": [model("gpt")], "judge": [model("wise")]}), provider("gpt", chat.base_url), wise)
    assert arena.call("run", "--dry-run") == 2
    assert "Provider wise: the variable KEY_THAT_IS_NOT_SET is not set" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "words"), [("datagen", "bot is an agent and cannot write data"), ("loadtest", "a scenario without steps")]
)
@pytest.mark.parametrize("flags", [("--dry-run",), ()])
def test_what_a_type_of_job_has_no_use_for_is_found_before_the_run_is_begun(
    arena: Arena, capsys: pytest.CaptureFixture[str], kind: str, words: str, flags: tuple[str, ...]
) -> None:
    played = {"kind": "Scenario", "spec": {"id": "p", "turns": [{"role": "shopper", "persona": "angry", "turns": 1}]}}
    persona = {"kind": "Persona", "spec": {"id": "angry", "system_prompt": "You buy."}}
    settings = {"scenarios": [{"file": "played.yaml"}], "self_play": {"personas": [{"file": "angry.yaml"}]}}
    arena.bundle(played=played, angry=persona, config__arena={"kind": "Arena", "spec": settings})
    (arena.source / "prompts").mkdir()
    (arena.source / "prompts" / "all.md").write_text("Questions.")
    groups = {"default": [agent_entry("bot")]} | ({"selfplay": [model("user")]} if kind == "loadtest" else {})
    arena.write(
        arena_job(groups, type=kind), provider("user", "http://127.0.0.1:9"), agent_runtime("bot", "http://127.0.0.1:9")
    )
    assert arena.call("run", *flags) == 2
    assert words in capsys.readouterr().err
    assert arena.runs == []


def test_a_file_that_was_not_written_fails_the_run(
    arena: Arena, chat: ScriptedChat, capsys: pytest.CaptureFixture[str]
) -> None:
    arena.write(arena_job({"default": [model("gpt")]}), provider("gpt", chat.base_url))
    assert arena.call("plan-run", "--run-id", "r1") == 0
    assert arena.call("work", "--run-id", "r1", "--index", "0", "--count", "1") == 0
    (arena.run / "results.json").write_text("of somebody else")
    assert arena.call("reduce", "--run-id", "r1", "--count", "1") == 3
    assert "OutputFailed" in capsys.readouterr().out.splitlines()[-1]
    assert (arena.run / "results.json").read_text() == "of somebody else"
    assert not (arena.run / "summary.json").exists()
    (arena.run / "results.json").unlink()
    assert arena.call("reduce", "--run-id", "r1", "--count", "1") == 0
    assert arena.summary()["reason"] == "Succeeded"


def test_a_bucket_that_is_not_there_ends_the_run_before_anybody_is_asked(
    arena: Arena, chat: ScriptedChat, s3: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    output = {"type": "s3", "s3": {"bucket": "nowhere"}}
    arena.write(arena_job({"default": [model("gpt")]}, output=output), provider("gpt", chat.base_url))
    assert arena.call("run", output=False) == 3
    assert chat.chats == []


def test_nothing_selected_and_nothing_judged_are_no_pass(arena: Arena, chat: ScriptedChat) -> None:
    arena.write(arena_job({"default": [model("gpt")]}), provider("gpt", chat.base_url))
    assert arena.call("run", "--only", "nothing-like-this*") == 2
    arena.bundle(greets={"name": "greets", "steps": [{"input": "hello"}]})
    assert arena.call("run", "--only", "greets.yaml") == 4
    assert chat.chats != []
    assert arena.summary()["reason"] == "NoItems"


def test_scores_that_did_not_arrive_fail_the_run(
    arena: Arena, chat: ScriptedChat, otlp: OtlpReceiver, nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arena.write(arena_job({"default": [model("gpt")]}), provider("gpt", chat.base_url))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", f"{otlp.endpoint}/v1/metrics")
    assert arena.call("run", "--publish") == 0
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", f"{nobody}/v1/metrics")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    assert arena.call("run", "--publish") == 3
    late = arena.runs[-1]
    assert not (late / "summary.json").exists()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", f"{otlp.endpoint}/v1/metrics")
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_TIMEOUT")
    asked = len(chat.chats)
    assert arena.call("run", "--publish", "--resume", late.name) == 0
    assert (arena.summary(late)["reason"], len(chat.chats)) == ("Succeeded", asked)


def test_a_store_that_fills_up_ends_the_worker_and_not_the_run(
    arena: Arena, chat: ScriptedChat, monkeypatch: pytest.MonkeyPatch
) -> None:
    arena.write(arena_job({"default": [model("gpt")]}), provider("gpt", chat.base_url))
    assert arena.call("plan-run", "--run-id", "r1") == 0
    (arena.run / "shards").write_text("no folder")
    assert arena.call("work", "--run-id", "r1", "--index", "0", "--count", "1") == 3
    (arena.run / "shards").unlink()
    assert arena.call("work", "--run-id", "r1", "--index", "0", "--count", "1") == 0
    assert arena.call("reduce", "--run-id", "r1", "--count", "1") == 0


def test_a_reducer_that_is_started_again_writes_the_same_files(arena: Arena, chat: ScriptedChat) -> None:
    arena.write(arena_job({"default": [model("gpt")]}), provider("gpt", chat.base_url))
    assert arena.call("run") == 0
    (arena.run / reducing.REPORT_FILE).unlink()
    before = {path: path.read_bytes() for path in arena.run.iterdir() if path.is_file()}
    assert arena.call("reduce", "--run-id", arena.run.name, "--count", "1") == 0
    assert {path: path.read_bytes() for path in before} == before
    assert (arena.run / reducing.REPORT_FILE).exists()


def test_another_plan_is_refused(arena: Arena, chat: ScriptedChat, capsys: pytest.CaptureFixture[str]) -> None:
    arena.write(arena_job({"default": [model("gpt")]}), provider("gpt", chat.base_url))
    assert arena.call("run") == 0
    asked = len(chat.chats)
    arena.bundle(leaves=asks("leaves", "farewell"))
    assert arena.call("run", "--resume", arena.run.name) == 2
    assert "was begun with another plan" in capsys.readouterr().err
    assert arena.call("run", "--resume", "no-such-run") == 2
    arena.bundle(leaves=asks("leaves", "goodbye"))
    arena.write(arena_job({"default": [model("gpt")]}, **EVALUATION), provider("gpt", chat.base_url))
    assert arena.call("run", "--resume", arena.run.name) == 2
    assert "was begun with another manifest" in capsys.readouterr().err
    shutil.rmtree(arena.output)
    assert len(chat.chats) == asked
