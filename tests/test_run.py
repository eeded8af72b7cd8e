"""Phase run as a user calls it: what is written, what is told, and how it ends."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from testbench.execution import run as execution
from testbench.net.retry import RetryPolicy
from testbench.schema.ids import assign_ids
from testbench.schema.models import Experiment
from tests.support.run_phase import OUTPUT, Desk
from tests.support.servers.scripted_agent import ScriptedAgent

if TYPE_CHECKING:
    from tests.support.servers.otlp_receiver import OtlpReceiver

RUN = Path(__file__).parents[1] / "testbench" / "run.py"


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    return Desk(tmp_path)


def test_the_output_holds_the_conversation_as_it_happened(desk: Desk, agent: ScriptedAgent) -> None:
    desk.ask(("hello", "!recall"), "!adk sunny", llm_as_a_judge_model="m")
    assert desk.run(agent.url, "my-workflow") == 0
    executed = desk.executed()
    asked = Experiment.model_validate_json((desk.folder / "data/datasets/experiment.json").read_bytes())
    assert executed.id.startswith("exp_")
    assert executed.llm_as_a_judge_model == "m"
    assert [scenario.id for scenario in executed.scenarios] == [scenario.id for scenario in assign_ids(asked.scenarios)]
    first, second = executed.scenarios[0].steps
    assert [(turn.type, turn.content) for turn in first.turns] == [("human", "hello"), ("agent", "answer to: hello")]
    assert second.answer == "hello | !recall"
    assert first.context_id == second.context_id is not None
    assert first.latency_ms is not None
    assert first.started_at is not None
    assert second.started_at is not None
    assert first.started_at < second.started_at
    (called,) = executed.scenarios[1].steps
    assert [turn.type for turn in called.turns] == ["human", "agent", "tool", "agent"]
    assert called.usage is not None
    assert called.usage.output_tokens == 30
    assert desk.left() == {Path(OUTPUT).name}


def test_the_record_says_who_was_asked_and_no_secret(
    desk: Desk, agent: ScriptedAgent, capfd: pytest.CaptureFixture[str]
) -> None:
    desk.ask("hi", "!fail with style")
    address = agent.url.replace("http://", "http://user:hidden-1@") + "/?key=hidden-2"
    assert desk.run(address, "w", "--header", "X-Api-Key: hidden-3", "--header", "X-Plain: 1") == 0
    run = desk.executed().run
    assert run is not None
    assert (run.agent_url, run.agent_name, run.workflow_name) == (f"{agent.url}/", "scripted agent", "w")
    assert agent.requests[-1].headers["x-api-key"] == "hidden-3"
    assert agent.requests[-1].headers["x-plain"] == "1"
    captured = capfd.readouterr()
    assert "hidden" not in captured.out + captured.err + (desk.folder / OUTPUT).read_text()


def test_headers_from_the_environment_are_one_a_line(
    desk: Desk, agent: ScriptedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.ask("hi")
    monkeypatch.setenv("TESTBENCH_RUN_HEADER", "X-One: a b\nX-Two: http://c:1/\n")
    assert desk.run(agent.url) == 0
    assert (agent.requests[-1].headers["x-one"], agent.requests[-1].headers["x-two"]) == ("a b", "http://c:1/")


def test_a_failed_step_is_an_error_and_never_an_answer(desk: Desk, agent: ScriptedAgent) -> None:
    desk.ask(("hello", "!fail no \x1b[31mticket", "later", "still later"), "other")
    assert desk.run(agent.url) == 0
    ok, failed, skipped, also, other = desk.steps()
    assert [step.status for step in (ok, failed, skipped, also, other)] == ["ok", "error", "skipped", "skipped", "ok"]
    assert [turn.type for turn in failed.turns] == ["human"]
    assert failed.error is not None
    assert failed.error.model_dump(exclude_none=True) == {
        "kind": "failed",
        "message": "no \\x1b[31mticket",
        "attempts": 1,
        "retryable": False,
    }
    assert skipped.turns == ()
    assert [received.text for received in agent.received].count("later") == 0


def test_the_agents_own_words_are_cut_to_a_sane_length(desk: Desk, agent: ScriptedAgent) -> None:
    desk.ask("!fail " + "x" * 10_000, "hi")
    assert desk.run(agent.url) == 0
    error = desk.steps()[0].error
    assert error is not None
    assert len(error.message) == 500


def test_continue_goes_on_with_the_conversation_after_an_error(desk: Desk, agent: ScriptedAgent) -> None:
    desk.ask(("hello", "!fail x", "!recall"))
    assert desk.run(agent.url, "--on-step-error", "continue") == 0
    assert [step.status for step in desk.steps()] == ["ok", "error", "ok"]
    assert desk.steps()[2].answer == "hello | !fail x | !recall"


def test_after_a_message_that_was_given_up_the_next_one_is_another(desk: Desk, agent: ScriptedAgent) -> None:
    desk.ask(("first", "second"))
    agent.fail_next(status=500)
    assert desk.run(agent.url, "--on-step-error", "continue") == 0
    ids = [json.loads(request.body)["params"]["message"]["messageId"] for request in agent.requests[1:]]
    assert len(set(ids)) == 2
    assert [step.answer for step in desk.steps()] == [None, "answer to: second"]


def test_scenarios_run_side_by_side_and_no_more_than_allowed(desk: Desk, agent: ScriptedAgent) -> None:
    desk.ask(*[f"question {number}" for number in range(12)])
    agent.delay(0.05)
    assert desk.run(agent.url, "--concurrency", "5") == 0
    assert agent.max_in_flight == 5
    assert [step.answer for step in desk.steps()] == [f"answer to: question {number}" for number in range(12)]


def test_what_the_agent_refuses_for_a_moment_is_sent_again(
    desk: Desk, agent: ScriptedAgent, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.ask("hi")
    agent.fail_next(status=503, retry_after=0)
    assert desk.run(agent.url, "--json") == 0
    assert json.loads(capsys.readouterr().out)["retries"] == 1
    assert desk.steps()[0].answer == "answer to: hi"


def test_an_agent_that_never_answers_is_named(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(execution, "CONNECTING", RetryPolicy(deadline_s=0.1))
    desk.ask("hi")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert desk.run(address) == 3
    assert capsys.readouterr().err.startswith(f"error: {address}: no answer within 0.1 s")


def test_an_agent_that_is_starting_gets_a_moment(desk: Desk, agent: ScriptedAgent) -> None:
    desk.ask("hi")
    agent.fail_card_next(1, status=503)
    assert desk.run(agent.url) == 0


def test_an_agent_that_is_down_is_told_at_once_and_nothing_is_written(
    desk: Desk, nobody: str, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.ask("hi")
    assert desk.run(nobody) == 3
    error, hint, last = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: {nobody}")
    assert hint.startswith("hint: ")
    assert last == "run: could not be done (exit 3)"
    assert desk.left() == set()


def test_nothing_but_failures_is_work_not_done(
    desk: Desk, agent: ScriptedAgent, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.ask("!fail x", "!fail y")
    for _ in range(2):
        assert desk.run(agent.url) == 3
        captured = capsys.readouterr()
        error = captured.err.splitlines()[0]
        assert error == "error: the agent answered not a single step, e.g. failed: x"
        assert captured.err.splitlines()[1].startswith("hint: ")
        assert captured.out.splitlines()[-1].startswith("run: could not be done (exit 3): ")
        assert "0 of 2 steps answered" in captured.out.splitlines()[-1]
        assert "failed 2" in captured.out
    assert [step.status for step in desk.steps()] == ["error", "error"]


@pytest.mark.parametrize(
    ("allowed", "code"), [("2", 0), ("1", 3), ("0.5", 0), ("0.49", 3), ("50%", 0), ("0", 3), ("-1", 2), ("few", 2)]
)
def test_the_error_budget_is_exceeded_by_more_than_it(
    desk: Desk, agent: ScriptedAgent, allowed: str, code: int
) -> None:
    """A step that was skipped after an error is not answered either."""
    desk.ask(("!fail x", "later"), "a", "b")
    assert desk.run(agent.url, "--fail-on-error", allowed) == code
    assert (desk.folder / OUTPUT).exists() == (code != 2)


def test_the_summary_counts(desk: Desk, agent: ScriptedAgent, capsys: pytest.CaptureFixture[str]) -> None:
    desk.ask(("a", "!fail x", "b"), "!reject y", "c")
    assert desk.run(agent.url) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "steps     5 in 3 scenarios: 2 answered, 2 failed, 1 skipped"
    assert lines[1] == "errors    failed 1, rejected 1"
    assert lines[2].startswith("latency   p50 ")
    assert lines[3].startswith("time      ")
    assert lines[4] == f"run: done (exit 0): 2 of 5 steps answered -> {OUTPUT}"


@pytest.mark.parametrize(("arguments", "streamed"), [((), True), (("--streaming", "off"), False)])
def test_where_the_card_offers_streams_the_time_to_the_first_token_is_told(
    desk: Desk, arguments: tuple[str, ...], streamed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with ScriptedAgent(streaming=True) as agent:
        desk.ask("a", "b")
        assert desk.run(agent.url, *arguments, "--json") == 0
        document = json.loads(capsys.readouterr().out)
        assert [step.answer for step in desk.steps()] == ["answer to: a", "answer to: b"]
        assert [step.time_to_first_token_ms is not None for step in desk.steps()] == [streamed, streamed]
        assert (document["time_to_first_token_p50_ms"] is not None) == streamed
        assert desk.run(agent.url, *arguments, "--fresh") == 0
        assert ("streamed  first token after p50" in capsys.readouterr().out) == streamed


def test_json_is_one_object(desk: Desk, agent: ScriptedAgent, capsys: pytest.CaptureFixture[str]) -> None:
    desk.ask("a", "!fail x")
    assert desk.run(agent.url, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    expected = {"phase": "run", "exit_code": 0, "steps": 2, "answered": 1, "errors": {"failed": 1}, "output": OUTPUT}
    assert {key: document[key] for key in expected} == expected


@pytest.mark.parametrize("document", [{}, {"scenarios": []}, {"scenarios": [{"name": "empty", "steps": []}]}])
def test_an_experiment_without_a_step_is_nothing_to_do(
    desk: Desk, agent: ScriptedAgent, document: dict[str, Any]
) -> None:
    desk.ask(**document)
    assert desk.run(agent.url) == 4
    assert agent.requests == []


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        (["localhost:8000"], "address"),
        (["ftp://agent"], "address"),
        (["http://"], "address"),
        (["http://[::1"], "address"),
        (["http://agent:99999"], "address"),
        (["http://agent/\x01"], "address"),
        (["http://agent..local"], "address"),
        (["http://agent", "--output", "."], "folder"),
        (["http://agent", "--output", "data"], "folder"),
        (["http://agent", "--output", ""], "folder"),
        (["http://agent", "--concurrency", "0"], "--concurrency"),
        (["http://agent", "--timeout", "0"], "--timeout"),
        (["http://agent", "--timeout", "nan"], "--timeout"),
        (["http://agent", "--header", "no colon hidden"], "--header"),
        (["http://agent", "--header", ": hidden"], "--header"),
        (["http://agent", "--header", "X-A: hidden\r\nX-B: 1"], "--header"),
    ],
)
def test_a_wrong_argument_is_bad_input(
    desk: Desk, arguments: list[str], place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.ask("hi")
    assert desk.run(*arguments) == 2
    captured = capsys.readouterr()
    assert place in captured.err.splitlines()[0]
    assert "hidden" not in captured.err


def test_every_scenario_is_a_trace_that_the_agent_takes_part_in(
    desk: Desk, agent: ScriptedAgent, otlp: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp.endpoint)
    desk.ask(("hello", "!fail no ticket"))
    assert desk.run(agent.url, "w") == 0
    (scenario,) = desk.executed().scenarios
    root, first, second = (otlp.span(name) for name in ("scenario scenario 1", "step 1", "step 2"))
    assert root.trace_id == first.trace_id == scenario.trace_id
    assert [first.span_id, second.span_id] == [step.span_id for step in scenario.steps]
    assert first.attributes["user_input"] == "hello"
    assert first.attributes["context_id"] == scenario.steps[0].context_id
    assert first.attributes["message_count"] == 2
    assert (second.status, second.status_message) == ("ERROR", "no ticket")
    assert root.status == "ERROR"
    assert {received.headers["traceparent"].split("-")[1] for received in agent.received} == {root.trace_id}
    assert {span.trace_id for span in otlp.spans} == {root.trace_id}


def test_formats_of_traces_that_are_not_installed_do_not_end_the_run(desk: Desk, agent: ScriptedAgent) -> None:
    """Clusters set them for all pods, and the SDK reads them as soon as its propagators are imported."""
    desk.ask("hi")
    environment = os.environ | {"OTEL_PROPAGATORS": "tracecontext,b3"}
    ended = subprocess.run([sys.executable, str(RUN), agent.url], env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "traceparent" in agent.requests[-1].headers


def test_without_a_collector_ids_are_recorded_all_the_same(desk: Desk, agent: ScriptedAgent) -> None:
    desk.ask("hi")
    assert desk.run(agent.url) == 0
    (scenario,) = desk.executed().scenarios
    assert agent.received[0].headers["traceparent"].split("-")[1] == scenario.trace_id
    assert scenario.steps[0].span_id
