"""A data generation's worker: its shard of the requests of a round.

    seeds -> requests of the round -> those of the shard -> answers, each a file -> done

Called by the commands `work`, `run` and `run-all` of `testbench arena`. An answer is written down as soon
as it is there and is never asked for again: a worker that was killed loses what was in flight.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from testbench.arena.datagen.generation import (
    Generation,
    make_generation,
    read_answers,
    read_done,
    write_answer,
    write_done,
)
from testbench.arena.datagen.items import (
    AVOIDED,
    AnsweredRequest,
    BatchRequest,
    FailedRequest,
    RoundDone,
    RoundPlan,
    take_items,
    write_prompt,
)
from testbench.arena.datagen.writers import Writer, find_targets, open_writers
from testbench.arena.runs.context import JobContext
from testbench.errors import JudgeError
from testbench.metrics.judge.cost import track_usage
from testbench.schema.progress import Progress


async def work_datagen(context: JobContext) -> None:
    """The requests of the shard `context.shard` in the round `context.round`; done when it returns.

    A request that nobody answers is no error: the next round asks for what is missing.

    Raises:
        InputError: the source, the material or a provider cannot be used; nothing was sent.
        StoreError: answers could not be read or written.
    """
    generation = make_generation(context)
    targets = find_targets(context.clients, context.plan.systems)
    planned = generation.round(context.round)
    before = read_done(context.store, context.round, context.shard, generation.digest)
    own = context.shard.of(planned.requests)
    answered = read_answers(context.store, own, generation.digest)
    settled = answered.keys() | ({failure.key for failure in before.failed} if before is not None else set())
    left = [request for request in own if request.key not in settled]
    if before is not None and not left:
        return
    async with open_writers(context, targets) as writers:
        with context.show_progress(f"round {context.round}", len(own), len(answered)) as progress:
            worker = _RequestWorker(generation, writers, progress)
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


class _RequestWorker:
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
        """Ask every request once; each answer is in the store before the next is asked. Return those that failed.

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
        prompt = write_prompt(request, seed, self._known[request.seed][-AVOIDED:])
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
            items=take_items(request, seed, batch, writer.model),
            usage=used.total,
        )

    def _remember(self, answered: AnsweredRequest) -> None:
        self._known[answered.request.seed].extend(item.user_input for item in answered.items)
