"""A system that was down when a worker began, and may come back while others are being talked to.

Each message first tries to reach it, so that an outage is an error of that message: with its kind, and tried again as
any other. Made by `evaluation`.
"""

from __future__ import annotations

import asyncio

from testbench.schema.agent import AgentClient, AgentDescription, AgentReply, Conversation


class LateClient:
    """Implements `AgentClient` around one that is not connected yet."""

    def __init__(self, client: AgentClient) -> None:
        self._client = client
        self._connected: AgentDescription | None = None
        self._attempt: asyncio.Task[AgentDescription] | None = None

    async def connect(self) -> AgentDescription:
        """Conversations that come at the same time share one attempt: a dead address costs its timeout only once."""
        if self._connected is None:
            if self._attempt is None:
                self._attempt = asyncio.create_task(self._client.connect())
                self._attempt.add_done_callback(self._attempted)
            self._connected = await asyncio.shield(self._attempt)
        return self._connected

    async def send_step(self, text: str, conversation: Conversation) -> AgentReply:
        await self.connect()
        return await self._client.send_step(text, conversation)

    async def close(self) -> None:
        if self._attempt is not None:
            self._attempt.cancel()
        await self._client.close()

    def _attempted(self, attempt: asyncio.Task[AgentDescription]) -> None:
        self._attempt = None
        if not attempt.cancelled():
            attempt.exception()  # whoever waits has it; where nobody does any more, it is of no interest
