"""What the sample agent keeps is bounded: the oldest goes first, and nothing that is in use."""

from __future__ import annotations

from a2a.server.context import ServerCallContext
from a2a.types import Task, TaskState, TaskStatus

from testbench.samples.weather_dialogue import DialogueMemory, RecentConversations, RecentTasks


def test_conversation_that_was_silent_longest_is_forgotten() -> None:
    conversations = RecentConversations(limit=2)
    conversations.remember("a", DialogueMemory(city="London"))
    conversations.remember("b", DialogueMemory(city="Berlin"))
    conversations.remember("a", DialogueMemory(city="Tokyo"))
    conversations.remember("c", DialogueMemory(city="Sydney"))
    remembered = {name: conversations.recall(name).city for name in "abc"}
    assert remembered == {"a": "Tokyo", "b": None, "c": "Sydney"}


def _task(task_id: str, state: TaskState) -> Task:
    return Task(id=task_id, context_id="c", status=TaskStatus(state=state))


async def _known(tasks: RecentTasks, *task_ids: str) -> list[str]:
    context = ServerCallContext()
    return [task_id for task_id in task_ids if await tasks.get(task_id, context) is not None]


async def test_oldest_finished_task_is_forgotten_and_a_running_one_never() -> None:
    tasks, context = RecentTasks(limit=2), ServerCallContext()
    await tasks.save(_task("running", TaskState.TASK_STATE_WORKING), context)
    for name in ("first", "second", "third"):
        await tasks.save(_task(name, TaskState.TASK_STATE_COMPLETED), context)
    assert await _known(tasks, "running", "first", "second", "third") == ["running", "second", "third"]


async def test_paused_task_that_goes_on_counts_as_running() -> None:
    tasks, context = RecentTasks(limit=1), ServerCallContext()
    await tasks.save(_task("paused", TaskState.TASK_STATE_INPUT_REQUIRED), context)
    await tasks.save(_task("paused", TaskState.TASK_STATE_WORKING), context)
    await tasks.save(_task("other", TaskState.TASK_STATE_COMPLETED), context)
    await tasks.save(_task("another", TaskState.TASK_STATE_COMPLETED), context)
    assert await _known(tasks, "paused", "other", "another") == ["paused", "another"]
