"""Two pages for the kubelet's probes: `/healthz` while the process works, `/readyz` once it has seen the cluster."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

PATIENCE_S: Final = 5.0


@asynccontextmanager
async def served(port: int, ready: Callable[[], bool]) -> AsyncIterator[int]:
    """Serve both pages on this port of all addresses while inside; yields the port, which 0 leaves to the machine."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await asyncio.wait_for(reader.readline(), PATIENCE_S)
            writer.write(_page(line.split(b" ")[1:2], ready()))
            await writer.drain()
        except (TimeoutError, ConnectionError, ValueError):
            pass  # whoever asked will ask again
        finally:
            writer.close()

    server = await asyncio.start_server(answer, None, port)
    async with server:
        yield next(each.getsockname()[1] for each in server.sockets if each.family == socket.AF_INET)


def _page(path: list[bytes], ready: bool) -> bytes:
    known = path in ([b"/healthz"], [b"/readyz"])
    good = path == [b"/healthz"] or ready
    status = b"200 OK" if known and good else b"503 Service Unavailable" if known else b"404 Not Found"
    return b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
