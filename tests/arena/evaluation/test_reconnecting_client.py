"""A system that was down at the beginning: each message says so, and the first one after its return gets an answer."""

from __future__ import annotations

import asyncio

import pytest

from testbench.arena.evaluation.worker import ReconnectingClient
from testbench.errors import AgentError
from testbench.schema.agent import AgentDescription, Conversation, FakeAgentClient


class Away(FakeAgentClient):
    """Cannot be reached until `back` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.attempts = 0
        self.back = False

    async def connect(self) -> AgentDescription:
        self.attempts += 1
        await asyncio.sleep(0)
        if not self.back:
            raise AgentError("nobody is there", kind="unreachable", retryable=True, delivered=False)
        return await super().connect()


async def test_messages_at_the_same_time_share_one_attempt() -> None:
    away = Away()
    client = ReconnectingClient(away)
    said = await asyncio.gather(*(client.send_step("hello", Conversation()) for _ in range(5)), return_exceptions=True)
    assert [type(one) for one in said] == [AgentError] * 5
    assert away.attempts == 1
    with pytest.raises(AgentError):
        await client.send_step("hello", Conversation())
    assert away.attempts == 2
    assert away.asked == []


async def test_after_its_return_it_is_asked_like_any_other() -> None:
    away = Away()
    client = ReconnectingClient(away)
    with pytest.raises(AgentError):
        await client.send_step("hello", Conversation())
    away.back = True
    for _ in range(3):
        assert (await client.send_step("hello", Conversation())).turns[-1].content == "You said: hello"
    assert away.attempts == 2
    await client.close()
    assert away.closed
