"""A simulated user talks to the system under test: its lines, the end, and whose fault a failure is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbench.arena.plan.model import SelfPlay
from testbench.arena.targets.chat_client import ChatClient
from testbench.arena.targets.simulated_user import (
    END,
    NOTHING_SAID,
    Player,
    UserLine,
    make_player,
    play,
    read_line,
    reword,
    swap_roles,
    write_instructions,
)
from testbench.arena.targets.target import ChatTarget, MockHandler, Tool
from testbench.arena.targets.tools import ToolBox
from testbench.errors import AgentError
from testbench.execution.executor import A2AExecutor, RunDependencies, StepRules, Trial
from testbench.net.clock import FakeClock
from testbench.net.pacing import Pacer, fixed_pace
from testbench.net.retry import RetryPolicy
from testbench.schema.agent import AgentReply, FakeAgentClient
from testbench.schema.ids import assign_ids
from testbench.schema.models import ExecutedScenario, Metric, Reference, Scenario, Step, Turn
from tests.support.servers.scripted_chat import Call, Says, ScriptedChat

METRIC = Metric(metric_name="builtin.non_empty")


@pytest.fixture
def system() -> Iterator[ScriptedChat]:
    with ScriptedChat() as part:
        yield part


@pytest.fixture
def user() -> Iterator[ScriptedChat]:
    with ScriptedChat() as part:
        yield part


Open = Callable[..., ChatClient]


@pytest.fixture
async def client_of() -> AsyncIterator[Open]:
    clients: list[ChatClient] = []

    def opened(chat: ScriptedChat, *tools: Tool) -> ChatClient:
        clients.append(ChatClient(ChatTarget("m", chat.base_url, system_prompt="own prompt"), ToolBox(tools)))
        return clients[-1]

    yield opened
    for client in clients:
        await client.close()


def executor(client: ChatClient) -> A2AExecutor:
    rules = StepRules(RetryPolicy(retries=0))
    dependencies = RunDependencies(clock=FakeClock(), chance=lambda: 0.0)
    return A2AExecutor(client, rules, dependencies, Pacer(fixed_pace(8)), lambda *_: None)


def scenario(*inputs: str) -> Trial:
    return Trial(assign_ids([Scenario(name="refund", steps=tuple(Step(input=text) for text in inputs))])[0])


async def run(trial: Trial, part: SelfPlay, player: Player, hooks: A2AExecutor) -> ExecutedScenario:
    return await play(trial, part, player, hooks, scenario_id=trial.scenario.id)


def inputs(played: ExecutedScenario) -> list[str]:
    return [step.input for step in played.steps]


async def test_the_user_is_played_until_it_is_done(system: ScriptedChat, user: ScriptedChat, client_of: Open) -> None:
    user.says("User: where is my parcel?", "I want my money back.", f"Thank you, bye! {END}")
    tool = Tool("time", MockHandler("noon"))
    system.says("Hello.", Says("Let me see.", (Call("time", id="c1"),)), "On its way.", "Granted.")
    part = SelfPlay(instructions="You are Anna.", turns=1, max_turns=5, metrics=(METRIC,))
    played = await run(scenario("hi"), part, make_player(client_of(user)), executor(client_of(system, tool)))
    assert inputs(played) == ["hi", "where is my parcel?", "I want my money back."]
    assert [step.answer for step in played.steps] == ["Hello.", "On its way.", "Granted."]
    assert [step.metrics for step in played.steps] == [(), (METRIC,), (METRIC,)]
    assert [turn.type for turn in played.steps[1].turns] == ["human", "agent", "tool", "agent"]
    instructions, *messages = user.bodies[-1]["messages"]
    assert instructions["content"].startswith("You are Anna.\n\n")
    assert END in instructions["content"]
    assert "tools" not in user.bodies[-1]
    assert [(message["role"], message["content"]) for message in messages[1:]] == [
        ("assistant", "hi"),
        ("user", "Hello."),
        ("assistant", "where is my parcel?"),
        ("user", "Let me see.\n\nOn its way."),
        ("assistant", "I want my money back."),
        ("user", "Granted."),
    ]
    assert [message["content"] for message in system.bodies[-1]["messages"] if message["role"] == "user"] == [
        "hi",
        "where is my parcel?",
        "I want my money back.",
    ]


async def test_ids_are_the_same_in_every_run(system: ScriptedChat, user: ScriptedChat, client_of: Open) -> None:
    ids = set()
    for line in ("one thing", "another thing"):
        user.says(line)
        part = SelfPlay(turns=2)
        played = await run(scenario("hi"), part, make_player(client_of(user)), executor(client_of(system)))
        ids.add(tuple(step.id for step in played.steps))
    assert len(ids) == 1
    assert len(set(ids.pop())) == 3


async def test_a_player_without_permission_to_end_goes_on(
    system: ScriptedChat, user: ScriptedChat, client_of: Open
) -> None:
    user.says(f"one {END}", END, "two")
    played = await run(scenario(), SelfPlay(turns=2), make_player(client_of(user)), executor(client_of(system)))
    assert inputs(played) == ["one", "two"]
    assert END not in user.bodies[0]["messages"][0]["content"]
    assert END not in str(system.bodies)


async def test_a_conversation_ends_after_the_most_questions(
    system: ScriptedChat, user: ScriptedChat, client_of: Open
) -> None:
    part = SelfPlay(turns=1, max_turns=3)
    played = await run(scenario(), part, make_player(client_of(user)), executor(client_of(system)))
    assert len(played.steps) == 3


@pytest.mark.parametrize("said", ["", " \n", END, "x" * 8001])
async def test_a_player_that_says_nothing_of_use_is_not_the_systems_fault(
    system: ScriptedChat, user: ScriptedChat, client_of: Open, said: str
) -> None:
    user.says("one", said)
    part = SelfPlay(turns=3, metrics=(METRIC,))
    played = await run(scenario(), part, make_player(client_of(user)), executor(client_of(system)))
    assert [step.status for step in played.steps] == ["ok", "error"]
    last = played.steps[-1]
    assert (last.input, last.turns, last.metrics) == (NOTHING_SAID, (), (METRIC,))
    assert last.error is not None
    assert last.error.kind == "user_simulation"
    assert len(system.bodies) == 1


async def test_a_player_that_is_down_is_not_the_systems_fault(
    system: ScriptedChat, user: ScriptedChat, client_of: Open
) -> None:
    user.fail_next(status=401)
    played = await run(scenario("hi"), SelfPlay(turns=1), make_player(client_of(user)), executor(client_of(system)))
    error = played.steps[-1].error
    assert error is not None
    assert (error.kind, error.message) == (
        "user_simulation",
        "the simulated user gave no message: auth_required: HTTP 401: scripted 401",
    )


async def test_a_players_request_is_made_again_as_it_is_told(
    system: ScriptedChat, user: ScriptedChat, client_of: Open
) -> None:
    async def twice(request: Callable[[], Any]) -> AgentReply:
        try:
            return await request()  # type: ignore[no-any-return]  # the test does not need the types
        except AgentError:
            return await request()  # type: ignore[no-any-return]  # the test does not need the types

    user.says("one")
    user.fail_next()
    player = make_player(client_of(user), twice)
    played = await run(scenario(), SelfPlay(turns=1), player, executor(client_of(system)))
    assert inputs(played) == ["one"]


async def test_a_step_that_fails_ends_the_conversation(
    system: ScriptedChat, user: ScriptedChat, client_of: Open
) -> None:
    system.statuses(200, 400)
    played = await run(scenario("hi"), SelfPlay(turns=5), make_player(client_of(user)), executor(client_of(system)))
    assert [step.status for step in played.steps] == ["ok", "error"]
    assert played.steps[-1].error is not None
    assert played.steps[-1].error.kind == "http_error"


async def test_where_a_step_of_the_scenario_fails_nothing_is_played(
    system: ScriptedChat, user: ScriptedChat, client_of: Open
) -> None:
    system.fail_next(status=400)
    part = SelfPlay(turns=5)
    played = await run(scenario("hi", "ho"), part, make_player(client_of(user)), executor(client_of(system)))
    assert [step.status for step in played.steps] == ["error", "skipped"]
    assert user.bodies == []


async def test_an_agent_can_play_the_user_and_remembers_by_itself(system: ScriptedChat, client_of: Open) -> None:
    lines = iter(["one", "two"])
    user = FakeAgentClient(lambda _: next(lines))
    part = SelfPlay(instructions="You are Anna.", turns=2)
    system.says("Hello.", "Fine.")
    played = await run(scenario("hi"), part, make_player(user), executor(client_of(system)))
    assert inputs(played) == ["hi", "one", "two"]
    (_, first), (_, second) = user.asked
    assert first.startswith("You are Anna.")
    assert first.endswith("You: hi\n\nHello.")
    assert second == "Fine."
    assert len({context for context, _ in user.asked}) == 1


async def test_steps_can_be_said_in_other_words(system: ScriptedChat, user: ScriptedChat, client_of: Open) -> None:
    user.says("may I have a refund?")
    planned = assign_ids(
        [Scenario(name="s", steps=(Step(input="refund!", reference=Reference(response="yes"), metrics=(METRIC,)),))]
    )[0]
    played = await reword(Trial(planned), make_player(client_of(user)), executor(client_of(system)))
    (step,) = played.steps
    assert (step.id, step.input, step.reference) == (
        planned.steps[0].id,
        "may I have a refund?",
        planned.steps[0].reference,
    )
    assert step.turns[0].content == "may I have a refund?"
    assert user.bodies[0]["messages"][-1] == {"role": "user", "content": "refund!"}


async def test_where_other_words_cannot_be_found_the_steps_left_are_skipped(
    system: ScriptedChat, user: ScriptedChat, client_of: Open
) -> None:
    user.fail_next(status=400)
    played = await reword(scenario("one", "two"), make_player(client_of(user)), executor(client_of(system)))
    assert [(step.input, step.status) for step in played.steps] == [("one", "error"), ("two", "skipped")]
    assert system.bodies == []


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("hello", UserLine("hello", False)),
        ("  User:  hello \n", UserLine("hello", False)),
        (END, UserLine("", True)),
        ("bye [conversation complete]", UserLine("bye", True)),
        (f"Human: {END}", UserLine("", True)),
        ("", UserLine("", False)),
    ],
)
def test_a_line_is_read_without_label_and_marker(said: str, line: UserLine) -> None:
    assert read_line(said) == line


def test_an_agent_does_not_end_its_own_test() -> None:
    turns = [Turn(type="human", content="hi"), Turn(type="agent", content=f"done {END}")]
    assert END not in str(swap_roles(turns))


@given(st.lists(st.builds(Turn, type=st.sampled_from(["human", "agent", "tool"]), content=st.text(max_size=5))))
def test_roles_always_take_turns_from_user_to_user(turns: list[Turn]) -> None:
    roles = [message["role"] for message in swap_roles(turns)]
    assert roles[0] == roles[-1] == "user"


def test_the_marker_is_only_named_to_those_who_may_use_it() -> None:
    assert END in write_instructions(SelfPlay(turns=1, max_turns=2))
    assert END not in write_instructions(SelfPlay(turns=2, max_turns=2))
