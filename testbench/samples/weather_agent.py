"""The sample weather agent as a process: what the demo, the benchmarks and the end-to-end tests start.

    python -m testbench.samples.weather_agent --port 0
    weather agent ready at http://127.0.0.1:41357/

That line is all of its standard output, and comes when the agent takes connections. SIGTERM or Ctrl-C ends it with 0.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import math
import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from types import FrameType
from typing import TYPE_CHECKING, Final, NoReturn

from testbench.errors import ExitCode, InputError, TestbenchError, WorkError
from testbench.safe_text import printable
from testbench.samples.weather_knowledge import CITIES, DEFAULT_NOW, check_time_zones

if TYPE_CHECKING:
    from starlette.applications import Starlette

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 11010
SHUTDOWN_GRACE_S: Final = 2
"""Whole seconds that answers in flight have after a signal."""


@dataclass(frozen=True)
class SampleAgentSettings:
    """What the command line said. `public_url` is None where the address it listens on is the one to advertise."""

    host: str
    port: int
    public_url: str | None
    now: datetime
    latency_s: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal comes; the exit code."""
    # Also what uvicorn restores, and calls once more, after it has shut down on a signal.
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    try:
        _serve(_parse(arguments))
    except TestbenchError as error:
        print(f"error: {printable(error.message)}\nhint: {printable(error.hint)}", file=sys.stderr)
        return error.exit_code
    return ExitCode.DONE


def _leave(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(ExitCode.DONE)


def _parse(arguments: Sequence[str] | None) -> SampleAgentSettings:
    parser = _Parser(
        prog="python -m testbench.samples.weather_agent",
        description=f"A sample A2A agent that knows the weather and the local time in {len(CITIES)} cities: "
        f"{', '.join(city.name for city in CITIES)}. The same conversation always gets the same answers.",
    )
    parser.add_argument("--host", default=DEFAULT_HOST, help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", default=DEFAULT_PORT, type=_port, help="0 takes a free one (default: %(default)s)")
    parser.add_argument(
        "--public-url", metavar="URL", help="address in the agent card, where clients do not reach it at HOST:PORT"
    )
    parser.add_argument(
        "--now",
        metavar="ISO",
        type=_instant,
        default=DEFAULT_NOW,
        help=f"the agent's time, which stands still (default: {DEFAULT_NOW.isoformat()}); without an offset it is UTC",
    )
    parser.add_argument(
        "--latency-ms", metavar="N", type=_milliseconds, default=0.0, help="wait before every answer (default: 0)"
    )
    parsed = parser.parse_args(arguments)
    return SampleAgentSettings(parsed.host, parsed.port, parsed.public_url, parsed.now, parsed.latency_ms / 1000)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(message, hint=f"See {self.prog} --help.")


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: give a number from 0 to 65535")
    return int(text)


def _milliseconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: give milliseconds, 0 or more")
    return value


def _instant(text: str) -> datetime:
    # Time zones had odd offsets long ago, and no calendar goes on beyond its last year.
    try:
        instant = datetime.fromisoformat(text)
        told = 1970 <= instant.year < 9999
    except ValueError:
        told = False
    if not told:
        raise argparse.ArgumentTypeError(f"{text!r} is no instant from 1970 on, such as 2026-03-02T12:00:00+00:00")
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant


def _serve(settings: SampleAgentSettings) -> None:
    check_time_zones(settings.now)
    with _listen(settings.host, settings.port) as listener:
        url = _url(listener)
        app = _build_app(settings.public_url or url, settings)
        asyncio.run(_run_server(app, listener, f"weather agent ready at {url}"))


def _build_app(advertised_url: str, settings: SampleAgentSettings) -> Starlette:
    # Its spans are of no use here and cost a tenth of the server's time; read when a2a is imported.
    os.environ["OTEL_INSTRUMENTATION_A2A_SDK_ENABLED"] = "false"
    logging.basicConfig(level=logging.ERROR)
    # It logs a traceback for every malformed request, which the client is told of anyway.
    logging.getLogger("a2a").setLevel(logging.CRITICAL)
    from testbench.samples.weather_server import Behaviour, build_app

    return build_app(advertised_url, Behaviour(settings.now, settings.latency_s))


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server((str(address[0]), port), family=family, backlog=2048)
        # connections inherit it; without it the body of an answer waits 40 ms for the receipt of its headers
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "that is no host name"
        raise WorkError(
            f"cannot listen on {host}:{port}: {reason}",
            hint="Choose another --port (0 takes a free one) or another --host.",
        ) from error


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    address = ip_address(host)
    if address.is_unspecified:
        address = ip_address("127.0.0.1" if address.version == 4 else "::1")
    return f"http://{address}:{port}/" if address.version == 4 else f"http://[{address}]:{port}/"


async def _run_server(app: Starlette, listener: socket.socket, ready: str) -> None:
    import uvicorn

    class AnnouncedServer(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                print(ready, flush=True)

    config = uvicorn.Config(
        app, access_log=False, log_config=None, log_level="error", timeout_graceful_shutdown=SHUTDOWN_GRACE_S
    )
    await AnnouncedServer(config).serve(sockets=[listener])


if __name__ == "__main__":
    sys.exit(main())
