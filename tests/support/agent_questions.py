"""One message to an agent on loopback by the client of a run, and what came of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from testbench.errors import AgentError
from testbench.net.clock import FakeClock
from testbench.schema.a2a_client import A2AStepClient, ClientSettings
from testbench.schema.agent import AgentReply, Conversation


@asynccontextmanager
async def connected(url: str, **settings: Any) -> AsyncIterator[A2AStepClient]:
    """A client that has reached the agent, with these `ClientSettings`."""
    client = A2AStepClient(ClientSettings(url, **settings), clock=FakeClock())
    try:
        await client.connect()
        yield client
    finally:
        await client.close()


async def ask(url: str, text: str = "hi", conversation: Conversation | None = None, **settings: Any) -> AgentReply:
    """Send one message and return the reply."""
    async with connected(url, **settings) as client:
        return await client.send_step(text, conversation or Conversation())


async def fault(url: str, text: str = "hi", **settings: Any) -> AgentError:
    """Send one message that must fail, and return its error."""
    with pytest.raises(AgentError) as caught:
        await ask(url, text, **settings)
    return caught.value


def answer(reply: AgentReply) -> str:
    """Return the last words of a reply."""
    return reply.turns[-1].content
