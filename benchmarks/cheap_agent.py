"""What the benchmarks ask: an agent in a process of its own, as cheap as it can be, since it shares the machine.

Imported by `run.py` and `load.py` of this folder.
"""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any


class CheapServer(asyncio.Protocol):
    """HTTP/1.1 as far as the clients here speak it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.loop = asyncio.get_running_loop()
        self._waiting = b""

    def data_received(self, data: bytes) -> None:
        self._waiting += data
        while (end := self._waiting.find(b"\r\n\r\n")) >= 0:
            head = self._waiting[:end].lower()
            length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
            if len(self._waiting) < end + 4 + length:
                return
            body, self._waiting = self._waiting[end + 4 : end + 4 + length], self._waiting[end + 4 + length :]
            if head.startswith(b"get"):
                host = head.partition(b"host:")[2].split(b"\r\n")[0].strip().decode()
                self.write(json.dumps(card(host)).encode())
            else:
                self.reply(head, body)

    def reply(self, head: bytes, body: bytes) -> None:
        """Answer a POST, now or later."""
        raise NotImplementedError

    def write(self, content: bytes, kind: bytes = b"application/json") -> None:
        self.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n%s" % (kind, len(content), content)
        )


def card(host: str) -> dict[str, Any]:
    interface = {"url": f"http://{host}/", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
    about = {"name": "b", "description": "b", "version": "1", "capabilities": {}, "skills": []}
    modes = {"defaultInputModes": ["text/plain"], "defaultOutputModes": ["text/plain"]}
    return {**about, **modes, "supportedInterfaces": [interface]}


def answer(call: dict[str, Any], text: str) -> bytes:
    """A finished task with its history and one artifact."""
    message = call["params"]["message"]
    named = message["messageId"]
    task = {
        "id": f"t-{named}",
        "contextId": message.get("contextId") or f"c-{named}",
        "status": {"state": "TASK_STATE_COMPLETED", "timestamp": "2026-01-01T00:00:00Z"},
        "artifacts": [{"artifactId": f"a-{named}", "name": "answer", "parts": [{"text": text}]}],
        "history": [message],
    }
    return json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": {"task": task}}).encode()


def _serve(kind: type[CheapServer], parent: Connection) -> None:
    async def forever() -> None:
        server = await asyncio.get_running_loop().create_server(kind, "127.0.0.1", 0, backlog=2048)
        parent.send(server.sockets[0].getsockname()[1])
        gc.freeze()
        await server.serve_forever()

    asyncio.run(forever())


@contextmanager
def served(kind: type[CheapServer]) -> Iterator[str]:
    """The address of such a server."""
    mine, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=_serve, args=(kind, theirs), daemon=True)
    server.start()
    try:
        yield f"http://127.0.0.1:{mine.recv()}"
    finally:
        server.terminate()
        server.join()
