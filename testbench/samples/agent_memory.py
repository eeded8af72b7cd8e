"""What the sample agent keeps between messages, bounded: a load test of any length must not fill the machine.

The oldest is forgotten first. A conversation that is forgotten starts anew; a task that is forgotten is unknown.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from a2a.server.context import ServerCallContext
from a2a.server.tasks import InMemoryTaskStore
from a2a.types import Task, TaskState

from testbench.samples.weather_dialogue import Memory

MAX_CONVERSATIONS: Final = 10_000
MAX_TASKS: Final = 4_000

_RUNNING: Final = (TaskState.TASK_STATE_SUBMITTED, TaskState.TASK_STATE_WORKING)


class RecentConversations:
    """What was said, by context id."""

    def __init__(self, limit: int = MAX_CONVERSATIONS) -> None:
        self._limit = limit
        self._memories: OrderedDict[str, Memory] = OrderedDict()

    def recall(self, context_id: str) -> Memory:
        """What is remembered of the conversation; nothing for one that is new or forgotten."""
        return self._memories.get(context_id, Memory())

    def remember(self, context_id: str, memory: Memory) -> None:
        self._memories[context_id] = memory
        self._memories.move_to_end(context_id)
        if len(self._memories) > self._limit:
            self._memories.popitem(last=False)


class RecentTasks(InMemoryTaskStore):
    """The SDK's task store, without the oldest tasks. A task that runs is never forgotten.

    All callers are one user: the agent asks nobody who they are.
    """

    def __init__(self, limit: int = MAX_TASKS) -> None:
        super().__init__()
        self._limit = limit
        self._settled: OrderedDict[str, None] = OrderedDict()

    async def save(self, task: Task, context: ServerCallContext) -> None:
        await super().save(task, context)
        self._settled.pop(task.id, None)
        if task.status.state in _RUNNING:
            return
        self._settled[task.id] = None
        while len(self._settled) > self._limit:
            oldest, _ = self._settled.popitem(last=False)
            await self.delete(oldest, context)
