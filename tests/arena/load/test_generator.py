"""The generator sends when the plan says, however slow the answers are, and everything it did is in the samples."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from testbench.arena.load.generator import KeptConversation, LoadGenerator, LoadShare
from testbench.arena.load.measures import TurnSample
from testbench.arena.load.traffic import Draw, RateProfile
from testbench.errors import AgentError
from testbench.net.transport import current
from testbench.schema.agent import AgentDescription, AgentReply, Conversation
from testbench.schema.models import Turn, Usage
from testbench.schema.shards import Shard

HELLO = Draw("greeting", "gpt", ("hello",))


class SimulatedTime:
    """A clock for a whole event loop: when everybody sleeps, it jumps to the first who wakes."""

    def __init__(self) -> None:
        self._now = 0.0
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def now(self) -> object:
        raise NotImplementedError

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        self._waiting.append((self._now + seconds, self._count, future))
        await future

    async def drive(self, work: asyncio.Task[str]) -> str:
        while not work.done():
            for _ in range(20):
                await asyncio.sleep(0)
            if self._waiting and not work.done():
                entry = min(self._waiting, key=lambda waiting: waiting[:2])
                self._waiting.remove(entry)
                self._now = max(self._now, entry[0])
                entry[2].set_result(None)
        return work.result()


class SlowAgent:
    """Answers after `seconds(elapsed)`, or fails with a kind."""

    def __init__(self, time: SimulatedTime, seconds: Callable[[float], float], error: str | None = None) -> None:
        self._time, self._seconds, self._error = time, seconds, error
        self.asked: list[str] = []
        self.most_in_flight = self._in_flight = 0

    async def connect(self) -> AgentDescription:
        return AgentDescription()

    async def send_step(self, text: str, conversation: Conversation) -> AgentReply:
        self.asked.append(text)
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        await self._time.sleep(self._seconds(self._time.monotonic()))
        self._in_flight -= 1
        if self._error:
            raise AgentError("no answer", kind=self._error)
        return AgentReply((Turn(type="agent", content="hi"),), usage=Usage(cost_usd=0.5), time_to_first_token_ms=40)

    async def close(self) -> None: ...


async def driven(
    time: SimulatedTime, agent: SlowAgent, share: LoadShare
) -> tuple[str, Sequence[TurnSample], list[KeptConversation]]:
    samples: list[TurnSample] = []
    kept: list[KeptConversation] = []
    generator = LoadGenerator(share, {"gpt": agent}, time, samples.append, kept.append)  # type: ignore[arg-type]  # its now() is never asked for
    ended = await time.drive(asyncio.create_task(generator.run()))
    return ended, sorted(samples, key=lambda sample: (sample.arrival, sample.turn)), kept


def share_of(rate: float, seconds: float, draw: Draw = HELLO, **more: object) -> LoadShare:
    arrivals = list(RateProfile(rate, 0, seconds).dealt(Shard()))
    return LoadShare(worker=0, arrivals=arrivals, draws=(draw,), start=0.0, **more)  # type: ignore[arg-type]  # of the right types


async def test_slow_answers_do_not_slow_the_arrivals() -> None:
    time = SimulatedTime()
    agent = SlowAgent(time, lambda _: 3.0)
    ended, samples, _ = await driven(time, agent, share_of(10, 2))
    assert ended == "duration"
    assert [sample.sent_s for sample in samples] == pytest.approx([number / 10 for number in range(20)])
    assert {round(sample.ended_s - sample.intended_s, 6) for sample in samples} == {3.0}
    assert agent.most_in_flight == 20


async def test_a_stall_is_seen_by_everybody_who_was_due_in_it() -> None:
    time = SimulatedTime()
    agent = SlowAgent(time, lambda elapsed: max(0.1, 5.0 - elapsed))
    _, samples, _ = await driven(time, agent, share_of(10, 6))
    slow = [sample for sample in samples if sample.ended_s - sample.intended_s > 1]
    assert len(slow) == 40


async def test_a_first_token_counts_from_the_send_and_a_failure_has_none() -> None:
    time = SimulatedTime()
    _, (sample,), _ = await driven(time, SlowAgent(time, lambda _: 1.0), share_of(1, 1))
    assert sample.first_token_s == pytest.approx(0.04)
    time = SimulatedTime()
    _, (failed,), _ = await driven(time, SlowAgent(time, lambda _: 1.0, error="timeout"), share_of(1, 1))
    assert (failed.error, failed.first_token_s, failed.cost_usd) == ("timeout", None, None)


async def test_a_later_turn_is_due_when_the_one_before_was_answered() -> None:
    time = SimulatedTime()
    draw = Draw("talk", "gpt", ("hello", "and then?"))
    _, samples, _ = await driven(time, SlowAgent(time, lambda _: 1.0), share_of(1, 1, draw))
    assert [(sample.turn, sample.intended_s, sample.ended_s) for sample in samples] == [(0, 0.0, 1.0), (1, 1.0, 2.0)]


async def test_a_conversation_ends_with_its_first_failure() -> None:
    time = SimulatedTime()
    agent = SlowAgent(time, lambda _: 0.1, error="failed")
    draw = Draw("talk", "gpt", ("hello", "and then?"))
    _, samples, _ = await driven(time, agent, share_of(1, 1, draw))
    assert (len(samples), agent.asked) == (1, ["hello"])


async def test_what_is_too_much_is_dropped_and_said() -> None:
    time = SimulatedTime()
    agent = SlowAgent(time, lambda _: 100.0)
    _, samples, _ = await driven(time, agent, share_of(10, 1, most_in_flight=4))
    assert [sample.error for sample in samples] == [None] * 4 + ["dropped"] * 6
    assert len(agent.asked) == 4


async def test_what_was_dropped_did_not_pass() -> None:
    time = SimulatedTime()
    agent = SlowAgent(time, lambda _: 100.0)
    _, _, kept = await driven(time, agent, share_of(10, 1, most_in_flight=4, kept=lambda number: number % 2 == 0))
    dropped = [(one.arrival, one.replies[0].kind) for one in kept if isinstance(one.replies[0], AgentError)]
    assert dropped == [(4, "dropped"), (6, "dropped"), (8, "dropped")]


@pytest.mark.parametrize("answers_after", [0.01, 100.0])
async def test_a_fault_of_a_client_is_not_a_turn_less(answers_after: float) -> None:
    time = SimulatedTime()

    class Broken(SlowAgent):
        async def send_step(self, text: str, conversation: Conversation) -> AgentReply:
            if len(self.asked) == 2:
                raise KeyError("broken")
            return await super().send_step(text, conversation)

    agent = Broken(time, lambda _: answers_after)
    with pytest.raises(KeyError, match="broken"):
        await driven(time, agent, share_of(10, 1))
    assert len(agent.asked) == 2


async def test_a_budget_that_is_used_up_ends_the_sending() -> None:
    time = SimulatedTime()
    agent = SlowAgent(time, lambda _: 0.01)
    ended, samples, _ = await driven(time, agent, share_of(10, 10, budget_usd=2.0))
    assert ended == "budget"
    assert len(samples) == len(agent.asked) == 4


async def test_a_conversation_is_kept_where_it_was_asked_for() -> None:
    time = SimulatedTime()
    _, _, kept = await driven(
        time, SlowAgent(time, lambda _: 0.1), share_of(10, 1, kept=lambda number: number % 5 == 0)
    )
    assert [conversation.arrival for conversation in kept] == [0, 5]
    assert all(isinstance(reply, AgentReply) for conversation in kept for reply in conversation.replies)


async def test_without_a_rate_one_conversation_is_in_flight() -> None:
    time = SimulatedTime()
    agent = SlowAgent(time, lambda _: 0.5)
    samples: list[TurnSample] = []
    generator = LoadGenerator(share_of(1, 1), {"gpt": agent}, time, samples.append)  # type: ignore[arg-type]  # its now() is never asked for
    await time.drive(asyncio.create_task(generator.hold(3.0)))
    assert (len(samples), agent.most_in_flight) == (6, 1)


async def test_a_turn_that_is_never_answered_ends_and_is_an_error() -> None:
    time = SimulatedTime()
    agent = SlowAgent(time, lambda at: 1e9 if at < 0.4 else 0.1)

    async def forever() -> str:
        samples: list[TurnSample] = []
        share = share_of(1, 1, turn_deadline_s=0.01)
        generator = LoadGenerator(share, {"gpt": agent}, time, samples.append)  # type: ignore[arg-type]  # its now() is never asked for
        await generator.run()
        return str([sample.error for sample in samples])

    assert await forever() == "['timeout']"


async def test_latencies_end_when_the_reply_is_here_and_slip_counts_until_the_request_leaves() -> None:
    """What waits in this process before and after is not the system's time, and not hidden either."""
    time = SimulatedTime()

    class Waiting(SlowAgent):
        async def send_step(self, text: str, conversation: Conversation) -> AgentReply:
            await time.sleep(0.3)
            current().send()
            reply = await super().send_step(text, conversation)
            current().receive()
            await time.sleep(0.2)
            return replace(reply, time_to_first_token_ms=None)

    _, (sample,), _ = await driven(time, Waiting(time, lambda at: 0.1), share_of(1, 1))
    assert sample.sent_s == pytest.approx(0.3)
    assert sample.ended_s == pytest.approx(0.4)
