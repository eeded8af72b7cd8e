"""`cli.py run` as a user calls it: models, agents and judges on loopback, results in a folder or bucket, exit codes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
import yaml

from testbench import gate
from testbench.arena.manifest.fields import API_VERSION
from testbench.cli.phase import main
from tests.support.arena_runs import (
    EVALUATION,
    Arena,
    agent_entry,
    agent_runtime,
    arena_job,
    model,
    provider,
)
from tests.support.servers.scripted_chat import Call, Says, ScriptedChat
from tests.support.servers.scripted_judge import code_in
from tests.support.servers.websocket_agent import WebSocketAgent

if TYPE_CHECKING:
    from tests.support.servers.s3_store import S3Store
    from tests.support.servers.scripted_agent import ScriptedAgent
    from tests.support.servers.scripted_judge import ScriptedJudge

VOLUME = {"type": "pvc", "pvc": {"claimName": "results"}}
KEY = "sk-only-for-gpt"


def test_models_and_agents_meet_every_scenario(arena: Arena, chat: ScriptedChat, agent: ScriptedAgent) -> None:
    with WebSocketAgent() as behind:
        entries = [model("gpt"), agent_entry("bot"), agent_entry("old-bot")]
        arena.write(
            arena_job({"default": entries}, trials=2, **EVALUATION),
            provider("gpt", chat.base_url, KEY),
            agent_runtime("bot", agent.url),
            agent_runtime("old-bot", behind.url, "websocket"),
        )
        assert arena.call("run") == 0
    experiment = arena.results()
    assert {(one.name, one.provider, one.repetition) for one in experiment.scenarios} == {
        (name, who, number) for name in ("greets", "leaves") for who in ("gpt", "bot", "old-bot") for number in (1, 2)
    }
    assert all(step.answer == f"answer to: {step.input}" for one in experiment.scenarios for step in one.steps)
    assert {request.headers["authorization"] for request in chat.chats} == {f"Bearer {KEY}"}
    assert {body["model"] for body in chat.bodies} == {"model-gpt"}
    assert arena.summary()["counts"] == {"total": 12, "passed": 12, "failed": 0, "errors": 0, "unjudged": 0}
    assert arena.summary()["reason"] == "Succeeded"


def test_a_run_leaves_every_format_that_is_asked_for(arena: Arena, chat: ScriptedChat) -> None:
    arena.write(arena_job({"default": [model("gpt")]}, **EVALUATION), provider("gpt", chat.base_url, KEY))
    assert arena.call("run") == 0
    with (arena.run / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["scenario"], row["provider"], row["status"]) for row in rows] == [
        ("greets", "gpt", "passed"),
        ("leaves", "gpt", "passed"),
    ]
    assert {row["run_id"] for row in rows} == {arena.run.name}
    suites = ET.parse(arena.run / "junit.xml").getroot()
    assert suites.get("tests") == "2"
    assert "<!doctype html>" in (arena.run / "report.html").read_text().lower()
    assert main(gate.command, ["--input", str(arena.run / "results.json")]) == 0


def test_only_the_report_comes_unasked(arena: Arena, chat: ScriptedChat) -> None:
    arena.write(arena_job({"default": [model("gpt")]}), provider("gpt", chat.base_url))
    assert arena.call("run") == 0
    assert {path.name for path in arena.run.iterdir()} == {
        *("plan.json", "manifest.yaml", "run.json", "shards"),
        *("results.json", "verdict.json", "report.html", "summary.json"),
    }


def test_no_file_and_no_line_holds_a_secret(
    arena: Arena, chat: ScriptedChat, capsys: pytest.CaptureFixture[str]
) -> None:
    documents = provider("gpt", chat.base_url, KEY, headers={"x-tenant": "tenant-secret-value"})
    arena.write(arena_job({"default": [model("gpt")]}, **EVALUATION), documents)
    assert arena.call("run") == 0
    assert {request.headers["x-tenant"] for request in chat.chats} == {"tenant-secret-value"}
    printed = capsys.readouterr()
    texts = [path.read_text() for path in arena.run.rglob("*") if path.is_file()]
    for secret in (KEY, "tenant-secret-value"):
        assert not any(secret in text for text in (*texts, printed.out, printed.err))


def test_a_key_comes_from_the_folder_of_credentials(arena: Arena, chat: ScriptedChat, tmp_path: Path) -> None:
    document, _ = provider("gpt", chat.base_url, "unused")
    arena.write(arena_job({"default": [model("gpt")]}), [document])
    folder = tmp_path / "keys" / "default_gpt"
    folder.mkdir(parents=True)
    (folder / "OPENAI_API_KEY").write_text("sk-from-file\n")
    assert arena.call("run", "--credentials", str(tmp_path / "keys")) == 0
    assert {request.headers["authorization"] for request in chat.chats} == {"Bearer sk-from-file"}


def test_a_credential_that_is_not_there_is_bad_input_before_anything_is_sent(
    arena: Arena, chat: ScriptedChat, capsys: pytest.CaptureFixture[str]
) -> None:
    document, _ = provider("gpt", chat.base_url, "unused")
    arena.write(arena_job({"default": [model("gpt")]}), [document])
    assert arena.call("run") == 2
    assert "Provider gpt: no Secret gpt-secret" in capsys.readouterr().err
    assert chat.requests == []
    assert arena.runs == []


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"baseURL": None}, "type openai without a baseURL"),
        ({"baseURL": "gopher://host"}, "not an http(s) address"),
        ({"model": None}, "names no model"),
        ({"role": "embedding"}, "its role is 'embedding'"),
    ],
)
def test_a_provider_that_cannot_be_reached_is_bad_input(
    arena: Arena, capsys: pytest.CaptureFixture[str], spec: dict[str, str | None], words: str
) -> None:
    (document,) = provider("gpt", "http://127.0.0.1:9")
    document["spec"] |= spec
    arena.write(arena_job({"default": [model("gpt")]}), [document])
    assert arena.call("run", "--dry-run") == 2
    assert words in capsys.readouterr().err


def test_a_bad_agent_fails(arena: Arena, chat: ScriptedChat, capsys: pytest.CaptureFixture[str]) -> None:
    chat.says(lambda body: "no" if "goodbye" in str(body["messages"]) else "answer to it")
    arena.write(arena_job({"default": [model("gpt")]}), provider("gpt", chat.base_url))
    assert arena.call("run") == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("arena: verdict is fail (exit 1): BelowThreshold: FAIL: 2 of 3 steps passed")
    assert arena.call("run", "--min-pass-rate", "0.6") == 0
    assert len(arena.runs) == 2


def test_a_dry_run_asks_nobody_and_writes_nothing(
    arena: Arena, chat: ScriptedChat, capsys: pytest.CaptureFixture[str]
) -> None:
    arena.write(arena_job({"default": [model("gpt")]}), provider("gpt", chat.base_url, KEY))
    assert arena.call("run", "--dry-run") == 0
    assert "dry run: 3 messages and 0 evaluations" in capsys.readouterr().out
    assert chat.requests == []
    assert arena.runs == []


def test_the_result_as_json_is_one_object(arena: Arena, chat: ScriptedChat, capsys: pytest.CaptureFixture[str]) -> None:
    arena.write(arena_job({"default": [model("gpt")]}), provider("gpt", chat.base_url))
    assert arena.call("run", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["phase"] == "Succeeded"
    assert printed["url"] == arena.run.as_uri()


def test_results_go_into_a_bucket_with_credentials_of_their_own(
    arena: Arena, chat: ScriptedChat, s3: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.make_bucket("results")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    output = {"bucket": "results", "prefix": "arena", "endpoint": s3.endpoint, "secretRef": {"name": "store"}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "store"}}
    keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    arena.write(
        arena_job({"default": [model("gpt")]}, output={"type": "s3", "s3": output}, **EVALUATION),
        provider("gpt", chat.base_url),
        [secret | {"stringData": keys}],
    )
    assert arena.call("run", "--workers", "2", output=False) == 0
    names = {key.split("/", 4)[-1] for key in s3.keys("results", "arena/default/nightly/")}
    assert {"summary.json", "results.json", "results.csv", "junit.xml", "shards/1/done.json"} <= names


def test_the_judge_has_an_address_a_key_and_a_model_of_its_own(
    arena: Arena, chat: ScriptedChat, judge: ScriptedJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "of-somebody-else")
    polite = {"metric_name": "builtin.judge", "threshold": 0.0, "parameters": {"criteria": "polite"}}
    arena.bundle(greets={"name": "greets", "steps": [{"input": "hello", "metrics": [polite]}]})
    judge.answer("RubricVerdict", lambda prompt: {"reason": "it is", "score": 5, "code": code_in(prompt)})
    groups = {"default": [model("gpt")], "judge": [model("wise")]}
    arena.write(
        arena_job(groups, scenarios={"include": ["greets.yaml"]}),
        provider("gpt", chat.base_url, KEY),
        provider("wise", judge.base_url, "sk-of-the-judge"),
    )
    assert arena.call("run") == 0
    assert {request.headers["authorization"] for request in judge.requests} == {"Bearer sk-of-the-judge"}
    experiment = arena.results()
    assert experiment.llm_as_a_judge_model == "model-wise"
    assert [one.provider for one in experiment.scenarios] == ["gpt"]


def test_a_model_gets_the_prompt_and_the_tools_of_its_bundle(arena: Arena, chat: ScriptedChat) -> None:
    chat.says(Says(calls=(Call("get_weather", '{"city": "Oslo"}'),)), "answer to it: 3 degrees")
    arena.bundle(
        config__arena={
            "kind": "Arena",
            "spec": {
                "prompt_configs": [{"id": "support", "file": "prompts/support.yaml"}],
                "scenarios": [{"file": "asks.yaml"}],
                "tools": [{"file": "tools/weather.yaml"}],
                "providers": [],
            },
        },
        asks={
            "kind": "Scenario",
            "spec": {"id": "asks", "task_type": "support", "turns": [{"role": "user", "content": "weather?"}]},
        },
    )
    (arena.source / "prompts").mkdir()
    (arena.source / "prompts" / "support.yaml").write_text(
        "kind: PromptConfig\nspec: {task_type: support, system_template: Be kind.}\n"
    )
    (arena.source / "tools").mkdir()
    (arena.source / "tools" / "weather.yaml").write_text(
        "kind: Tool\nspec: {name: get_weather, mode: mock, mock_result: {degrees: 3}}\n"
    )
    arena.write(arena_job({"default": [model("gpt")]}), provider("gpt", chat.base_url))
    assert arena.call("run") == 4  # nothing in it judges
    first, second = chat.bodies
    assert first["messages"][0] == {"role": "system", "content": "Be kind."}
    assert [tool["function"]["name"] for tool in first["tools"]] == ["get_weather"]
    assert json.loads(second["messages"][-1]["content"]) == {"degrees": 3}


def test_a_player_says_the_steps_in_its_own_words(arena: Arena, chat: ScriptedChat, agent: ScriptedAgent) -> None:
    groups = {"selfplay": [model("player"), agent_entry("bot")]}
    chat.says("Good day to you")
    arena.write(
        arena_job(groups, scenarios={"include": ["leaves.yaml"]}),
        provider("player", chat.base_url),
        agent_runtime("bot", agent.url),
    )
    assert arena.call("run") in (0, 1)
    played = {one.provider: one.steps[0] for one in arena.results().scenarios}
    assert set(played) == {"selfplay:bot (user: player)", "selfplay:player (user: bot)"}
    assert played["selfplay:bot (user: player)"].answer == "answer to: Good day to you"


def test_scenarios_may_be_repeated_differently(arena: Arena, chat: ScriptedChat) -> None:
    turn = {
        "role": "user",
        "content": "hello",
        "assertions": [{"type": "content_includes", "params": {"patterns": ["answer"]}}],
    }
    arena.bundle(greets={"kind": "Scenario", "spec": {"id": "greets", "trials": 3, "turns": [turn]}})
    arena.write(arena_job({"default": [model("gpt")]}), provider("gpt", chat.base_url))
    assert arena.call("run") == 0
    assert arena.summary()["counts"]["total"] == 4


def test_a_map_of_providers_is_cast_by_the_arena_file(
    arena: Arena, chat: ScriptedChat, judge: ScriptedJudge, agent: ScriptedAgent
) -> None:
    chat.says("Where is my parcel?")
    judge.answer("RubricVerdict", lambda prompt: {"reason": "it is", "score": 1, "code": code_in(prompt)})
    polite = {"type": "llm_judge", "params": {"criteria": "polite"}}
    turns = [{"role": "shopper", "turns": 1, "assertions": [polite]}]
    roles = {"roles": [{"id": "shopper", "provider": "customer"}]}
    arena.bundle(
        config__arena={
            "scenarios": ["played.yaml"],
            "judges": [{"name": "tone", "provider": "grader"}],
            "self_play": roles,
        },
        played={"kind": "Scenario", "spec": {"id": "played", "turns": turns}},
    )
    group = {"support": agent_entry("bot"), "grader": model("wise"), "customer": model("user")}
    job = arena_job({})
    job["spec"]["providers"] = {"default": group}
    arena.write(job, provider("user", chat.base_url), provider("wise", judge.base_url), agent_runtime("bot", agent.url))
    assert arena.call("run") == 0
    (one,) = arena.results().scenarios
    assert (one.provider, [step.input for step in one.steps]) == ("bot (user: user)", ["Where is my parcel?"])
    assert len(judge.requests) == 1
    assert "customer:" in (arena.run / "manifest.yaml").read_text()


def test_a_user_who_is_played_ends_the_conversation_when_it_is_over(
    arena: Arena, chat: ScriptedChat, agent: ScriptedAgent
) -> None:
    said = "[CONVERSATION_COMPLETE]"
    chat.says("Where is my parcel?", "Thanks", said, "Where is my parcel?", said)
    check = {"type": "content_includes", "params": {"patterns": ["answer"]}}
    persona = {"kind": "Persona", "spec": {"id": "angry", "system_prompt": "You are angry."}}
    (arena.source / "angry.yaml").write_text(yaml.safe_dump(persona))
    turns = [
        {"role": "user", "content": "hello", "assertions": [check]},
        {"role": "shopper", "persona": "angry", "turns": 1, "max_turns": 4, "assertions": [check]},
    ]
    arena.bundle(
        config__arena={
            "kind": "Arena",
            "spec": {
                "scenarios": [{"file": "played.yaml"}],
                "providers": [],
                "self_play": {"enabled": True, "personas": [{"file": "angry.yaml"}]},
            },
        },
        played={"kind": "Scenario", "spec": {"id": "played", "trials": 2, "turns": turns}},
    )
    arena.write(
        arena_job({"default": [agent_entry("bot")], "selfplay": [model("user")]}),
        provider("user", chat.base_url),
        agent_runtime("bot", agent.url),
    )
    assert arena.call("run", "--concurrency", "1") == 0
    assert [[step.input for step in one.steps] for one in arena.results().scenarios] == [
        ["hello", "Where is my parcel?", "Thanks"],
        ["hello", "Where is my parcel?"],
    ]
    assert "You are angry." in chat.bodies[0]["messages"][0]["content"]


def test_a_cancelled_job_is_not_run(arena: Arena, chat: ScriptedChat) -> None:
    arena.write(arena_job({"default": [model("gpt")]}, cancelled=True), provider("gpt", chat.base_url))
    assert arena.call("run") == 4
    assert chat.requests == []


def test_the_objects_of_the_operator_are_shown(arena: Arena, capsys: pytest.CaptureFixture[str]) -> None:
    source = {"apiVersion": API_VERSION, "kind": "ArenaSource", "metadata": {"name": "bundle"}}
    files = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "files"}}
    arena.write(
        arena_job({"default": [model("gpt")]}, workers={"replicas": 2}, output=VOLUME),
        provider("gpt", "http://127.0.0.1:9", KEY),
        [source | {"spec": {"type": "configmap", "configMap": {"name": "files"}}}],
        [files | {"data": {path.name: path.read_text() for path in arena.source.iterdir()}}],
    )
    assert arena.call("render") == 0
    shown = list(yaml.safe_load_all(capsys.readouterr().out.rpartition("\narena: done")[0]))
    assert [each["kind"] for each in shown] == ["ConfigMap", "Job", "Job", "Job"]
    assert shown[2]["spec"]["completions"] == 2
    assert KEY not in str(shown)
    arena.write(arena_job({"default": [model("gpt")]}), provider("gpt", "http://127.0.0.1:9"))
    assert arena.call("render") == 2
    assert "ArenaSourceMissing" in capsys.readouterr().err
