"""A load test's worker: sends its part of one schedule.

    plan -> draws, arrivals of this worker -> generator -> parts of samples and kept conversations -> done

Called by the commands of `testbench arena`. A load test cannot be taken up again: a worker that was stopped leaves
its samples and no marker, and the reducer says that it is missing.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Final

from testbench.arena.load.generator import MOST_IN_FLIGHT, LoadGenerator, LoadShare, Stopped
from testbench.arena.load.measures import TurnSample
from testbench.arena.load.quality import choose_kept, divide_levels
from testbench.arena.load.recording import BEGUN_FILE, END_FILE, LoadBegin, LoadEnd, Recorder
from testbench.arena.load.traffic import Draw, RateProfile, get_load_settings, list_draws, make_profile, name_speaker
from testbench.arena.manifest.job import parse_seconds
from testbench.arena.runs.context import JobContext, OnSpent, name_shard_folder
from testbench.arena.runs.parts import is_done, mark_done
from testbench.arena.stores import write_once
from testbench.arena.targets.chat_client import ChatClient
from testbench.errors import WorkError
from testbench.gc_policy import rare_cycle_collection
from testbench.schema.agent import AgentClient
from testbench.schema.models import Usage
from testbench.schema.progress import Progress

OTHER_FILES: Final = 100
"""Open files that are no connection to a system under test."""


async def work_load(context: JobContext) -> None:
    """The worker `context.shard`: sends its part of the load from the common start on; done when it returns.

    Raises:
        InputError: an entry cannot be used, or a scenario has nothing to send; nothing was sent.
        AgentError: somebody under test cannot be reached; nothing was sent.
        WorkError: this worker was begun before, or is at work elsewhere: neither half of a load is the planned one, nor
            the double of it.
        StoreError: samples could not be written.
    """
    shard, store = context.shard, context.store
    if is_done(store, context.plan, shard):
        return
    if store.names(name_shard_folder(shard.index)):
        raise _make_begun_error(context)
    draws = list_draws(context.plan)
    arrivals = make_profile(context.job, draws)
    recorder, relay = Recorder(context), UsageRelay()
    async with _open_clients(context, draws, relay) as clients:
        with (
            context.show_progress("load", _estimate_turns(draws, arrivals, context), 0) as progress,
            rare_cycle_collection(),
        ):
            begun, start = await _wait_for_start(context)  # all that takes time is done by then
            share = _make_share(context, draws, arrivals, start)
            stopped = await _send(context, share, clients, (recorder, relay), progress)
    end = LoadEnd(started_at=begun, stopped_by=stopped, samples=recorder.samples)
    write_once(store, f"{name_shard_folder(shard.index)}/{END_FILE}", end.model_dump_json(indent=2).encode() + b"\n")
    mark_done(context, recorder.samples)


class UsageRelay:
    """Hands on what completions cost to whoever counts it; there is nobody before the generator is made."""

    def __init__(self) -> None:
        self.receiver: OnSpent = lambda usage: None

    def __call__(self, usage: Usage) -> None:
        self.receiver(usage)


# --- before the start -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def _open_clients(
    context: JobContext, draws: Sequence[Draw], relay: UsageRelay
) -> AsyncIterator[Mapping[str, AgentClient]]:
    """Yield a client for each speaker of the draws, by its name.

    Raises:
        AgentError: somebody cannot be reached: there is no point in loading what is not there.
    """
    prompts = {planned.id: planned.system_prompt for planned in context.plan.scenarios}
    opened: list[AgentClient] = []
    clients: dict[str, AgentClient] = {}
    try:
        for system in context.plan.systems:
            client = context.clients.system(system, on_spent=relay)
            opened.append(client)
            await client.connect()
            clients[system.label] = client
            if isinstance(client, ChatClient):
                named = {name_speaker(system.label, key): client.prompted(prompt) for key, prompt in prompts.items()}
                clients |= named
        yield {draw.speaker: clients[draw.speaker] for draw in draws}
    finally:
        for client in opened:
            await client.close()


async def _wait_for_start(context: JobContext) -> tuple[datetime, float]:
    """Wait for the start from which all times count; return it as a moment and on the clock's steady count.

    A worker that is too late is not waited for: what was due is late, and the slip says so.

    Raises:
        WorkError: another process sends this worker's part.
    """
    common = None if context.common_start is None else await context.common_start()
    begin = LoadBegin(worker=context.worker).model_dump_json().encode() + b"\n"
    name = f"{name_shard_folder(context.shard.index)}/{BEGUN_FILE}"
    if not context.store.create(name, begin) and context.store.read(name) != begin:
        raise _make_begun_error(context)
    now, steady = context.clock.now(), context.clock.monotonic()
    begun = common or now
    start = steady + (begun - now) / timedelta(seconds=1)
    if start > steady:
        await context.clock.sleep(start - steady)
    return begun, start


def _make_begun_error(context: JobContext) -> WorkError:
    hint = "Start the job again: a load test begins and ends in one go."
    return WorkError(f"worker {context.shard.index} of this load test was begun and not finished", hint=hint)


def _make_share(context: JobContext, draws: Sequence[Draw], arrivals: RateProfile | None, start: float) -> LoadShare:
    shard, budget = context.shard, get_load_settings(context.job).budget_limit
    models = {system.label for system in context.plan.systems if system.kind == "provider"}
    judged = any(_has_metrics(context, number) for number in range(len(context.plan.scenarios)))
    return LoadShare(
        worker=shard.index,
        arrivals=() if arrivals is None else arrivals.dealt(shard),
        draws=draws,
        start=start,
        most_in_flight=_limit_in_flight(),
        budget_usd=None if budget is None else float(budget) / shard.count,
        workers=shard.count,
        reporting=frozenset(models),
        kept=choose_kept(divide_levels(arrivals)) if judged else lambda number: False,
    )


def _has_metrics(context: JobContext, number: int) -> bool:
    scenario = context.plan.scenarios[number].scenario
    return bool(scenario.metrics) or any(step.metrics for step in scenario.steps)


def _limit_in_flight() -> int:
    """Return what the generator allows, and what the system gives this process in connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = MOST_IN_FLIGHT + OTHER_FILES
    wanted = min(hard, MOST_IN_FLIGHT + OTHER_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    return max(1, wanted - OTHER_FILES)


def _estimate_turns(draws: Sequence[Draw], arrivals: RateProfile | None, context: JobContext) -> int:
    """About how many turns this worker will send; without a rate nobody knows."""
    if arrivals is None:
        return 0
    return round(arrivals.count / context.shard.count * sum(len(draw.inputs) for draw in draws) / len(draws))


# --- sending --------------------------------------------------------------------------------------------------------


async def _send(
    context: JobContext,
    share: LoadShare,
    clients: Mapping[str, AgentClient],
    receivers: tuple[Recorder, UsageRelay],
    progress: Progress,
) -> Stopped:
    """Drive the share to its end, samples being written meanwhile; also what there is when a signal ends it."""
    recorder, relay = receivers

    def on_sample(sample: TurnSample) -> None:
        recorder.sample(sample)
        progress.advance(failed=sample.error is not None)

    generator = LoadGenerator(share, clients, context.clock, on_sample, recorder.conversation)
    relay.receiver = generator.spend
    writing = asyncio.create_task(recorder.keep_writing())
    writing.add_done_callback(lambda task: generator.cancel())  # what cannot be kept need not be sent
    settings = get_load_settings(context.job)
    rated = settings.target_rps is not None
    try:
        stopped = await (generator.run() if rated else generator.hold(parse_seconds(settings.duration)))
        if writing.done():
            writing.result()
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        await asyncio.shield(asyncio.to_thread(recorder.flush))
    return stopped
