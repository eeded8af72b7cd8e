"""What one process of a load test can hold: CPU for each request, how late it sends, and the latency that it records.

    python benchmarks/load.py [--quick] [--rounds N] [--rate RPS] [--seconds S]

Sends an open loop of 500 requests a second to a stub on loopback, in a process of its own, that answers each after
20 ms: through the load generator with the clients that a load test uses (a chat completion as a whole, one streamed in
24 events that leave one by one, an A2A agent), and beside each the barest loop over aiohttp that keeps the same
schedule. Each round runs all programs one after the other; of each program the round is shown in which it waited least
for a core that others had (`starved`): figures of a starved program are those of the machine. Then the rate that one
process holds: it is raised until the 99th percentile of the slip stays above 50 ms. Bars are printed with `ok`
or `MISSED`; nothing is asserted.
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
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cheap_agent import CheapServer, answer, served

ROOT: Final = Path(__file__).parents[1]
LATENCY_S: Final = 0.02
EVENTS: Final = 24
EVENT_GAP_S: Final = 0.002
SLIP_LIMIT_MS: Final = 50.0
RATE: Final = 500
STEPS_OF_RATE: Final = (300, 500, 700, 900, 1100, 1300, 1600, 2000)
RAMP_S: Final = 1.0
TRIES: Final = 3
QUESTION: Final = "What is the weather like in Bonn on the day after tomorrow?"
WORD: Final = "sunshine "


# --- the stub -------------------------------------------------------------------------------------------------------


class Stub(CheapServer):
    """A gateway and an A2A agent."""

    def reply(self, head: bytes, body: bytes) -> None:
        if not head.startswith(b"post /v1/"):
            self.loop.call_later(LATENCY_S, self.write, answer(json.loads(body), WORD * EVENTS))
        elif b'"stream": true' in body:
            self.loop.call_later(LATENCY_S, self._begin_stream)
        else:
            self.loop.call_later(LATENCY_S, self.write, COMPLETION)

    def _begin_stream(self) -> None:
        self.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        self._event(0)

    def _event(self, number: int) -> None:
        if number < EVENTS:
            self.transport.write(PIECE)
            self.loop.call_later(EVENT_GAP_S, self._event, number + 1)
        else:
            self.transport.write(LAST_PIECES)


USAGE: Final = {"prompt_tokens": 20, "completion_tokens": EVENTS, "total_tokens": 20 + EVENTS}
COMPLETION: Final = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "stub",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": WORD * EVENTS}, "finish_reason": "stop"}],
        "usage": USAGE,
    }
).encode()


def _piece(*contents: str) -> bytes:
    text = "".join(f"data: {content}\n\n" for content in contents).encode()
    return b"%x\r\n%s\r\n" % (len(text), text)


def _chunk(delta: dict[str, str], finish_reason: str | None = None, **more: Any) -> str:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    whole = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "stub", "choices": [choice]}
    return json.dumps(whole | more)


PIECE: Final = _piece(_chunk({"content": WORD}))
LAST_PIECES: Final = _piece(_chunk({}, "stop"), _chunk({}, choices=[], usage=USAGE), "[DONE]") + b"0\r\n\r\n"


# --- the programs ---------------------------------------------------------------------------------------------------


@dataclass
class Times:
    """Of one turn, in seconds of the same clock."""

    due: float
    sent: float
    ended: float


Send = Callable[[], Awaitable[None]]


async def bare(url: str, kind: str, arrivals: Sequence[float]) -> tuple[list[Times], float]:
    """The same schedule over aiohttp and nothing else: a task for each request, its reply read and parsed."""
    import aiohttp

    chat = {"model": "stub", "messages": [{"role": "user", "content": QUESTION}]}
    message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": QUESTION}]}
    bodies = {
        "whole": (f"{url}/v1/chat/completions", chat),
        "streamed": (f"{url}/v1/chat/completions", chat | {"stream": True}),
        "a2a": (f"{url}/", {"method": "SendMessage", "params": {"message": message}, "id": "1", "jsonrpc": "2.0"}),
    }
    address, content = bodies[kind]
    found: list[Times] = []
    in_flight: set[asyncio.Task[None]] = set()
    headers = {"content-type": "application/json"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def send(due: float) -> None:
            sent = time.monotonic() - start
            async with session.post(address, data=json.dumps(content).encode(), headers=headers) as response:
                if kind == "streamed":
                    async for line in response.content:
                        if line.startswith(b"data: {"):
                            json.loads(line[6:])
                else:
                    json.loads(await response.read())
            found.append(Times(due, sent, time.monotonic() - start))

        cpu, start = time.process_time(), time.monotonic()
        for due in arrivals:
            if (wait := due - (time.monotonic() - start)) > 0:
                await asyncio.sleep(wait)
            begun = asyncio.create_task(send(due))
            in_flight.add(begun)
            begun.add_done_callback(in_flight.discard)
        await asyncio.gather(*in_flight)
    return found, time.process_time() - cpu


async def ours(url: str, kind: str, arrivals: Sequence[float]) -> tuple[list[Times], float]:
    """The load generator with the client that a load test uses."""
    from testbench.arena.load.generator import LoadGenerator, LoadShare
    from testbench.arena.load.measures import TurnSample
    from testbench.arena.load.traffic import Draw
    from testbench.arena.runs.target_clients import open_client
    from testbench.arena.targets.target import A2ATarget, ChatTarget
    from testbench.gc_policy import rare_cycle_collection
    from testbench.net.clock import SystemClock

    target = A2ATarget(url) if kind == "a2a" else ChatTarget("stub", f"{url}/v1", stream=kind == "streamed")
    clock, samples = SystemClock(), list[TurnSample]()
    client = open_client(target)
    await client.connect()
    with rare_cycle_collection():
        cpu, start = time.process_time(), clock.monotonic()
        share = LoadShare(0, list(enumerate(arrivals)), (Draw("weather", "stub", (QUESTION,)),), start)
        await LoadGenerator(share, {"stub": client}, clock, samples.append).run()
        spent = time.process_time() - cpu
    await client.close()
    if failed := [sample.error for sample in samples if sample.error]:
        sys.exit(f"{len(failed)} requests failed: {failed[0]}")
    return [Times(sample.intended_s, sample.sent_s, sample.ended_s) for sample in samples], spent


PROGRAMS: Final = {"testbench": ours, "bare aiohttp": bare}
KINDS: Final = {
    "whole": "chat, whole reply",
    "streamed": f"chat, {EVENTS} events",
    "a2a": "A2A",
}


def arrivals_of(rate: float, seconds: float) -> list[float]:
    from testbench.arena.load.traffic import RateProfile
    from testbench.schema.shards import Shard

    return [due for _, due in RateProfile(rate, RAMP_S, seconds).dealt(Shard())]


def run_program(program: str, kind: str, url: str, rate: float, seconds: float) -> dict[str, float]:
    arrivals = arrivals_of(rate, seconds)
    waited_s, begun = waited_for_cpu(), time.monotonic()
    times, cpu_s = asyncio.run(PROGRAMS[program](url, kind, arrivals))
    starved = (waited_for_cpu() - waited_s) / (time.monotonic() - begun)
    slips = sorted(1000 * (one.sent - one.due) for one in times)
    latencies = sorted(1000 * (one.ended - one.due) for one in times)
    return {
        "cpu_ms": 1000 * cpu_s / len(times),
        "slip_p50": percentile(slips, 0.5),
        "slip_p99": percentile(slips, 0.99),
        "p50": percentile(latencies, 0.5),
        "p99": percentile(latencies, 0.99),
        "starved": 100 * starved,
    }


def waited_for_cpu() -> float:
    """Seconds in which this process could have run and others did (Linux; elsewhere 0)."""
    try:
        return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


def percentile(ordered: Sequence[float], proportion: float) -> float:
    return ordered[max(0, math.ceil(proportion * len(ordered)) - 1)]


# --- what is measured -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figures:
    """One program at one rate; CPU of the sending alone, all in milliseconds.

    `starved` is the percentage of the time in which it waited for a core: above a few, the machine was measured.
    """

    cpu_ms: float
    slip_p50: float
    slip_p99: float
    p50: float
    p99: float
    starved: float


class RequestsFailed(Exception):
    """Not every request was sent and answered."""


def measure(program: str, kind: str, url: str, rate: float, seconds: float) -> Figures:
    """In a process of its own.

    Raises:
        RequestsFailed: see there.
    """
    arguments = ["--program", program, kind, url, str(rate), str(seconds)]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TESTBENCH_"))}
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "load.py"), *arguments],
        env=environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RequestsFailed(f"{shlex.join(arguments)}: exit {done.returncode}\n{done.stderr}")
    return Figures(**json.loads(done.stdout))


def best_of(rounds: Sequence[Figures]) -> Figures:
    """The round in which the program waited least for a core: to wait can only make it look worse."""
    return min(rounds, key=lambda one: one.starved)


def rate_held(kind: str, url: str, seconds: float) -> int:
    """The highest of the rates at which the slip stays below its limit, 0 if none does.

    A rate is tried again, and then the next one, before it is given up: what else the machine does is no limit of the
    process.
    """
    held = missed = 0
    for rate in STEPS_OF_RATE:
        kept = any(keeps_up(kind, url, rate, seconds) for _ in range(TRIES))
        held, missed = (rate, 0) if kept else (held, missed + 1)
        if missed == 2:
            break
    return held


def keeps_up(kind: str, url: str, rate: float, seconds: float) -> bool:
    try:
        return measure("testbench", kind, url, rate, seconds).slip_p99 < SLIP_LIMIT_MS
    except RequestsFailed:  # too many were in flight for one more
        return False


HEADS: Final = (
    f"{'to':<20} {'program':<13} {'CPU ms':>7} {'slip p50':>9} {'slip p99':>9} {'latency p50':>12} {'latency p99':>12} "
    f"{'starved %':>10}"
)


def row(kind: str, program: str, figures: Figures) -> str:
    return (
        f"{KINDS[kind]:<20} {program:<13} {figures.cpu_ms:>7.2f} {figures.slip_p50:>9.1f} {figures.slip_p99:>9.1f} "
        f"{figures.p50:>12.1f} {figures.p99:>12.1f} {figures.starved:>10.1f}"
    )


def main(rounds: int, rate: int, seconds: float, *, highest: bool) -> None:
    print(f"python {shlex.join(sys.argv)}    {rate} requests/s for {seconds:g} s, the best of {rounds} rounds")
    print(f"\n{HEADS}")
    found: dict[tuple[str, str], list[Figures]] = {(kind, one): [] for kind in KINDS for one in PROGRAMS}
    with served(Stub) as url:
        for _ in range(rounds):
            for kind, program in found:
                found[kind, program].append(measure(program, kind, url, rate, seconds))
        chosen = {key: best_of(figures) for key, figures in found.items()}
        for (kind, program), figures in chosen.items():
            print(row(kind, program, figures))
        print()
        for kind, shown in KINDS.items():
            times = chosen[kind, "testbench"].cpu_ms / chosen[kind, "bare aiohttp"].cpu_ms
            print(f"{shown:<20} CPU over that of bare aiohttp: {times:.2f}")
        print()
        for kind, shown in KINDS.items():
            slip = chosen[kind, "testbench"].slip_p99
            held = "ok" if slip < SLIP_LIMIT_MS else "MISSED"
            print(f"{held:<7} {shown}, {rate} requests/s: slip p99 {slip:.1f} < {SLIP_LIMIT_MS:g} ms")
        if highest:
            print()
            for kind, shown in KINDS.items():
                print(f"{shown:<20} one process holds {rate_held(kind, url, seconds)} requests/s", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--program"]:
        program_name, agent_kind, address, per_second, length = sys.argv[2:]
        print(json.dumps(run_program(program_name, agent_kind, address, float(per_second), float(length))))
    else:
        parser = argparse.ArgumentParser(description="What one process of a load test can hold.")
        parser.add_argument("--quick", action="store_true", help="one round, and without the search for the rate held")
        parser.add_argument("--rounds", type=int, help="1 with --quick, else 5")
        parser.add_argument("--rate", type=int, default=RATE)
        parser.add_argument("--seconds", type=float, default=10.0)
        given = parser.parse_args()
        try:
            main(given.rounds or (1 if given.quick else 5), given.rate, given.seconds, highest=not given.quick)
        except RequestsFailed as error:
            sys.exit(str(error))
