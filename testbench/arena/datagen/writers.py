"""The models that write data: a job's Providers, asked for structured output as patiently as a judge is.

    SystemUnderTest -> ChatTarget -> OpenAIJudge -> Batch, or a JudgeError without the provider's secrets

Called by `datagen`. Repair of an unfit answer, retries, pace, deadline and costs are those of the judge's client.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from testbench import defaults
from testbench.arena.datagen.items import SYSTEM, Batch
from testbench.arena.plan.model import SystemUnderTest
from testbench.arena.runs.context import Clients, JobContext
from testbench.arena.runs.target_clients import list_prices
from testbench.arena.targets.target import ChatTarget
from testbench.errors import InputError, JudgeError
from testbench.metrics.judge.judge import Judge, JudgeSettings, Question
from testbench.safe_text import redact_line

MESSAGE_LENGTH: Final = 500


class Writer:
    """One model that writes items; used by all requests in flight at once."""

    def __init__(self, target: ChatTarget, judge: Judge) -> None:
        self._target = target
        self._judge = judge

    @property
    def model(self) -> str:
        return self._target.model

    async def write(self, prompt: str) -> Batch:
        """Return the items of an answer.

        Raises:
            JudgeError: there are none.
        """
        try:
            return await self._judge.ask(Question(prompt, Batch, system=SYSTEM))
        except JudgeError as error:
            error.message = redact_line(error.message, self._target.secrets, MESSAGE_LENGTH)
            error.raw = None  # the model's own words are of no use without the question
            raise

    async def close(self) -> None:
        await self._judge.close()


def find_targets(clients: Clients, systems: Iterable[SystemUnderTest]) -> Mapping[str, ChatTarget]:
    """Whom to ask, by name.

    Raises:
        InputError: one is no model, has no usable address, or its credential is not there.
    """
    targets: dict[str, ChatTarget] = {}
    for system in systems:
        target = clients.target(system.kind, system.name)
        if not isinstance(target, ChatTarget):
            hint = "Name Providers in spec.providers: data is written by a model."
            raise InputError(f"{system.name} is an agent and cannot write data", hint=hint)
        targets[system.name] = target
    return targets


@asynccontextmanager
async def open_writers(context: JobContext, targets: Mapping[str, ChatTarget]) -> AsyncIterator[Mapping[str, Writer]]:
    """Yield a writer for each of them, closed at the end."""
    async with AsyncExitStack() as stack:
        writers = {}
        for name, target in targets.items():
            writers[name] = Writer(target, _make_judge(target, context))
            stack.push_async_callback(writers[name].close)
        yield writers


def _make_judge(target: ChatTarget, context: JobContext) -> Judge:
    from testbench.metrics.judge.client import OpenAIJudge

    settings = JudgeSettings(
        base_url=target.base_url,
        api_key=target.api_key,
        model=target.model,
        headers=target.headers,
        concurrency=context.concurrency,
        timeout_s=max(target.timeout_s, defaults.WRITER_TIMEOUT_S),
        max_tokens=target.max_tokens or defaults.JUDGE_MAX_TOKENS,
        adaptive=True,
        temperature=defaults.WRITER_TEMPERATURE if target.temperature is None else target.temperature,
        prices=list_prices(target),
        role="model",
    )
    return OpenAIJudge(settings, context.clock, context.tracing.instrument)
