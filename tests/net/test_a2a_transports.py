"""The transport that a card names: REST against a real server, and a plain word where we do not speak it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.run_phase import Desk
from tests.support.servers.scripted_agent import ScriptedAgent


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    return Desk(tmp_path)


@pytest.fixture(params=["", "/agents/weather"])
def rest(request: pytest.FixtureRequest) -> Iterator[ScriptedAgent]:
    """An agent that serves REST and nothing else, behind a host that its card does not know."""
    with ScriptedAgent(binding="HTTP+JSON", path=request.param, advertised_origin="http://nowhere.invalid") as part:
        yield part


def test_an_agent_that_offers_only_rest_is_asked_over_rest(desk: Desk, rest: ScriptedAgent) -> None:
    desk.ask(("hello", "!recall"), "!adk sunny", "!message hi", "!poll 2")
    assert desk.run(rest.url) == 0
    assert [step.answer for step in desk.steps()] == ["answer to: hello", "hello | !recall", "sunny", "hi", "polled"]
    assert {received.method for received in rest.received} == {"message:send"}
    assert rest.polls.total() > 0
    first, second = desk.executed().scenarios[0].steps
    assert first.context_id == second.context_id is not None
    assert [turn.type for turn in desk.steps()[2].turns] == ["human", "agent", "tool", "agent"]


def test_a_task_that_asks_back_is_continued_over_rest(desk: Desk, rest: ScriptedAgent) -> None:
    desk.ask(("!ask which city?", "Paris"))
    assert desk.run(rest.url) == 0
    first, second = rest.received
    assert first.task_id == ""
    assert second.task_id == desk.steps()[0].task_id


def test_a_failed_task_and_a_crashed_agent_are_errors_over_rest(desk: Desk, rest: ScriptedAgent) -> None:
    desk.ask("fine", "!fail no ticket", "!reject not mine", "!raise boom")
    assert desk.run(rest.url) == 0
    errors = [step.error for step in desk.steps()]
    assert [error and error.kind for error in errors] == [None, "failed", "rejected", "http_error"]
    assert errors[1] is not None
    assert errors[1].message == "no ticket"
    assert errors[3] is not None
    assert errors[3].message.startswith("HTTP 500: "), "REST has no word for why"


def test_an_agent_that_offers_only_grpc_is_refused_before_anything_is_sent(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.ask("hello")
    with ScriptedAgent(binding="GRPC") as agent:
        assert desk.run(agent.url) == 3
    error, hint, _ = capsys.readouterr().err.splitlines()
    assert "offers only GRPC" in error
    assert "JSON-RPC or REST" in hint
    assert agent.received == []
    assert desk.left() == set()
