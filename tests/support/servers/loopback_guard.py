"""Keeps the test process off the network: a connection or a name look-up that would leave this machine raises.

It guards Python's sockets, which covers httpx, requests, urllib, asyncio and uvicorn. Compiled clients (obstore,
pyarrow) and child processes open their sockets elsewhere; what holds them is their environment, see
`S3Store.environment`.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

import pytest

NEVER_RESOLVES = (".invalid", ".test")
"""Reserved names (RFC 2606): looking one up fails as it would with a DNS server, and asks none."""


class LeftLoopbackError(RuntimeError):
    """Something tried to reach another machine. Not an OSError, so that no error handling takes it for an outage."""


def is_local(host: str | None) -> bool:
    """Whether a host name or address means this machine."""
    if host in (None, "", "localhost"):
        return True
    try:
        address = ip_address(str(host).partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


@contextmanager
def only_loopback(attempts: list[str]) -> Iterator[None]:
    """Guard the process; every attempt to leave it raises and is noted in `attempts`."""
    connect, connect_ex, getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def refuse(target: str) -> LeftLoopbackError:
        attempts.append(target)
        return LeftLoopbackError(f"a test tried to reach {target}")

    def checked(sock: socket.socket, address: Any) -> Any:
        if sock.family in (socket.AF_INET, socket.AF_INET6) and not is_local(address[0]):
            raise refuse(f"{address[0]}:{address[1]}")
        return address

    def resolve(host: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name is not None and name.endswith(NEVER_RESOLVES):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if not is_local(name) and not _is_address(name):
            raise refuse(name)
        return getaddrinfo(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", lambda sock, address: connect(sock, checked(sock, address)))
        patch.setattr(socket.socket, "connect_ex", lambda sock, address: connect_ex(sock, checked(sock, address)))
        patch.setattr(socket, "getaddrinfo", resolve)
        yield


def _is_address(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
