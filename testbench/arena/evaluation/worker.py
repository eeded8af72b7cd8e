"""An evaluation's worker: every item of its shard as a conversation, judged, and written down as soon as it is there.

    plan.judge (a Provider with its own address, key and model) | the environment -> judge
    items of the shard without a result -> conversation (A2AExecutor, self-play) -> judge -> ItemResult -> part

Called by the commands `work`, `run` and `run-all` of `testbench arena`. Nothing is lost but what is in flight: a
worker that was stopped, or killed, leaves its parts, and the next one of the shard goes on with what is missing.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Final

from testbench.arena.evaluation.results import ItemResult, reduce_parts
from testbench.arena.plan.model import Item, PlannedScenarioFile, SystemUnderTest
from testbench.arena.plan.text import list_metrics
from testbench.arena.runs.context import JobContext, find_kind, name_shard_folder
from testbench.arena.runs.parts import PartWriter, is_done, mark_done, read_parts
from testbench.arena.runs.target_clients import list_prices
from testbench.arena.targets.chat_client import ChatClient
from testbench.arena.targets.simulated_user import make_player, play, reword
from testbench.arena.targets.target import ChatTarget
from testbench.errors import InputError, RemoteError
from testbench.execution.executor import A2AExecutor, RunDependencies, StepRules, Trial
from testbench.execution.run import CONNECTING
from testbench.metrics.evaluation import EvaluationDependencies, EvaluationSettings, open_evaluator
from testbench.metrics.evaluator import MetricEvaluator
from testbench.metrics.judge.judge import BASE_URLS
from testbench.metrics.registry import GenericMetricsRegistry
from testbench.net.pacing import CEILING, Pacer, automatic_pace
from testbench.net.retry import GaveUp, RetryPolicy, call_with_retries
from testbench.schema.agent import AgentClient, AgentDescription, AgentReply, Conversation
from testbench.schema.ids import assign_ids
from testbench.schema.models import EvaluatedScenario, ExecutedScenario
from testbench.schema.progress import Progress
from testbench.schema.runtime import ExperimentRuntime


@dataclass(frozen=True)
class JudgeChoice:
    """How conversations are judged; `environment` names the judge's gateway."""

    settings: EvaluationSettings
    environment: Mapping[str, str]


class ConversationJudge:
    """Judges one conversation after the other, or many at once."""

    def __init__(self, evaluator: MetricEvaluator) -> None:
        self._evaluator = evaluator

    async def evaluate(self, executed: ExecutedScenario) -> EvaluatedScenario:
        """Return the conversation with the verdicts of its metrics; what could not be judged is an error in it."""
        (evaluated,) = await ExperimentRuntime(self._evaluator, concurrency=1).run([executed])
        return evaluated


def choose_judge(context: JobContext) -> JudgeChoice:
    """Return the judge of a job.

    Raises:
        InputError: its Provider has no usable address, or settings that a judge cannot be asked with.
    """
    plan = context.plan
    settings = EvaluationSettings(
        model=context.judge_model or plan.judge_model,
        concurrency=CEILING,
        adaptive=True,
        cache=context.judge_cache,
    )
    if plan.judge is None:
        return JudgeChoice(settings, context.environment)
    target = context.clients.target("provider", plan.judge)
    if not isinstance(target, ChatTarget) or target.headers:
        hint = "A judge is a Provider with baseURL, model and credential, and without headers of its own."
        raise InputError(f"Provider {plan.judge} cannot judge", hint=hint)
    own = replace(settings, model=target.model, prices=list_prices(target))
    gateway = {BASE_URLS[0]: target.base_url, "OPENAI_API_KEY": target.api_key or ""}
    return JudgeChoice(own, {**context.environment, **gateway})


@asynccontextmanager
async def open_judge(context: JobContext) -> AsyncIterator[ConversationJudge]:
    """Yield the judge of all conversations of a worker; closed at the end.

    Raises:
        InputError: a metric, its parameters or the judge's settings cannot be used.
    """
    registry = GenericMetricsRegistry()
    specs = registry.check_all(
        (planned.path, metric) for planned in context.plan.scenarios for metric in list_metrics(planned)
    )
    judging = choose_judge(context)
    dependencies = EvaluationDependencies(
        judging.environment,
        registry=registry,
        clock=context.clock,
        open_tracing=lambda: nullcontext(context.tracing),
    )
    async with open_evaluator(judging.settings, specs, dependencies) as evaluator:
        yield ConversationJudge(evaluator)


class ReconnectingClient:
    """Implements `AgentClient` around one that is not connected yet."""

    def __init__(self, client: AgentClient) -> None:
        self._client = client
        self._connected: AgentDescription | None = None
        self._attempt: asyncio.Task[AgentDescription] | None = None

    async def connect(self) -> AgentDescription:
        """Conversations that come at the same time share one attempt: a dead address costs its timeout only once."""
        if self._connected is None:
            if self._attempt is None:
                self._attempt = asyncio.create_task(self._client.connect())
                self._attempt.add_done_callback(self._attempted)
            self._connected = await asyncio.shield(self._attempt)
        return self._connected

    async def send_step(self, text: str, conversation: Conversation) -> AgentReply:
        await self.connect()
        return await self._client.send_step(text, conversation)

    async def close(self) -> None:
        if self._attempt is not None:
            self._attempt.cancel()
        await self._client.close()

    def _attempted(self, attempt: asyncio.Task[AgentDescription]) -> None:
        self._attempt = None
        if not attempt.cancelled():
            attempt.exception()  # whoever waits has it; where nobody does any more, it is of no interest


RETRY: Final = RetryPolicy(patient=True)
"""A provider that asks for less gets less, and the time that a step has."""
JUDGED_BESIDE: Final = 2
"""So many times the conversations in flight are being talked or judged: the next one begins while one is judged."""


@dataclass(frozen=True)
class Side:
    """Somebody who takes part in conversations: a client, and how much at once it can take."""

    client: AgentClient
    pacer: Pacer


async def work_evaluation(context: JobContext) -> None:
    """The shard `context.shard`; done when it returns.

    Raises:
        InputError: an entry, a metric or the judge cannot be used; nothing was sent.
        AgentError: nobody under test can be reached; nothing was sent.
        StoreError: results could not be written.
    """
    items = context.shard.of(context.plan.items)
    if is_done(context.store, context.plan, context.shard):
        return
    left = _list_left(context, items)
    if left:
        async with open_judge(context) as judge, _open_sides(context) as sides:
            with context.show_progress("arena", len(items), len(items) - len(left)) as progress:
                worker = _ItemWorker(context, judge, sides, progress)
                await worker.do(left)
    mark_done(context, len(items))


def _list_left(context: JobContext, items: Sequence[Item]) -> list[Item]:
    """Return the items of the shard without a result, whoever has worked on it before."""
    folder = name_shard_folder(context.shard.index)
    found = reduce_parts(context.plan, (content for _, content in read_parts(context.store, folder)))
    return [item for item in items if item.key not in found.results]


@asynccontextmanager
async def _open_sides(context: JobContext) -> AsyncIterator[Mapping[tuple[str, str], Side]]:
    """Everybody in the plan, by kind and name; players are of the kind `user`.

    Also those whom this shard does not meet: however the items are dealt, one system that is down among others is an
    error of its items, and does not end the run.

    Raises:
        AgentError: none of those under test can be reached.
    """
    async with AsyncExitStack() as stack:
        sides: dict[tuple[str, str], Side] = {}
        for system in context.plan.systems:
            for key in _list_sides(system):
                if key not in sides:
                    client = _open_client(context, key, system)
                    stack.push_async_callback(client.close)
                    sides[key] = Side(client, Pacer(automatic_pace(context.concurrency)))
        down = await _find_unreachable(sides, context)
        tested = {(system.kind, system.name) for system in context.plan.systems}
        if tested <= down.keys():
            raise down[min(tested)]
        yield {key: _make_reconnecting(side) if key in down else side for key, side in sides.items()}


def _list_sides(system: SystemUnderTest) -> list[tuple[str, str]]:
    tested = (system.kind, system.name)
    return [tested, ("user", system.user)] if system.user is not None else [tested]


def _open_client(context: JobContext, key: tuple[str, str], system: SystemUnderTest) -> AgentClient:
    kind, name = key
    if kind != "user":
        return context.clients.system(system)
    return context.clients.entry(find_kind(context.documents, context.job.metadata.namespace, name), name)


async def _find_unreachable(
    sides: Mapping[tuple[str, str], Side], context: JobContext
) -> dict[tuple[str, str], RemoteError]:
    """Return who cannot be reached, and why. One that is down among others is an error in each of its items."""
    tried = await asyncio.gather(
        *(call_with_retries(side.client.connect, CONNECTING, context.clock, random.random) for side in sides.values())
    )
    return {key: found.error for key, found in zip(sides, tried, strict=True) if isinstance(found, GaveUp)}


def _make_reconnecting(side: Side) -> Side:
    """Return a side that was down as one that connects later; a model is asked anew with every message anyway."""
    return side if isinstance(side.client, ChatClient) else replace(side, client=ReconnectingClient(side.client))


class _ItemWorker:
    """Does the items of a shard, so many at once."""

    def __init__(
        self,
        context: JobContext,
        judge: ConversationJudge,
        sides: Mapping[tuple[str, str], Side],
        progress: Progress,
    ) -> None:
        self._context = context
        self._judge = judge
        self._sides = sides
        self._progress = progress
        self._planned = {planned.id: planned for planned in context.plan.scenarios}
        self._repeats = max((item.repetition for item in context.plan.items), default=1)
        self._talking = asyncio.Semaphore(context.concurrency)
        self._parts = PartWriter(context.store, context.shard.index, context.worker, context.clock)
        self._dependencies = RunDependencies(tracer=context.tracing, clock=context.clock)

    async def do(self, items: Sequence[Item]) -> None:
        """Every item, each written down as soon as it is there; also what is finished when a signal ends it.

        Raises:
            StoreError: results could not be written.
        """
        waiting = iter(items)
        try:
            writing = asyncio.create_task(self._parts.keep_writing())
            working = [
                asyncio.create_task(self._work(waiting))
                for _ in range(min(len(items), JUDGED_BESIDE * self._context.concurrency))
            ]
            await _wait_for_all(working, beside=writing)
        finally:
            self._parts.flush()

    async def _work(self, waiting: Iterator[Item]) -> None:
        for item in waiting:
            async with self._talking:
                executed = await self._converse(item)
            evaluated = await self._judge.evaluate(executed)
            result = ItemResult(
                key=item.key,
                plan_digest=self._context.plan.digest,
                shard=self._context.shard.index,
                worker=self._context.worker,
                finished_at=self._context.clock.now(),
                scenario=evaluated,
            )
            self._parts.add(result.model_dump_json(exclude_none=True).encode() + b"\n")
            self._progress.advance(failed=any(step.status != "ok" for step in executed.steps))

    async def _converse(self, item: Item) -> ExecutedScenario:
        planned, system = self._planned[item.scenario_id], item.system
        side = self._sides[system.kind, system.name]
        client = side.client
        if isinstance(client, ChatClient) and planned.system_prompt:
            client = client.prompted(planned.system_prompt)
        hooks = A2AExecutor(client, StepRules(RETRY), self._dependencies, side.pacer, lambda step, attempts: None)
        trial = make_trial(planned, item, self._repeats)
        if system.user is None:
            (executed,) = await ExperimentRuntime(hooks, concurrency=1).run([trial])
        else:
            player = make_player(self._sides["user", system.user].client, self._patiently(system.user))
            if planned.self_play is None:
                executed = await reword(trial, player, hooks)
            else:
                executed = await play(trial, planned.self_play, player, hooks, scenario_id=planned.id)
        return executed.model_copy(update={"provider": system.label, "repetition": item.repetition})

    def _patiently(self, user: str) -> Callable[[Callable[[], Awaitable[AgentReply]]], Awaitable[AgentReply]]:
        """Requests of a player, tried again as those to an agent are."""
        pacer = self._sides["user", user].pacer

        async def ask(request: Callable[[], Awaitable[AgentReply]]) -> AgentReply:
            clock = self._context.clock
            said = await call_with_retries(
                request, RETRY, clock, random.random, lambda again: pacer.take_slot(ahead=True)
            )
            if isinstance(said, GaveUp):
                raise said.error
            return said.value

        return ask


def make_trial(planned: PlannedScenarioFile, item: Item, repeats: int) -> Trial:
    """Return an item as the executor takes it; its ids are the plan's."""
    (scenario,) = assign_ids([planned.scenario])
    return Trial(scenario.model_copy(update={"id": item.scenario_id}), item.repetition, repeats)


async def _wait_for_all(working: Sequence[asyncio.Task[None]], *, beside: asyncio.Task[None]) -> None:
    """Wait for all that is worked on; what fails, here or in the task beside, ends all of it."""
    left: set[asyncio.Task[None]] = {*working, beside}
    try:
        while left - {beside}:
            done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        for task in (*working, beside):
            task.cancel()
        await asyncio.gather(*working, beside, return_exceptions=True)
