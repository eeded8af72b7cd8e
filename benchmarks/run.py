"""What run costs beside the agent's own time: wall over ideal, CPU for each step, memory, and the latency it records.

    python benchmarks/run.py [--quick] [--rounds N]

Sends 1,000 steps to an agent on loopback, in a process of its own, that answers each after 50 ms: through the whole of
`python testbench/run.py`, imports and output included, through the A2A SDK as its documentation shows it, and through
bare loops that post the same JSON. Every figure is the median of the rounds, and each round runs all programs one after
the other, so that the ratios hold on a busy machine, too. Bars are printed with `ok` or `MISSED`; nothing is asserted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from cheap_agent import CheapServer, answer, served

if TYPE_CHECKING:
    import httpx

ROOT: Final = Path(__file__).parents[1]
LATENCY_S: Final = 0.05
MANY: Final = 100_000
Send = Callable[[int], Awaitable[None]]


class Agent(CheapServer):
    """An A2A agent in protocol 1.0 and a trace collector."""

    def reply(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"post /v1/traces"):
            self.write(b"", b"application/x-protobuf")
            return
        call = json.loads(body)
        self.loop.call_later(LATENCY_S, self.write, answer(call, f"It is sunny: {_asked(call)}"))


def _asked(call: dict[str, Any]) -> str:
    return str(call["params"]["message"]["parts"][0]["text"])


def question(number: int) -> str:
    return f"What is the weather like in town number {number} on the day after tomorrow?"


def call(number: int) -> dict[str, Any]:
    """The very JSON that the SDK sends."""
    message = {"messageId": f"m{number}", "role": "ROLE_USER", "parts": [{"text": question(number)}]}
    params = {"message": message, "configuration": {}}
    return {"method": "SendMessage", "params": params, "id": f"r{number}", "jsonrpc": "2.0"}


@asynccontextmanager
async def bare_aiohttp(url: str, slots: int) -> AsyncIterator[Send]:
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def send(number: int) -> None:
            async with session.post(url, json=call(number)) as response:
                _text(await response.json())

        yield send


@asynccontextmanager
async def bare_httpx(url: str, slots: int) -> AsyncIterator[Send]:
    """A client for each slot: a shared one is several times slower above some twenty requests in flight."""
    import httpx

    tls = httpx.create_ssl_context()
    idle = [httpx.AsyncClient(timeout=60, verify=tls) for _ in range(slots)]

    async def send(number: int) -> None:
        client = idle.pop()
        _text((await client.post(url, json=call(number))).json())
        idle.append(client)

    yield send
    for client in idle:
        await client.aclose()


@asynccontextmanager
async def sdk_shared(url: str, slots: int) -> AsyncIterator[Send]:
    """One HTTP client and one SDK client for all."""
    import httpx

    async with _sdk_over(httpx.AsyncClient, url) as send:
        yield send


@asynccontextmanager
async def sdk_aiohttp(url: str, slots: int) -> AsyncIterator[Send]:
    """The same over the connections of aiohttp, by the package `httpx-aiohttp`."""
    from httpx_aiohttp import HttpxAiohttpClient

    async with _sdk_over(HttpxAiohttpClient, url) as send:
        yield send


@asynccontextmanager
async def _sdk_over(client_type: type[httpx.AsyncClient], url: str) -> AsyncIterator[Send]:
    import httpx
    from a2a.client import A2ACardResolver, ClientConfig, ClientFactory

    limits = httpx.Limits(max_connections=100_000, max_keepalive_connections=100_000)
    async with client_type(timeout=60, limits=limits) as http:
        found = await A2ACardResolver(http, url).get_agent_card()
        client = ClientFactory(ClientConfig(streaming=False, httpx_client=http)).create(found)

        async def send(number: int) -> None:
            await _sdk_send(client, number)

        yield send


@asynccontextmanager
async def sdk_each(url: str, slots: int) -> AsyncIterator[Send]:
    """A client of everything for each message, as the first example of every page has it."""
    import httpx
    from a2a.client import A2ACardResolver, ClientConfig, ClientFactory

    async def send(number: int) -> None:
        async with httpx.AsyncClient(timeout=60) as http:
            found = await A2ACardResolver(http, url).get_agent_card()
            await _sdk_send(ClientFactory(ClientConfig(streaming=False, httpx_client=http)).create(found), number)

    yield send


async def _sdk_send(client: Any, number: int) -> None:
    from a2a.types import Message, Part, Role, SendMessageRequest

    message = Message(message_id=f"m{number}", role=Role.ROLE_USER, parts=[Part(text=question(number))])
    async for event in client.send_message(SendMessageRequest(message=message)):
        assert event.task.artifacts[0].parts[0].text


def _text(reply: Any) -> None:
    assert reply["result"]["task"]["artifacts"][0]["parts"][0]["text"]


OURS: Final = "testbench/run.py"
TRACED: Final = "testbench/run.py, traces exported"
BARE: Final = "bare aiohttp"
HTTPX: Final = "bare httpx, a client per slot"
SHARED: Final = "SDK, one httpx client"
EACH: Final = "SDK, a client per message"
OVER_AIOHTTP: Final = "SDK, one httpx-aiohttp client"
NAIVE: Final = (SHARED, EACH)
"""These take so long that one round has to do."""
PEERS: Final = {BARE: bare_aiohttp, HTTPX: bare_httpx, SHARED: sdk_shared, EACH: sdk_each, OVER_AIOHTTP: sdk_aiohttp}


async def peer(name: str, url: str, steps: int, slots: int) -> dict[str, float]:
    """Send in a closed loop; seconds of it, and the latencies that its user would see."""
    latencies: list[float] = []
    numbers = iter(range(steps))
    begin = time.perf_counter()
    async with PEERS[name](url, slots) as send:

        async def work() -> None:
            for number in numbers:
                sent = time.perf_counter()
                await send(number)
                latencies.append(1000 * (time.perf_counter() - sent))

        await asyncio.gather(*(work() for _ in range(slots)))
        seconds = time.perf_counter() - begin
    latencies.sort()
    return {"seconds": seconds, "p50": percentile(latencies, 0.5), "p95": percentile(latencies, 0.95)}


def percentile(ordered: Sequence[float], proportion: float) -> float:
    return ordered[max(0, math.ceil(proportion * len(ordered)) - 1)]


@dataclass(frozen=True)
class Work:
    """So many steps, so many in flight."""

    steps: int
    slots: int

    @property
    def ideal_s(self) -> float:
        return math.ceil(self.steps / self.slots) * LATENCY_S


WORK: Final = {slots: Work(100 if slots == 1 else 1000, slots) for slots in (1, 16, 64, 256)}
"""With one in flight 1,000 steps would take 50 seconds."""


@dataclass(frozen=True)
class Figures:
    """One program's way through the work: the whole process, and within it the time of sending."""

    wall_s: float
    cpu_s: float
    peak_mib: float
    sending_s: float
    p50_ms: float
    p95_ms: float

    def rate(self, work: Work) -> float:
        return work.steps / self.sending_s

    def over_ideal(self, work: Work) -> float:
        return self.sending_s / work.ideal_s

    def cpu_ms(self, work: Work) -> float:
        return 1000 * self.cpu_s / work.steps


@dataclass(frozen=True)
class Bench:
    """Where everything is."""

    folder: Path
    url: str

    def measure(self, name: str, work: Work) -> Figures:
        if name in PEERS:
            arguments = ["--peer", name, self.url, str(work.steps), str(work.slots)]
            whole, printed = self._process([str(ROOT / "benchmarks" / "run.py"), *arguments], {})
            return Figures(*whole, printed["seconds"], printed["p50"], printed["p95"])
        self._write_experiment(work.steps)
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url} if name == TRACED else {}
        script = [str(ROOT / "testbench" / "run.py"), self.url, "--concurrency", str(work.slots)]
        paths = ["--input", "in.json", "--output", "out.json"]
        whole, printed = self._process([*script, *paths, "--fresh", "--json"], environ)
        if printed["answered"] != work.steps:
            sys.exit(f"{printed['answered']} of {work.steps} steps were answered")
        return Figures(*whole, printed["seconds"], printed["latency_p50_ms"], printed["latency_p95_ms"])

    def _write_experiment(self, steps: int) -> None:
        scenarios = [{"name": f"{number}", "steps": [{"input": question(number)}]} for number in range(steps)]
        (self.folder / "in.json").write_text(json.dumps({"llm_as_a_judge_model": "m", "scenarios": scenarios}))

    def _process(self, arguments: list[str], extra: dict[str, str]) -> tuple[tuple[float, float, float], Any]:
        """Wall seconds, CPU seconds and peak MiB of a process, and the JSON that it printed."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TESTBENCH_"))}
        for old in self.folder.glob("out.json*"):
            old.unlink()
        begin = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=environ | {"PYTHONPATH": str(ROOT)} | extra,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"{shlex.join(arguments)}: exit {process.returncode}")
        return (wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024), json.loads(printed)


def summed_up(rounds: Sequence[Figures]) -> Figures:
    """The median of each figure."""
    names = Figures.__dataclass_fields__
    return Figures(**{name: median(getattr(figures, name) for figures in rounds) for name in names})


@dataclass(frozen=True)
class Bar:
    """What a figure has to keep to, and what it is."""

    promise: str
    limit: float
    found: float
    at_least: bool = False

    def __str__(self) -> str:
        held = self.found >= self.limit if self.at_least else self.found < self.limit
        sign = ">=" if self.at_least else "<"
        return f"{'ok' if held else 'MISSED':<7} {self.promise:<72} {self.found:>8.2f} {sign} {self.limit:g}"


Found = dict[tuple[str, int], Figures]
"""Figures by program and number in flight."""


def bars(found: Found) -> list[Bar]:
    """The promises of the documentation, over the figures of one go."""
    ours = {slots: found[OURS, slots] for slots in (1, 16, 64, 256)}
    bare = {slots: found[BARE, slots] for slots in (64, 256)}
    return [
        Bar(
            "64 in flight, start-up included: wall over that of bare httpx",
            1.875,
            ours[64].wall_s / found[HTTPX, 64].wall_s,
        ),
        Bar("16 in flight: wall of the sending over ideal", 1.1, ours[16].over_ideal(WORK[16])),
        *(
            Bar(
                f"{slots} in flight: steps a second, as a part of bare aiohttp's",
                0.5,
                ours[slots].rate(WORK[slots]) / bare[slots].rate(WORK[slots]),
                at_least=True,
            )
            for slots in (64, 256)
        ),
        Bar(
            "256 in flight: p95 of the recorded latency over the agent's own",
            2.0,
            ours[256].p95_ms / (1000 * LATENCY_S),
        ),
        *(
            Bar(f"{slots} in flight: CPU ms a step, start-up included", 2.5, ours[slots].cpu_ms(WORK[slots]))
            for slots in (16, 64, 256)
        ),
    ]


HEADS: Final = (
    f"{'program':<34} {'in flight':>9} {'steps':>6} {'wall s':>7} {'sending s':>9} {'x ideal':>8} {'steps/s':>8} "
    f"{'CPU ms':>7} {'MiB':>5} {'p50 ms':>7} {'p95 ms':>7}"
)


def row(name: str, work: Work, figures: Figures) -> str:
    return (
        f"{name:<34} {work.slots:>9} {work.steps:>6} {figures.wall_s:>7.2f} {figures.sending_s:>9.2f} "
        f"{figures.over_ideal(work):>8.2f} {figures.rate(work):>8.0f} {figures.cpu_ms(work):>7.2f} "
        f"{figures.peak_mib:>5.0f} {figures.p50_ms:>7.1f} {figures.p95_ms:>7.1f}"
    )


@contextmanager
def bench() -> Iterator[Bench]:
    with served(Agent) as url, tempfile.TemporaryDirectory() as folder:
        yield Bench(Path(folder), url)


def main(rounds: int, many: int) -> None:
    print(f"python {shlex.join(sys.argv)}    agent: {1000 * LATENCY_S:.0f} ms; medians of {rounds} rounds\n\n{HEADS}")
    found: Found = {}
    with bench() as here:
        for slots, work in WORK.items():
            programs = (
                [OURS, BARE, HTTPX] if slots in (1, 16) else [OURS, TRACED, BARE, HTTPX, OVER_AIOHTTP, SHARED, EACH]
            )
            each: dict[str, list[Figures]] = {name: [] for name in programs}
            for number in range(rounds):
                for name in programs:
                    if number == 0 or name not in NAIVE:
                        each[name].append(here.measure(name, work))
            for name, figures in each.items():
                found[name, slots] = summed_up(figures)
                print(row(name, work, found[name, slots]), flush=True)
        promised = bars(found)
        if many:
            work = Work(many, 256)
            once = here.measure(OURS, work)
            print(row(OURS, work, once), flush=True)
            promised.append(Bar(f"{many:,} steps: peak MiB", 1024, once.peak_mib))
    print("", *promised, sep="\n")
    if many < MANY:
        print(f"\nThe memory of {MANY:,} steps was not measured: leave out --quick.")
    print(f"\nWith 1 in flight {WORK[1].steps} steps were sent, and 1,000 otherwise; nothing was scaled up.")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peer"]:
        peer_name, address, count, in_flight = sys.argv[2:]
        print(json.dumps(asyncio.run(peer(peer_name, address, int(count), int(in_flight)))))
    else:
        parser = argparse.ArgumentParser(description="What run costs beside the agent's own time.")
        parser.add_argument("--quick", action="store_true", help="one round, and without the run of 100,000 steps")
        parser.add_argument("--rounds", type=int, default=5)
        given = parser.parse_args()
        main(1 if given.quick else given.rounds, 0 if given.quick else MANY)
