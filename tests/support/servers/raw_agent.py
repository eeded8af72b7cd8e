"""A bare JSON-RPC agent with canned replies in the shape of A2A 0.3, whose own SDK cannot live next to the 1.x one.

For replies that no SDK's server would send, too: whatever JSON a test hands over goes out as the result, and a `Reply`
as it is, e.g. a stream (`event_stream`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from tests.support.servers.loopback import LoopbackServer, Reply
from tests.support.servers.scripting import Request

Json: TypeAlias = Mapping[str, Any]
Canned: TypeAlias = "Json | RpcError | Reply | Callable[[Json], Json | RpcError | Reply] | None"


@dataclass(frozen=True)
class RpcError:
    """A JSON-RPC error answer, e.g. `RpcError(-32601, "Method not found")`."""

    code: int
    message: str
    data: Any = None


@dataclass(frozen=True)
class Call:
    """One JSON-RPC call as it arrived."""

    method: str
    params: Json
    headers: Mapping[str, str]

    @property
    def message(self) -> Json:
        """The message of a `message/send`."""
        found: Json = self.params["message"]
        return found


class RawAgent(LoopbackServer):
    """`url` speaks 0.3; `message/send` echoes and `tasks/get` repeats the last task until a test says otherwise.

    `card`: True serves a 0.3 card, which offers `streaming` or not, False answers 404, a mapping is served as it is.
    """

    def __init__(self, *, card: bool | Json = True, streaming: bool = False) -> None:
        self._streaming = streaming
        self.calls: list[Call] = []
        self._card = card
        self._last_task: Json | None = None
        self._answers: dict[str, list[Canned]] = {}
        super().__init__()
        self.url = self.origin

    def answers(self, method: str, *results: Canned) -> None:
        """The results of this method in turn, the last one for good. A callable gets the call's params."""
        self._answers[method] = list(results)

    def reply_to(self, request: Request) -> Reply:
        if request.method == "GET":
            return self._card_reply(request)
        body = request.json()
        call = Call(body["method"], body.get("params") or {}, request.headers)
        self.calls.append(call)
        outcome = self._outcome(call)
        if isinstance(outcome, Reply):
            return outcome
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": body.get("id")}
        if isinstance(outcome, RpcError):
            reply["error"] = {"code": outcome.code, "message": outcome.message}
            if outcome.data is not None:
                reply["error"]["data"] = outcome.data
        else:
            reply["result"] = outcome
            self._last_task = outcome
        return _json_reply(reply)

    def _outcome(self, call: Call) -> Json | RpcError | Reply | None:
        if scripted := self._answers.get(call.method):
            outcome = scripted[0] if len(scripted) == 1 else scripted.pop(0)
            return outcome(call.params) if callable(outcome) else outcome
        if call.method == "message/send":
            text = "".join(part.get("text", "") for part in call.message["parts"])
            return task_03(f"answer to: {text}", message=call.message)
        if call.method == "tasks/get" and self._last_task is not None:
            return self._last_task
        return RpcError(-32601, "Method not found")

    def _card_reply(self, request: Request) -> Reply:
        if self._card is False or not request.path.startswith("/.well-known/agent"):
            return Reply(404, b"not found")
        return _json_reply(card_03(f"{self.origin}/", streaming=self._streaming) if self._card is True else self._card)


def event(result: Json) -> bytes:
    """A result as one event of a stream."""
    return b"data: " + json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}, ensure_ascii=False).encode() + b"\n\n"


def event_stream(*events: Json | bytes, cut: bool = False, size: int | None = None) -> Reply:
    """A streamed answer of these results (or bytes as they are) in pieces of `size`; `cut` breaks it off at the end."""
    pieces = [one if isinstance(one, bytes) else event(one) for one in events]
    if size is not None:
        whole = b"".join(pieces)
        pieces = [whole[place : place + size] for place in range(0, len(whole), size)]

    def sent() -> Iterator[bytes]:
        yield from pieces
        if cut:
            raise ConnectionError

    return Reply(200, headers={"content-type": "text/event-stream"}, pieces=sent())


def status_03(state: str, text: str = "", *, final: bool = False, task_id: str = "task-1") -> dict[str, Any]:
    """An event of a task's state."""
    status: dict[str, Any] = {"state": state}
    if text:
        status["message"] = message_03(text, message_id=f"status-{text}")
    about = {"taskId": task_id, "contextId": "context-1", "final": final}
    return {"kind": "status-update", "status": status} | about


def artifact_03(text: str, *, append: bool = False, id: str = "artifact-1", task_id: str = "task-1") -> dict[str, Any]:
    """An event of a piece of an artifact."""
    artifact = {"artifactId": id, "parts": [{"kind": "text", "text": text}]}
    about = {"taskId": task_id, "contextId": "context-1", "append": append}
    return {"kind": "artifact-update", "artifact": artifact} | about


def card_03(url: str, *, streaming: bool = False) -> dict[str, Any]:
    """An agent card of protocol 0.3."""
    skill = {"id": "raw", "name": "raw", "description": "canned replies", "tags": ["test"]}
    return {
        "name": "raw agent",
        "description": "canned replies",
        "version": "1",
        "protocolVersion": "0.3.0",
        "url": url,
        "preferredTransport": "JSONRPC",
        "capabilities": {"streaming": streaming},
        "defaultInputModes": ["text/plain"],
        "defaultOutputModes": ["text/plain"],
        "skills": [skill],
    }


def message_03(text: str, *, message_id: str = "reply-1", context_id: str = "context-1") -> dict[str, Any]:
    """A bare message of the agent."""
    parts = [{"kind": "text", "text": text}]
    return {"kind": "message", "messageId": message_id, "contextId": context_id, "role": "agent", "parts": parts}


def task_03(
    text: str = "",
    *,
    state: str = "completed",
    message: Json | None = None,
    history: Sequence[Json] = (),
    status_text: str = "",
    task_id: str = "task-1",
) -> dict[str, Any]:
    """A task whose artifact is `text` (none if empty); `message` is the user's, which gives the context id."""
    context_id = (message or {}).get("contextId") or "context-1"
    status: dict[str, Any] = {"state": state, "timestamp": "2030-01-01T00:00:00Z"}
    if status_text:
        status["message"] = message_03(status_text, message_id="status-1", context_id=context_id)
    task: dict[str, Any] = {"kind": "task", "id": task_id, "contextId": context_id, "status": status}
    task["history"] = [*([message] if message else []), *history]
    if text:
        task["artifacts"] = [{"artifactId": "artifact-1", "parts": [{"kind": "text", "text": text}]}]
    return task


def _json_reply(content: Any) -> Reply:
    return Reply(200, json.dumps(content).encode(), {"content-type": "application/json"})
