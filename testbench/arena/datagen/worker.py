"""Data generation: rounds of requests, dealt over the shards, until there are enough distinct items or never will be.

    seeds -> requests of a round -> answers, each a file -> reduced -> a further round | dataset and conclusion

Called by the commands `work`, `reduce`, `run` and `run-all` of `testbench.arena.cli`. An answer is written down as soon
as it is there and is never asked for again: a worker that was killed loses what was in flight.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from testbench.arena.bundle.arena_file import arena_file_of
from testbench.arena.conclusion import (
    MISSING_ITEMS,
    MISSING_SHARDS,
    OUTPUT_FAILED,
    Conclusion,
    Counts,
    failed,
    summary_bytes,
)
from testbench.arena.datagen.items import (
    AnsweredRequest,
    BatchRequest,
    FailedRequest,
    RoundDone,
    RoundPlan,
    Seed,
    dataset_bytes,
)
from testbench.arena.datagen.records import (
    read_answers,
    read_done,
    read_round,
    unaccounted,
    write_answer,
    write_done,
    write_round,
)
from testbench.arena.datagen.reduction import Generated, first_round, next_round, reduce_rounds
from testbench.arena.datagen.rounds import MOST_ITEMS, conclude_generation, counted, what_next, writers_of
from testbench.arena.datagen.seeds import seeds_of
from testbench.arena.datagen.writers import Writer, opened_writers, targets_of
from testbench.arena.datagen.writing import AVOIDED, items_of, prompt_of
from testbench.arena.manifest.job import DataGenSettings
from testbench.arena.plan.model import PlanModel
from testbench.arena.runs.context import SUMMARY_FILE, JobContext
from testbench.arena.stores import write_once
from testbench.errors import InputError, JudgeError, StoreError
from testbench.metrics.judge.cost import track_usage
from testbench.schema.models import Usage
from testbench.schema.progress import Progress
from testbench.schema.shards import all_shards


@dataclass(frozen=True)
class Generation:
    """A job that generates data; `providers` take turns at writing it."""

    context: JobContext
    settings: DataGenSettings
    seeds: tuple[Seed, ...]
    providers: tuple[str, ...]

    @property
    def digest(self) -> str:
        return self.context.plan.digest

    def round(self, number: int) -> RoundPlan:
        """What a round asks: the first follows from the plan, the others were decided by the reducer before.

        Raises:
            StoreError: nobody decided it, or it cannot be read.
        """
        if number == 1:
            return first_round(self.digest, self.settings.count, self.seeds, self.providers)
        found = read_round(self.context.store, number, self.digest)
        if found is None:
            hint = f"Reduce round {number - 1} first."
            raise StoreError(f"round {number} of {self.context.plan.job} is not decided yet", hint=hint)
        return found


def generation_of(context: JobContext) -> Generation:
    """Everything that is decided before anybody is asked.

    Raises:
        InputError: the bundle is not the plan's, holds nothing to generate from, or too many items are wanted.
    """
    settings = context.job.spec.data_gen or DataGenSettings()
    if settings.count > MOST_ITEMS:
        raise InputError(
            f"dataGen.count is {settings.count:,}", hint=f"At most {MOST_ITEMS:,}: make several jobs of it."
        )
    bundle = context.bundle
    if bundle.revision != context.plan.source_revision:
        hint = "Give the source that the plan was made with, or plan again."
        raise InputError(f"{bundle.origin}: is not the source of this plan", hint=hint)
    seeds = seeds_of(bundle, arena_file_of(context.job, bundle))
    return Generation(context, settings, seeds, writers_of(context.plan))


logger = logging.getLogger(__name__)

REPORT_FILE: Final = "generation.json"


class GenerationReport(PlanModel):
    """How a dataset came about, for people: what was asked, what failed and why, and what it cost."""

    plan_digest: str
    rounds: int
    requests: int
    seeds: int
    seeds_used: int
    exact_duplicates: int
    near_duplicates: int
    failed: tuple[FailedRequest, ...]
    usage: Usage


async def run_datagen(context: JobContext) -> Conclusion:
    """All rounds of a job in this process; what an earlier process has done is not done again."""
    while True:
        await work_datagen(context)
        end = await reduce_datagen(context)
        if end is not None:
            return end
        context = replace(context, round=context.round + 1)


# --- a shard --------------------------------------------------------------------------------------------------------


async def work_datagen(context: JobContext) -> None:
    """The requests of the shard `context.shard` in the round `context.round`; done when it returns.

    A request that nobody answers is no error: the next round asks for what is missing.

    Raises:
        InputError: the source, the material or a provider cannot be used; nothing was sent.
        StoreError: answers could not be read or written.
    """
    generation = generation_of(context)
    targets = targets_of(context.clients, context.plan.systems)
    planned = generation.round(context.round)
    before = read_done(context.store, context.round, context.shard, generation.digest)
    own = context.shard.of(planned.requests)
    answered = read_answers(context.store, own, generation.digest)
    settled = answered.keys() | ({failure.key for failure in before.failed} if before is not None else set())
    left = [request for request in own if request.key not in settled]
    if before is not None and not left:
        return
    async with opened_writers(context, targets) as writers:
        with context.show_progress(f"round {context.round}", len(own), len(answered)) as progress:
            worker = _Worker(generation, writers, progress)
            worker.learn(planned, answered)
            failures = await worker.do(left)
    given_up = {failure.key for failure in failures}
    done = RoundDone(
        round=context.round,
        plan_digest=generation.digest,
        worker=context.worker,
        answered=tuple(request.key for request in own if request.key not in given_up),
        failed=failures,
    )
    write_done(context.store, context.shard, done)


class _Worker:
    """Asks the requests of a shard, so many at once."""

    def __init__(self, generation: Generation, writers: Mapping[str, Writer], progress: Progress) -> None:
        self._generation = generation
        self._writers = writers
        self._progress = progress
        self._known: defaultdict[int, list[str]] = defaultdict(list)

    def learn(self, planned: RoundPlan, answered: Mapping[str, AnsweredRequest]) -> None:
        """Questions that exist already, by the seed that they were made from."""
        for seed, questions in planned.avoided.items():
            self._known[seed].extend(questions)
        for one in answered.values():
            self._remember(one)

    async def do(self, requests: Sequence[BatchRequest]) -> tuple[FailedRequest, ...]:
        """Every request once; each answer is in the store before the next request is asked.

        Raises:
            StoreError: an answer could not be written.
        """
        failures: list[FailedRequest] = []
        waiting = iter(requests)
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(min(len(requests), self._generation.context.concurrency * len(self._writers))):
                    tasks.create_task(self._work(waiting, failures))
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        return tuple(sorted(failures, key=lambda failure: failure.key))

    async def _work(self, waiting: Iterator[BatchRequest], failures: list[FailedRequest]) -> None:
        context = self._generation.context
        for request in waiting:
            found = await self._ask(request)
            if isinstance(found, FailedRequest):
                failures.append(found)
            else:
                await asyncio.to_thread(write_answer, context.store, context.shard.index, found)
                self._remember(found)
            self._progress.advance(failed=isinstance(found, FailedRequest))

    async def _ask(self, request: BatchRequest) -> AnsweredRequest | FailedRequest:
        writer, seed = self._writers[request.provider], self._generation.seeds[request.seed]
        prompt = prompt_of(request, seed, self._known[request.seed][-AVOIDED:])
        with track_usage() as used:
            try:
                batch = await writer.write(prompt)
            except JudgeError as error:
                return FailedRequest(
                    key=request.key,
                    provider=request.provider,
                    kind=error.kind,
                    message=error.message,
                    usage=used.total,
                )
        return AnsweredRequest(
            plan_digest=self._generation.digest,
            request=request,
            items=items_of(request, seed, batch, writer.model),
            usage=used.total,
        )

    def _remember(self, answered: AnsweredRequest) -> None:
        self._known[answered.request.seed].extend(item.user_input for item in answered.items)


# --- all shards -----------------------------------------------------------------------------------------------------


async def reduce_datagen(context: JobContext) -> Conclusion | None:
    """The end of the run, with the dataset in the store; None where a further round was decided instead.

    Raises:
        InputError: the source or the material cannot be used.
        StoreError: what the shards wrote cannot be read.
    """
    return await asyncio.to_thread(_reduce, generation_of(context))


def _reduce(generation: Generation) -> Conclusion | None:
    context, count = generation.context, generation.settings.count
    rounds = [generation.round(number) for number in range(1, context.round + 1)]
    requests = [request for planned in rounds for request in planned.requests]
    answered = read_answers(context.store, requests, generation.digest)
    failures: list[FailedRequest] = []
    missing: set[int] = set()
    lost: set[str] = set()
    for planned in rounds:
        for shard in all_shards(context.shard.count):
            done = read_done(context.store, planned.number, shard, generation.digest)
            if done is None:
                missing.add(shard.index)
            else:
                lost |= unaccounted(done, shard.of(planned.requests), answered)
                failures.extend(done.failed)
    generated = reduce_rounds(rounds, answered, failures)
    if missing or lost:
        return _incomplete(count, generated, missing, lost)
    if what_next(count, generated.result) == "again":
        write_round(context.store, next_round(rounds, count, generated, generation.seeds, generation.providers))
        wanted = counted(count - generated.result.distinct, "item")
        logger.info("%s of %s missing after round %s: asking for more", wanted, f"{count:,}", context.round)
        return None
    return _finished(generation, generated, requests, failures)


def _incomplete(count: int, generated: Generated, missing: set[int], lost: set[str]) -> Conclusion:
    """Not all that was planned was done: the run can be taken up again, so nothing is written that would end it."""
    if missing:
        reason, told = MISSING_SHARDS, f"{counted(len(missing), 'shard')} did not finish."
    else:
        reason, told = MISSING_ITEMS, f"{counted(len(lost), 'request')} without an answer and without a failure."
    made = min(generated.result.distinct, count)
    return Conclusion(
        phase="Failed",
        reason=reason,
        message=f"{told} {made:,} of {count:,} items so far; a run that is taken up again keeps them.",
        counts=Counts(total=count, errors=count),
    )


def _finished(
    generation: Generation, generated: Generated, requests: Sequence[BatchRequest], failures: Sequence[FailedRequest]
) -> Conclusion:
    """The end, with the dataset in the store; one that is too small is called partial."""
    store, settings, result = generation.context.store, generation.settings, generated.result
    end = conclude_generation(settings.count, result, generated.usage).model_copy(update={"url": store.url()})
    name = f"dataset{'' if end.phase == 'Succeeded' else '.partial'}.{settings.format}"
    report = GenerationReport(
        plan_digest=generation.digest,
        rounds=result.rounds,
        requests=len(requests),
        seeds=len(generation.seeds),
        seeds_used=len({request.seed for request in requests}),
        exact_duplicates=result.exact,
        near_duplicates=result.near,
        failed=tuple(failures),
        usage=generated.usage,
    )
    try:
        if generated.items:
            write_once(store, name, dataset_bytes(generated.items[: settings.count], settings.format))
        write_once(store, REPORT_FILE, report.model_dump_json(exclude_none=True, indent=2).encode() + b"\n")
        write_once(store, SUMMARY_FILE, summary_bytes(end))
    except StoreError as error:
        return failed(end, OUTPUT_FAILED, f"{error.message}.")
    return end
