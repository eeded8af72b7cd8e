"""What an A2A agent said, as turns: pure functions over the messages and tasks of the SDK.

Called by `testbench.schema.a2a_client` with every reply. Agents put the same things in different places: tool calls
into the history, into artifacts or into a message's metadata; the answer into artifacts, the status or the history.

What an agent thought, and what it said of its progress ("Working…", or the answer once more, word by word), is no turn:
it is kept beside the answer, as `thoughts` and `progress`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from a2a.types import Artifact, Message, Part, Role, Task, TaskState

from testbench.a2a_protocol.parts import (
    PartItem,
    are_chunks,
    interrupt_question,
    items_of_metadata,
    items_of_parts,
    join_chunks,
    join_texts,
    json_text,
    usage_of,
)
from testbench.schema.models import ToolCall, Turn, Usage

Source = Literal["history", "status", "artifact"]


@dataclass(frozen=True)
class Said:
    """The agent's turns of one step in order; if it answered, the answer is the last one."""

    turns: tuple[Turn, ...]
    answered: bool
    """Whether there is a text or, at least, a file or a tool call."""
    usage: Usage | None = None


@dataclass(frozen=True)
class _Group:
    """What one message or one artifact holds."""

    source: Source
    items: tuple[PartItem, ...]


def read_message(message: Message) -> Said:
    """The turns of a bare message."""
    group = _Group("status", _message_items(message))
    return _put_together([group], usage_of(message.metadata), ("status",))


def read_task(task: Task, message_id: str, seen: set[str], *, continued: bool) -> Said:
    """The turns that a task gained by our message `message_id`; what is found new is added to `seen`.

    `continued` says that the task was already there before the message, so that it holds what was reported before.
    """
    groups = [_Group("history", items) for items in _new_history(task, message_id, seen, continued=continued)]
    new_artifacts = [_new_parts(task, artifact, seen, continued=continued) for artifact in task.artifacts]
    groups += [_Group("artifact", items) for items in new_artifacts if items]
    if task.status.HasField("message") and _first_sight(task.status.message, seen):
        groups.append(_Group("status", _message_items(task.status.message)))
    if task.status.state == TaskState.TASK_STATE_INPUT_REQUIRED:
        groups = [_Group(group.source, tuple(_question(item) for item in group.items)) for group in groups]
    usage = usage_of(task.metadata) or usage_of(*(artifact.metadata for artifact in task.artifacts))
    # An artifact is what a finished task brought forth; a task that waits says in its status what for.
    finished = task.status.state == TaskState.TASK_STATE_COMPLETED
    order: tuple[Source, ...] = ("artifact", "status") if finished else ("status", "artifact")
    return _put_together(groups, usage or usage_of(task.status.message.metadata), order)


def status_text(task: Task) -> str:
    """What the agent said about the task's state; empty if nothing."""
    return join_texts([item.text for item in _message_items(task.status.message) if item.kind == "text"])


def state_name(task: Task) -> str:
    """The task's state in plain words, e.g. `input required`."""
    return TaskState.Name(task.status.state).removeprefix("TASK_STATE_").replace("_", " ").lower()


def _new_history(task: Task, message_id: str, seen: set[str], *, continued: bool) -> Iterator[tuple[PartItem, ...]]:
    """What the agent said after our message; agents that repeat our message in the history exist."""
    own = next((place for place, message in enumerate(task.history) if message.message_id == message_id), None)
    known = seen if continued else set()
    for message in task.history[0 if own is None else own + 1 :]:
        if message.role != Role.ROLE_USER and message.message_id not in known:
            yield _message_items(message)
        if message.message_id:
            seen.add(message.message_id)


def _first_sight(message: Message, seen: set[str]) -> bool:
    known = message.message_id in seen
    if message.message_id:
        seen.add(message.message_id)
    return not known


def _new_parts(task: Task, artifact: Artifact, seen: set[str], *, continued: bool) -> tuple[PartItem, ...]:
    """An artifact may grow from step to step, and its id means something only within its task."""
    new: list[Part] = []
    for place, part in enumerate(artifact.parts):
        key = f"{task.id}/{artifact.artifact_id}/{place}/{hash(part.SerializeToString(deterministic=True))}"
        if not continued or key not in seen:
            new.append(part)
        seen.add(key)
    return items_of_parts(new)


def _message_items(message: Message) -> tuple[PartItem, ...]:
    items = items_of_parts(message.parts)
    named = {item.call.name for item in items if item.call}
    return (
        tuple(item for item in items_of_metadata(message.metadata) if item.call and item.call.name not in named) + items
    )


def _question(item: PartItem) -> PartItem:
    """What a waiting task asks, also where it is an interrupt of LangGraph."""
    asked = interrupt_question(item.value) if item.kind == "data" else None
    return item if asked is None else PartItem("text", text=asked)


def _put_together(all_groups: Sequence[_Group], usage: Usage | None, order: Sequence[Source]) -> Said:
    """All turns once, and the answer last: agents repeat in an artifact what the history already said."""
    thoughts = [item.text for group in all_groups for item in group.items if item.kind == "thought"]
    spoken = [
        _Group(group.source, tuple(item for item in group.items if item.kind != "thought")) for group in all_groups
    ]
    answer, answer_items = _answer(spoken, order)
    groups, progress = _without_progress(spoken, answer, answer_items)
    used = {id(item) for item in answer_items}
    known_ids: set[str] = set()
    known: list[PartItem] = []
    turns: list[Turn] = []
    for group in groups:
        fresh = []
        for item in group.items:
            repeated = item.id in known_ids if item.id else group.source != "history" and item in known
            if id(item) not in used and not repeated:
                fresh.append(item)
            known_ids |= {item.id} if item.id else set()
        known += fresh
        turns += [
            turn
            for turn in _turns(fresh, group.source)
            if not (turn.type == "agent" and answer and turn.content == answer)
        ]
    if answer or answer_items:
        turns.append(_turn(answer, answer_items, thoughts=_unique(thoughts), progress=progress))
    acted = any(item.kind in ("call", "file") for group in groups for item in group.items)
    return Said(tuple(turns), answered=bool(answer) or acted, usage=usage)


def _answer(groups: Sequence[_Group], order: Sequence[Source]) -> tuple[str, tuple[PartItem, ...]]:
    """The final answer and the items that it is made of.

    All text of the first source in `order` that has any, as far as it follows the last tool; else the data there; else
    the last text on the way.
    """
    sources = [_after_last_tool([group for group in groups if group.source == source]) for source in order]
    for candidates in sources:
        if text := _joined(candidates):
            return text, _items_of(candidates)
    for candidates in sources:
        if data := [item for item in _items_of(candidates) if item.kind == "data"]:
            return "\n".join(json_text(item.value) for item in data), _items_of(candidates)
    spoken = _after_last_tool([group for group in groups if group.source == "history"])
    if spoken and all(_is_text(group) for group in spoken) and are_chunks([_joined([group]) for group in spoken]):
        return "".join(item.text for item in _items_of(spoken)), _items_of(spoken)
    for group in reversed([group for group in groups if group.source == "history"]):
        last = _after_last_tool([group])
        if text := _joined(last):
            return text, _items_of(last)
    return "", ()


def _without_progress(
    groups: Sequence[_Group], answer: str, answer_items: Sequence[PartItem]
) -> tuple[list[_Group], list[str]]:
    """The groups of which there are turns, and the texts of those that only tell of progress.

    Where the answer is elsewhere, these are the messages of text alone after the last tool; those before a tool call
    are what the agent said when it went to work. What adds up to the answer is not told again.
    """
    used = {id(item) for item in answer_items}
    if not answer or any(id(item) in used for group in groups if group.source == "history" for item in group.items):
        return list(groups), []
    acting = [place for place, group in enumerate(groups) if group.source == "history" and not _is_text(group)]
    kept, told = [], []
    for place, group in enumerate(groups):
        after = group.source == "status" or (group.source == "history" and place > max(acting, default=-1))
        if after and _is_text(group) and not any(id(item) in used for item in group.items):
            told += [item.text for item in group.items]
        else:
            kept.append(group)
    repeats = answer.strip() in "".join(told) or answer.strip() in "\n".join(told)
    if are_chunks(told):
        told = ["".join(told)]
    return kept, [] if repeats else _unique(text for text in told if text.strip())


def _is_text(group: _Group) -> bool:
    return all(item.kind == "text" for item in group.items)


def _unique(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _after_last_tool(groups: Sequence[_Group]) -> list[_Group]:
    """What follows the last tool call or result; everything, if there is none."""
    result: list[_Group] = []
    for group in reversed(groups):
        last = max((place for place, item in enumerate(group.items) if item.kind in ("call", "result")), default=-1)
        if group.items[last + 1 :]:
            result.insert(0, _Group(group.source, group.items[last + 1 :]))
        if last >= 0:
            break
    return result


def _joined(groups: Sequence[_Group]) -> str:
    """The text of all groups, one after the other; empty where it is nothing but white space."""
    texts = [_text(group.items, group.source) for group in groups]
    return "\n".join(text for text in texts if text.strip())


def _text(items: Iterable[PartItem], source: Source) -> str:
    join = join_chunks if source == "artifact" else join_texts
    return join([item.text for item in items if item.kind == "text"])


def _items_of(groups: Sequence[_Group]) -> tuple[PartItem, ...]:
    return tuple(item for group in groups for item in group.items)


def _turns(items: Iterable[PartItem], source: Source) -> Iterator[Turn]:
    """Turns in the order of the items; neighbours of a kind share one."""
    waiting: list[PartItem] = []
    for item in items:
        if waiting and (_kind(item) != _kind(waiting[0]) or item.kind == "result"):
            yield _turn_of(waiting, source)
            waiting = []
        waiting.append(item)
    if waiting:
        yield _turn_of(waiting, source)


def _kind(item: PartItem) -> str:
    return item.kind if item.kind in ("call", "result") else "said"


def _turn_of(items: Sequence[PartItem], source: Source) -> Turn:
    if items[0].kind == "call":
        return Turn(type="agent", tool_calls=tuple(_call(item) for item in items))
    if items[0].kind == "result":
        return Turn(type="tool", content=items[0].text)
    return _turn(_text(items, source), items)


def _call(item: PartItem) -> ToolCall:
    if item.call is None:
        raise ValueError("an item of the kind 'call' has a call")
    return item.call


def _turn(text: str, items: Sequence[PartItem], thoughts: Sequence[str] = (), progress: Sequence[str] = ()) -> Turn:
    """What the agent said; data and files that came with it are kept beside the text."""
    beside = {
        name: values
        for name, values in (
            ("data", [item.value for item in items if item.kind == "data"]),
            ("files", [item.value for item in items if item.kind == "file"]),
            ("thoughts", thoughts),
            ("progress", progress),
        )
        if values
    }
    return Turn.model_validate({"type": "agent", "content": text} | beside)
