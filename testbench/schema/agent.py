"""The agent under test as the rest of Testbench sees it: a protocol, and a fake that needs no network.

`testbench.execution` sends steps through an `AgentClient`; `testbench.schema.a2a_client.A2AStepClient` is the real one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from testbench.schema.models import Turn, Usage


@dataclass
class Outstanding:
    """A message that was sent and has no answer yet."""

    message_id: str
    task_id: str | None = None
    """The task that the agent made of it, once that is known."""
    delivered: bool = False
    """Whether it may have reached the agent."""


@dataclass
class Conversation:
    """What one scenario in flight has to carry from step to step."""

    context_id: str | None = None
    task_id: str | None = None
    """Set only while the agent's last task waits for input: the next message continues it."""
    seen: set[str] = field(default_factory=set)
    """Ids of messages and artifacts that an earlier step already reported."""
    outstanding: Outstanding | None = None
    """Set after a failed send: sending again means this same message, unless it is set to None before."""
    memory: Any = None
    """What a client has to remember where the agent itself does not; nobody else looks at it."""


@dataclass(frozen=True)
class AgentReply:
    """What the agent did with one message: its turns in order (the answer is the last agent turn with text)."""

    turns: tuple[Turn, ...]
    context_id: str | None = None
    task_id: str | None = None
    usage: Usage | None = None
    attempts: int = 1
    seconds: float | None = None
    """From the first request until the last reply was read, without our own work before and after; None if unknown."""
    time_to_first_token_ms: float | None = None


@dataclass(frozen=True)
class AgentDescription:
    """Who answers at the address, as far as its card says so."""

    name: str | None = None
    version: str | None = None
    protocol_version: str | None = None


class AgentClient(Protocol):
    """Sends messages to one agent; used by all scenarios in flight at once."""

    async def connect(self) -> AgentDescription:
        """Reach the agent before anything is sent.

        Raises:
            AgentError: nobody answers there.
        """

    async def send_step(self, text: str, conversation: Conversation) -> AgentReply:
        """Send one message, wait for the answer and return it; `conversation` is updated for the next.

        Called again after an error that can be retried, it takes up the same message: it asks for its task where one is
        known, and sends it once more, under the same id, only where it cannot have arrived. How long a task that is
        being worked on may take is the caller's to bound, by cancelling.

        Raises:
            AgentError: there is no answer; its `kind` says why.
        """

    async def close(self) -> None:
        """Release the connections."""


class FakeAgentClient:
    """Answers with what `answer` returns or raises; records what it was asked, by conversation."""

    def __init__(self, answer: Callable[[str], str] = lambda text: f"You said: {text}") -> None:
        self._answer = answer
        self.asked: list[tuple[str | None, str]] = []
        self.closed = False

    async def connect(self) -> AgentDescription:
        return AgentDescription(name="fake", version="1", protocol_version="1.0")

    async def send_step(self, text: str, conversation: Conversation) -> AgentReply:
        if conversation.context_id is None:
            conversation.context_id = f"ctx-{id(conversation):x}"
        self.asked.append((conversation.context_id, text))
        turn = Turn(type="agent", content=self._answer(text))
        return AgentReply(turns=(turn,), context_id=conversation.context_id)

    async def close(self) -> None:
        self.closed = True
