"""Sends conversations when they are due, however many are still waiting for their answers.

    arrivals x draws -> conversations in flight -> samples (and, of a few, the conversation itself)

I/O through `AgentClient` and the clock only. Called by the load worker of the executors. Nothing is sent again: a retry
would be a request that the plan does not have. A conversation that finds too many others in flight is not sent and is
recorded as dropped, so that it counts as an error and never as fast.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from testbench import defaults
from testbench.arena.load.measures import DROPPED, TurnSample
from testbench.arena.load.traffic import Draw
from testbench.errors import AgentError
from testbench.net.clock import Clock
from testbench.net.transport import Stopwatch, stopwatch
from testbench.schema.agent import AgentClient, AgentReply, Conversation
from testbench.schema.models import Usage

Stopped = Literal["duration", "budget", "unpriced", "cancelled"]
"""What ended the sending; `unpriced`: there is a budget, and an answer whose cost nobody knows."""
MOST_IN_FLIGHT: Final = 10_000


@dataclass(frozen=True)
class LoadShare:
    """One worker's share of a load test.

    `arrivals` are numbers and times in seconds from the common start, which is `start` on the clock's steady count.
    Arrival k does `draws[k mod n]`. `budget_usd` is this worker's part of the budget. Systems in `reporting` have
    clients that tell `LoadGenerator.spend` of every completion; of the others the replies say what they cost.
    """

    worker: int
    arrivals: Iterable[tuple[int, float]]
    draws: Sequence[Draw]
    start: float
    most_in_flight: int = MOST_IN_FLIGHT
    budget_usd: float | None = None
    workers: int = 1
    turn_deadline_s: float = defaults.STEP_DEADLINE_S
    """After so long without an answer there is none: the test has to end."""
    reporting: frozenset[str] = frozenset()
    kept: Callable[[int], bool] = field(default=lambda number: False)
    """Which arrivals hand on their whole conversation, to be judged."""


@dataclass(frozen=True)
class KeptConversation:
    """A conversation as it went: a reply for each input, or the error that ended it.

    `due_s` is when the first was due; `latencies_s` has the time of each reply from when it was due.
    """

    arrival: int
    due_s: float
    draw: Draw
    replies: tuple[AgentReply | AgentError, ...]
    latencies_s: tuple[float, ...]


OnSample = Callable[[TurnSample], None]
OnConversation = Callable[[KeptConversation], None]


class LoadGenerator:
    """Drives one worker's share; made inside the event loop, used once."""

    def __init__(
        self,
        share: LoadShare,
        clients: Mapping[str, AgentClient],
        clock: Clock,
        on_sample: OnSample,
        on_conversation: OnConversation = lambda _: None,
    ) -> None:
        """`clients` by `Draw.speaker`; they are not closed."""
        self._share = share
        self._clients = clients
        self._clock = clock
        self._on_sample = on_sample
        self._on_conversation = on_conversation
        self._in_flight: set[asyncio.Task[None]] = set()
        self._fault: BaseException | None = None
        self._spent = 0.0
        self._stopped: Stopped = "duration"

    def cancel(self) -> None:
        """Send nothing new; what is in flight is still waited for."""
        self._stopped = "cancelled"

    def spend(self, usage: Usage) -> None:
        """Take the usage of a completion of one of those in `reporting`."""
        self._spend(usage.cost_usd)

    async def run(self) -> Stopped:
        """Send every arrival when it is due and wait for all answers; what ended it.

        Whatever a client raises beside `AgentError` passes through: a turn without a sample would look like no turn.
        """
        try:
            for number, due_s in self._share.arrivals:
                wait = due_s - self._elapsed()
                if wait > 0:
                    await self._clock.sleep(wait)
                if self._stopped != "duration":
                    break
                self._begin(number, due_s)
            await self._settle()
        finally:
            for task in self._in_flight:
                task.cancel()
        if self._fault is not None:
            raise self._fault
        return self._stopped

    async def hold(self, duration_s: float) -> Stopped:
        """Keep one conversation in flight for so long: the closed loop of a test without a rate.

        Its conversations are numbered like arrivals: every `workers`-th is this worker's.
        """
        number = self._share.worker
        while self._elapsed() < duration_s and self._stopped == "duration":
            await self._converse(number, self._elapsed())
            number += self._share.workers
        return self._stopped

    def _begin(self, number: int, due_s: float) -> None:
        if len(self._in_flight) >= self._share.most_in_flight:
            self._drop(number, due_s)
            return
        task = asyncio.create_task(self._converse(number, due_s))
        self._in_flight.add(task)
        task.add_done_callback(self._ended_task)

    def _drop(self, number: int, due_s: float) -> None:
        """Record a conversation that is not sent: an error, and for whoever judges it one that did not pass."""
        draw, now = self._draw(number), self._elapsed()
        error = AgentError("too many conversations are in flight", kind=DROPPED)
        self._record(number, draw, 0, (due_s, now, now), error, now)
        if self._share.kept(number):
            self._on_conversation(KeptConversation(number, due_s, draw, (error,), (now - due_s,)))

    def _ended_task(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None and self._fault is None:
            self._fault = fault
            self.cancel()

    async def _settle(self) -> None:
        while self._in_flight and self._fault is None:
            await asyncio.wait(tuple(self._in_flight), return_when=asyncio.FIRST_EXCEPTION)

    async def _converse(self, number: int, due_s: float) -> None:
        """All turns of one conversation; a later turn is due when the one before it was answered."""
        draw = self._draw(number)
        client, conversation = self._clients[draw.speaker], Conversation()
        replies: list[AgentReply | AgentError] = []
        latencies: list[float] = []
        first_due_s = due_s
        for turn, text in enumerate(draw.inputs):
            asked_s = self._elapsed()
            with stopwatch(self._elapsed) as watch:
                try:
                    reply: AgentReply | AgentError = await self._answer(client, text, conversation)
                except AgentError as error:
                    reply = error
            ended_s = self._ended(watch, reply)
            replies.append(reply)
            latencies.append(ended_s - due_s)
            sent_s = asked_s if watch.sent is None else watch.sent
            self._record(number, draw, turn, (due_s, sent_s, ended_s), reply, asked_s)
            if isinstance(reply, AgentError):
                break
            due_s = ended_s
        if self._share.kept(number):
            found = KeptConversation(number, first_due_s, draw, tuple(replies), tuple(latencies))
            self._on_conversation(found)

    async def _answer(self, client: AgentClient, text: str, conversation: Conversation) -> AgentReply:
        """Return the reply to one turn; a client may ask for a task for as long as somebody works on it."""
        deadline_s = self._share.turn_deadline_s
        try:
            async with asyncio.timeout(deadline_s):
                return await client.send_step(text, conversation)
        except TimeoutError as error:
            raise AgentError(f"no answer within {deadline_s:g} s", kind="timeout") from error

    def _ended(self, watch: Stopwatch, reply: AgentReply | AgentError) -> float:
        """Return when the whole reply was here. One that came in pieces has no such moment but now."""
        if isinstance(reply, AgentError) or watch.received is None or reply.time_to_first_token_ms is not None:
            return self._elapsed()
        return watch.received

    def _record(
        self,
        number: int,
        draw: Draw,
        turn: int,
        times: tuple[float, float, float],
        answer: AgentReply | AgentError,
        asked_s: float,
    ) -> None:
        """A sample of a turn that was answered, or failed."""
        due_s, sent_s, ended_s = times
        reply = answer if isinstance(answer, AgentReply) else None
        error = answer.kind if isinstance(answer, AgentError) else None
        usage = reply.usage if reply is not None else None
        ttft_ms = reply.time_to_first_token_ms if reply is not None else None
        cost = usage.cost_usd if usage is not None else None
        self._on_sample(
            TurnSample(
                arrival=number,
                worker=self._share.worker,
                scenario=draw.scenario,
                system=draw.system,
                turn=turn,
                intended_s=due_s,
                sent_s=sent_s,
                first_token_s=None if ttft_ms is None else asked_s + ttft_ms / 1000,
                ended_s=ended_s,
                error=error,
                input_tokens=usage.input_tokens if usage is not None else None,
                output_tokens=usage.output_tokens if usage is not None else None,
                cost_usd=cost,
            )
        )
        if reply is not None and (cost is None or draw.system not in self._share.reporting):
            self._spend(cost)

    def _spend(self, cost: float | None) -> None:
        budget = self._share.budget_usd
        if budget is None or self._stopped != "duration":
            return
        self._spent += cost or 0.0
        if cost is None:
            self._stopped = "unpriced"
        elif self._spent >= budget:
            self._stopped = "budget"

    def _draw(self, number: int) -> Draw:
        return self._share.draws[number % len(self._share.draws)]

    def _elapsed(self) -> float:
        return self._clock.monotonic() - self._share.start
