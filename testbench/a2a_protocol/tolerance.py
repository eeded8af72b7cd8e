"""An agent's JSON put into the form that the A2A SDK reads, so that a field that nobody needs never costs the answer.

Called by `testbench.a2a_protocol.reply_transport` with every reply and every event of a stream. The SDK is strict: one
time stamp without a zone, one state in capitals, and the whole reply is lost. What is well-formed comes back as it is,
but for its time stamps: nobody reads them, and the SDK needs longer for one than all of this takes. What is needed and
not understood (parts that are no list) stays as it came, for the SDK to refuse.

Two things have no place in the SDK's types and travel in a form of their own: integers beyond 2**53, which protobuf
would round (`exact_integer` reads them back), and a task's state that is not known (`state_as_sent`).
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

Generation = Literal["1.0", "0.3"]
Kind = Literal["task", "message", "status", "artifact"]
"""What a reply or an event of a stream holds; the last two are updates of a task."""
Json: TypeAlias = dict[str, Any]

ENVELOPES: Final[Mapping[str, Kind]] = {
    "task": "task",
    "message": "message",
    "msg": "message",
    "statusUpdate": "status",
    "artifactUpdate": "artifact",
}
"""The only key of a reply in 1.0."""
KINDS: Final[Mapping[str, Kind]] = {
    "task": "task",
    "message": "message",
    "status-update": "status",
    "artifact-update": "artifact",
}
"""The key `kind` of a reply in 0.3."""
OWN_FIELDS: Final = frozenset({"id", "messageId", "parts", "status", "artifact"})
"""What has one of them is no envelope."""
STATES: Final = (
    "submitted",
    "working",
    "completed",
    "failed",
    "canceled",
    "input-required",
    "rejected",
    "auth-required",
)
"""In the order of their numbers in 1.0, from 1 on."""
UNKNOWN: Final = "unknown"
USERS: Final = ("user", "human")
THOUGHTS: Final = frozenset({"thinking", "thought", "reasoning"})
"""Kinds of a part, and keys of its text, that say it was thought and not said."""

CAMEL_CASE: Final = {
    name: re.sub("_(.)", lambda found: found[1].upper(), name)
    for name in (
        "append_chunk", "artifact_id", "artifact_update", "context_id", "last_chunk", "media_type", "message_id",
        "mime_type", "reference_task_ids", "status_update", "task_id",
    )
} | {"messageID": "messageId", "contextID": "contextId", "taskID": "taskId", "artifactID": "artifactId"}  # fmt: skip

LARGEST_EXACT: Final = 2**53
"""Up to here a double, which is all that protobuf has, holds every integer."""
INTEGER_MARK: Final = "\ufdd0"
"""A code point that is no character: no text has it, and protobuf takes it."""
STATE_AS_SENT: Final = "testbench.state"
"""The key in a task's metadata under which a state that is not known is kept."""


def exact_integer(text: str) -> int | None:
    """Return the integer that `ReplyMender` put into this text; None for a text of the agent's own."""
    digits = text[1:] if text.startswith(INTEGER_MARK) else ""
    return int(digits) if re.fullmatch(r"-?\d{1,4300}", digits, re.ASCII) else None


@dataclass(frozen=True)
class ReplyMender:
    """Mends the JSON of one protocol generation.

    `big_integers` says that there may be integers to be kept beyond 2**53; without them the data of parts is not
    looked through.
    """

    generation: Generation
    big_integers: bool = True

    def reply(self, value: Any) -> Any:
        """Return the reply to a message, in the envelope of the generation; as it came if it is not understood."""
        found = unwrap(value)
        return value if found is None else self.envelope(found[0], self.body(*found))

    def task(self, value: Any) -> Any:
        """Return the reply to a question for a task, which has no envelope in either generation."""
        found = unwrap(value)
        if found is None or found[0] != "task":
            return value
        return self.body(*found) | ({"kind": "task"} if self.generation == "0.3" else {})

    def body(self, kind: Kind, value: Json) -> Json:
        """Return the mended content of an envelope."""
        if kind == "task":
            return self._task(value)
        if kind == "message":
            return self._message(value)
        update = self._ids(_fields(value), "taskId", "contextId")
        if kind == "artifact":
            return update | {"artifact": self._artifact(update.get("artifact"))}
        return self._with_status(update)

    def envelope(self, kind: Kind, body: Json) -> Json:
        """Return a body in the envelope of the generation."""
        if self.generation == "0.3":
            return body | {"kind": next(name for name, one in KINDS.items() if one == kind)}
        return {next(name for name, one in ENVELOPES.items() if one == kind): body}

    def _task(self, value: Json) -> Json:
        task = self._ids(_fields(value), "id", "contextId")
        if isinstance(task.get("artifacts"), list):
            task["artifacts"] = [self._artifact(one) for one in task["artifacts"] if isinstance(one, dict)]
        if "history" in task:
            history = task["history"] if isinstance(task["history"], list) else []
            task["history"] = [self._message(one) for one in history if isinstance(one, dict)]
        return self._with_status(task)

    def _with_status(self, holder: Json) -> Json:
        """A task or an update with its status mended; a state that is not known goes into the metadata."""
        self._metadata(holder)
        status = holder.get("status")
        if isinstance(status, str | int) and _state(status) is not None:
            status = {"state": status}
        if status is None and self.generation == "0.3":
            status = {}
        if not isinstance(status, dict):
            return holder
        status = _fields(status)
        sent = status.get("state")
        state = _state(sent)
        if state is None:
            holder["metadata"] = holder.get("metadata", {}) | {STATE_AS_SENT: "" if sent is None else str(sent)}
        if state is None or self.generation == "0.3" or not isinstance(sent, int):
            status["state"] = self._enum("TASK_STATE_", state or UNKNOWN)
        if "update" in status:
            status.setdefault("message", status.pop("update"))
        if "message" in status:
            if isinstance(status["message"], dict):
                status["message"] = self._message(status["message"])
            elif isinstance(status["message"], str):
                status["message"] = self._message({"role": "agent", "parts": [{"text": status["message"]}]})
            else:
                del status["message"]
        status.pop("timestamp", None)
        holder["status"] = status
        return holder

    def _message(self, value: Json) -> Json:
        message = self._ids(_fields(value), "messageId")
        for name in ("contextId", "taskId"):
            if name in message:
                message[name] = str(message[name])
        role = message.get("role")
        if not (self.generation == "1.0" and role in (1, 2)):
            spoken = str(role).lower().removeprefix("role_")
            message["role"] = self._enum("ROLE_", "user" if spoken in USERS else "agent")
        self._metadata(message)
        self._texts(message, "extensions", "referenceTaskIds")
        if self.generation == "0.3":
            message.setdefault("kind", "message")
        return self._with_parts(message)

    def _artifact(self, value: Any) -> Json:
        artifact = self._ids(_fields(value) if isinstance(value, dict) else {}, "artifactId")
        for name in ("name", "description"):
            if not isinstance(artifact.get(name, ""), str):
                del artifact[name]
        self._metadata(artifact)
        self._texts(artifact, "extensions")
        return self._with_parts(artifact)

    def _with_parts(self, holder: Json) -> Json:
        parts = holder.get("parts", holder.get("content", []))
        if isinstance(parts, str | dict):
            parts = [parts]
        if isinstance(parts, list):
            mended = (self._part(part) for part in parts)
            holder["parts"] = [part for part in mended if part is not None]
        return holder

    def _part(self, value: Any) -> Json | None:
        """A part as the generation writes it; None if it says nothing."""
        if isinstance(value, str):
            value = {"text": value}
        if not isinstance(value, dict):
            return None
        if isinstance(value.get("root"), dict):
            value = value["root"]
        part = _fields(value)
        kind = str(part.pop("kind", None) or part.pop("type", "")).lower()
        metadata = part.pop("metadata", None)
        thought = next((name for name in THOUGHTS if isinstance(part.get(name), str)), None)
        if thought is not None:
            part.setdefault("text", part.pop(thought))
        content = self._content(kind, part)
        if content is None:
            return None
        if isinstance(metadata, dict):
            content["metadata"] = self._exact(metadata)
        if (kind in THOUGHTS or thought is not None) and "text" in part:
            content["metadata"] = content.get("metadata", {}) | {"type": "thinking"}
        return content

    def _content(self, kind: str, part: Json) -> Json | None:
        text = part.get("text")
        if isinstance(text, int | float):
            text = str(text)
        others = [name for name in ("data", "file", "raw", "url", "bytes", "uri") if name in part]
        if isinstance(text, str) and (text or not others):
            return self._named("text", {"text": text}, part)
        if "data" in part and not (kind == "file" and isinstance(part["data"], str)):
            data = self._exact(part["data"])
            if self.generation == "0.3" and not kind and isinstance(data, dict) and data.keys() == {"data"}:
                data = data["data"]  # as REST has it
            if self.generation == "0.3" and not isinstance(data, dict):
                return {"kind": "data", "data": {"value": data}, "metadata": {"data_part_compat": True}}
            return self._named("data", {"data": data}, part)
        if others:
            return self._file(part)
        rest = {name: item for name, item in part.items() if name not in ("text", "mediaType", "filename")}
        return self._named("data", {"data": self._exact(rest)}, {}) if rest else None

    def _named(self, kind: str, content: Json, part: Json) -> Json:
        """Text or data; in 1.0 with the name and the media type that it may have there."""
        if self.generation == "0.3":
            return {"kind": kind} | content
        return content | {name: part[name] for name in ("filename", "mediaType") if isinstance(part.get(name), str)}

    def _file(self, part: Json) -> Json | None:
        file = _fields(part["file"]) if isinstance(part.get("file"), dict) else part
        raw = _first_text(file, "bytes", "raw", "data") or _undoubled(_first_text(file, "fileWithBytes"))
        url = _first_text(file, "uri", "url", "fileWithUri")
        name, media_type = _first_text(file, "name", "filename"), _first_text(file, "mimeType", "mediaType")
        if raw is not None:
            raw = _padded(raw)
        if raw is None and url is None:
            return None
        if self.generation == "0.3":
            place = {"bytes": raw} if raw is not None else {"uri": url}
            about = {"mimeType": media_type, "name": name}
            return {"kind": "file", "file": place | {key: value for key, value in about.items() if value is not None}}
        about = {"filename": name, "mediaType": media_type}
        place = {"raw": raw} if raw is not None else {"url": url}
        return place | {key: value for key, value in about.items() if value is not None}

    def _ids(self, holder: Json, *names: str) -> Json:
        """Ids as text; 0.3 demands them even where nobody asks for them."""
        for name in names:
            found = holder.get(name)
            if found is not None:
                holder[name] = str(found)
            elif self.generation == "0.3":
                holder[name] = ""
        return holder

    def _metadata(self, holder: Json) -> None:
        if "metadata" in holder:
            if isinstance(holder["metadata"], dict):
                holder["metadata"] = self._exact(holder["metadata"])
            else:
                del holder["metadata"]

    @staticmethod
    def _texts(holder: Json, *names: str) -> None:
        for name in names:
            if name in holder:
                texts = holder[name] if isinstance(holder[name], list) else []
                holder[name] = [text for text in texts if isinstance(text, str)]

    def _enum(self, prefix: str, name: str) -> str:
        if self.generation == "0.3":
            return name
        return prefix + ("UNSPECIFIED" if name == UNKNOWN else name.upper().replace("-", "_"))

    def _exact(self, value: Any) -> Any:
        return _marked(value) if self.big_integers else value


def unwrap(value: Any) -> tuple[Kind, Json] | None:
    """Return what a reply or an event holds, whichever generation it is written in; None if that is not known."""
    if not isinstance(value, dict):
        return None
    value = _fields(value)
    if OWN_FIELDS.isdisjoint(value):
        for name, kind in ENVELOPES.items():
            if isinstance(value.get(name), dict):
                return kind, value[name]
    declared = KINDS.get(str(value.get("kind", "")).lower().replace("_", "-"))
    if declared is not None:
        return declared, value
    if "artifact" in value:
        return "artifact", value
    if "messageId" in value or ("parts" in value and "status" not in value):
        return "message", value
    if "status" in value and "taskId" in value and "id" not in value:
        return "status", value
    return ("task", value) if "id" in value or "status" in value else None


def state_as_sent(metadata: Mapping[str, Any]) -> str | None:
    """Return the state that a task was sent with where it is not a known one, empty where there was none."""
    found = metadata.get(STATE_AS_SENT)
    return found if isinstance(found, str) else None


def _fields(value: Mapping[str, Any]) -> Json:
    """The fields in camelCase; null says nothing."""
    return {CAMEL_CASE.get(name, name): item for name, item in value.items() if item is not None}


def _state(value: Any) -> str | None:
    """A task's state in the words of 0.3; None if it is not known."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return (UNKNOWN, *STATES)[value] if 0 <= value <= len(STATES) else None
    words = str(value).strip().lower().replace("_", "-").replace(" ", "-").removeprefix("task-state-")
    words = {"cancelled": "canceled", "unspecified": UNKNOWN}.get(words, words)
    return words if words in STATES or words == UNKNOWN else None


def _first_text(value: Mapping[str, Any], *names: str) -> str | None:
    return next((value[name] for name in names if isinstance(value.get(name), str)), None)


def _padded(base64: str) -> str | None:
    """Bytes as both generations decode them; None if they are none."""
    if len(base64) % 4 == 0 and "-" not in base64 and "_" not in base64 and base64.isascii():
        return base64
    bare = "".join(base64.split()).rstrip("=").translate(str.maketrans("-_", "+/"))
    return bare + "=" * (-len(bare) % 4) if len(bare) % 4 != 1 and bare.isascii() else None


def _undoubled(base64: str | None) -> str | None:
    """Bytes as REST has them in 0.3, where the SDK's servers encode them twice."""
    try:
        once = b64decode(base64 or "", validate=True).decode("ascii")
        b64decode(once, validate=True)
    except ValueError:
        return base64
    return once if base64 else None


def _marked(value: Any) -> Any:
    """The value with each integer that a double cannot hold as a text that says so."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if -LARGEST_EXACT <= value <= LARGEST_EXACT else f"{INTEGER_MARK}{value}"
    if isinstance(value, dict):
        return {name: _marked(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_marked(item) for item in value]
    return value
