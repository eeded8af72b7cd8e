"""Two pages for the kubelet's probes: `/healthz` while the API server is heard of, `/readyz` once it was seen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from testbench.errors import InputError

PATIENCE_S: Final = 5.0


@asynccontextmanager
async def served(port: int, healthy: Callable[[], bool], ready: Callable[[], bool]) -> AsyncIterator[int]:
    """Serve both pages on this port of all addresses while inside; yields the port, which 0 leaves to the machine.

    Raises:
        InputError: the port is not free.
    """
    pages = {b"/healthz": healthy, b"/readyz": ready}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await asyncio.wait_for(reader.readline(), PATIENCE_S)
            writer.write(_page(pages.get(b"".join(line.split(b" ")[1:2]))))
            await writer.drain()
        except (TimeoutError, ConnectionError, ValueError):
            pass  # whoever asked will ask again
        finally:
            writer.close()

    try:
        server = await asyncio.start_server(answer, None, port)
    except OSError as error:
        raise InputError(
            f"port {port} cannot be used: {error.strerror}", hint="Name another one with --health-port."
        ) from error
    async with server:
        yield min(server.sockets, key=lambda each: each.family).getsockname()[1]  # IPv4 comes before IPv6


def _page(good: Callable[[], bool] | None) -> bytes:
    status = b"404 Not Found" if good is None else b"200 OK" if good() else b"503 Service Unavailable"
    return b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
