"""The events of a streamed reply, put together into the task or the message that the agent would have sent at once.

Called by `testbench.a2a_protocol.reply_transport`. The result has the form of a reply that was not streamed, so that
whoever reads it need not know the difference: updates of an artifact are appended to it or replace it, and a status
that is followed by another leaves its message in the history, as the agent's own server keeps it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from testbench.a2a_protocol.tolerance import Json, Kind, ReplyMender, unwrap

UNFINISHED: Final = frozenset({"", "submitted", "working", "unknown", "unspecified"})
"""States of a task after which more events are to come."""

LONGEST_TOKEN: Final = 20
"""Characters: two words that begin alike are two tokens, and more is a text that goes on."""


@dataclass(frozen=True)
class ServerEvent:
    """One event of a stream: its name, which is `message` where it has none, and its data."""

    name: str
    data: str


class EventParser:
    """Reads Server-Sent Events out of bytes that are cut anywhere, also within a character."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._name = "message"
        self._data: list[str] = []
        self._first = True

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """Return the events that these bytes complete."""
        if self._first and chunk:
            chunk, self._first = chunk.removeprefix(b"\xef\xbb\xbf"), False
        self._rest.append(chunk)
        if b"\n" not in chunk and b"\r" not in chunk:
            return []
        lines = b"".join(self._rest).splitlines(keepends=True)
        self._rest = [] if lines[-1].endswith(b"\n") else [lines.pop()]
        return [event for line in lines if (event := self._line(line.rstrip(b"\r\n").decode(errors="replace")))]

    def end(self) -> list[ServerEvent]:
        """Return what is left where a server closes without the empty line."""
        return self.feed(b"\n\n")

    def _line(self, line: str) -> ServerEvent | None:
        if not line:
            event = ServerEvent(self._name, "\n".join(self._data)) if self._data else None
            self._name, self._data = "message", []
            return event
        field, _, value = line.partition(":")  # a comment, which keeps the connection open, has an empty field
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._name = value
        return None


class ReplyAssembly:
    """The reply that the events so far amount to."""

    def __init__(self, mender: ReplyMender) -> None:
        self._mender = mender
        self._kind: Kind | None = None
        self._body: Json = {}
        self._places: dict[str, int] = {}
        """Of the artifacts, by their ids."""
        self._sizes: dict[str, int] = {}
        self._status_size = 0
        self.size = 0
        """Characters of the events that the reply is made of; an artifact that is sent anew counts once."""
        self.finished = False
        """Whether the agent said that nothing more will come."""
        self.whole = True
        """Whether no event can have been missed."""

    @property
    def task_id(self) -> str | None:
        return self._body.get("id") or None if self._kind == "task" else None

    def add(self, event: Any, size: int = 0) -> None:
        """Take up the next event, of so many characters; one that is not understood says nothing."""
        found = unwrap(event)
        if found is None:
            return
        kind, body = found[0], self._mender.body(*found)
        if kind == "task":
            self._kind, self._body, self.whole = "task", body, True
            self._sizes, self._status_size, self.size = {}, 0, size
            self._places = {one.get("artifactId", ""): place for place, one in enumerate(body.get("artifacts") or ())}
        elif kind == "message":
            self._add_message(body)
            self.size += size
        elif kind == "status":
            self._add_status(body, size)
        else:
            self._add_artifact(body, size)
        state = str((self._body.get("status") or {}).get("state", "")).lower().removeprefix("task_state_")
        self.finished = kind == "message" or body.get("final") is True or state not in UNFINISHED

    def reply(self) -> Json | None:
        """Return the reply in its envelope, None without any event; a task that is not whole has not ended."""
        if self._kind is None:
            return None
        body = self._body
        if not self.whole:
            body = body | {"status": self._working()}
        return self._mender.envelope(self._kind, body)

    def _working(self) -> Json:
        return {"state": "working" if self._mender.generation == "0.3" else "TASK_STATE_WORKING"}

    def _task_of(self, update: Json) -> Json:
        """The task that an update is of; a stream about a task that was there before does not begin with it."""
        if self._kind != "task":
            self._kind = "task"
            self._body = {"id": update.get("taskId", ""), "contextId": update.get("contextId", "")}
            self._body["status"] = self._working()
        return self._body

    def _add_message(self, message: Json) -> None:
        if self._kind == "task":
            self._body.setdefault("history", []).append(message)
        else:
            self._kind, self._body = "message", message

    def _add_status(self, update: Json, size: int) -> None:
        task = self._task_of(update)
        status = update.get("status") or self._working()
        before = (task.get("status") or {}).get("message")
        if before and _goes_on(before, status.get("message")):
            self.size -= self._status_size
        elif before:
            task.setdefault("history", []).append(before)
        task["status"] = status
        self._status_size = size
        self.size += size
        if "metadata" in update:
            task["metadata"] = task.get("metadata", {}) | update["metadata"]

    def _add_artifact(self, update: Json, size: int) -> None:
        artifacts = self._task_of(update).setdefault("artifacts", [])
        new = update["artifact"]
        id = new.get("artifactId", "")
        place = self._places.setdefault(id, len(artifacts))
        if place == len(artifacts):
            artifacts.append(new)
        elif update.get("append"):
            old = artifacts[place]
            parts, metadata = old.get("parts") or [], old.get("metadata", {}) | new.get("metadata", {})
            parts += new.get("parts") or []
            artifacts[place] = old | new | {"parts": parts} | ({"metadata": metadata} if metadata else {})
            size += self._sizes.get(id, 0)
        else:
            artifacts[place] = new
        self.size += size - self._sizes.get(id, 0)
        self._sizes[id] = size


def _goes_on(before: Json, after: Json | None) -> bool:
    """Whether a status message is the one before once more with what came since, as some agents send each token."""
    if after is None:
        return False
    if before.get("messageId") and before.get("messageId") == after.get("messageId"):
        return True
    said, now = ([part.get("text") for part in message.get("parts") or ()] for message in (before, after))
    if len(said) != 1 or len(now) != 1 or not isinstance(said[0], str) or not isinstance(now[0], str):
        return False
    return len(said[0]) > LONGEST_TOKEN and now[0].startswith(said[0])


def text_of(event: Any) -> tuple[str, bool]:
    """Return the first text in an event, and whether it is of the answer itself and not of a status."""
    found = unwrap(event)
    if found is None:
        return "", False
    kind, value = found
    holders: list[Any] = [value.get("artifact") if kind == "artifact" else value if kind == "message" else None]
    if kind in ("task", "status"):
        holders = [*(value.get("artifacts") or ()), (value.get("status") or {}).get("message")]
    for place, holder in enumerate(holders):
        parts = (holder.get("parts") or holder.get("content")) if isinstance(holder, dict) else ()
        for part in parts or ():
            if isinstance(part, dict) and isinstance(part.get("text"), str) and part["text"].strip():
                said = kind in ("artifact", "message") or place < len(holders) - 1
                return part["text"], said
    return "", False
