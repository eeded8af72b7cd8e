"""What a load worker saw, on its way to the store while it sends: samples as Parquet, kept conversations as lines.

    samples, conversations -> buffers -> parts of the shard, created once

Called by `load`. A part is written every `ROWS_OF_A_PART` samples or `FLUSH_INTERVAL_S` seconds, in a thread of its
own, so that writing delays no request.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from pydantic import Field

from testbench.arena.load.generator import KeptConversation, Stopped
from testbench.arena.load.measures import TurnSample, encode_samples
from testbench.arena.load.traffic import list_drawn_items
from testbench.arena.plan.model import PlanModel
from testbench.arena.runs.context import JobContext, name_part
from testbench.arena.stores import write_once
from testbench.errors import AgentError
from testbench.schema.agent import AgentReply
from testbench.schema.ids import assign_ids
from testbench.schema.models import ExecutedScenario, ExecutedStep, Failure, PlannedScenario, PlannedStep, Turn

ROWS_OF_A_PART: Final = 20_000
FLUSH_INTERVAL_S: Final = 10.0
BEGUN_FILE: Final = "begun.json"
"""Of a worker that sends: a second one of the same shard finds it, and does not double the load."""
END_FILE: Final = "end.json"


class LoadBegin(PlanModel):
    """Who sends a worker's part of the test; written before the first request."""

    worker: str


class LoadEnd(PlanModel):
    """How one worker's part of the test went; beside the parts with its samples."""

    started_at: datetime = Field(description="The start from which all its times are counted.")
    stopped_by: Stopped
    samples: int


class KeptScenario(PlanModel):
    """A conversation that is to be judged, with the number of its arrival."""

    arrival: int
    scenario: ExecutedScenario


class Recorder:
    """Takes what the generator sees; made inside the event loop, for one worker."""

    def __init__(self, context: JobContext) -> None:
        self._store = context.store
        self._shard = context.shard
        self._worker = context.worker
        self._items = list_drawn_items(context.plan)
        self._planned = _plan_scenarios(context)
        self._samples: list[TurnSample] = []
        self._conversations: list[KeptConversation] = []
        self._part = 0
        self._full = asyncio.Event()
        self._writing = threading.Lock()
        self.samples = 0
        encode_samples(())  # what writes Parquet is loaded now, and not while requests are due

    def sample(self, sample: TurnSample) -> None:
        """Take a sample; it is on its way to the store."""
        self.samples += 1
        self._samples.append(sample)
        if len(self._samples) >= ROWS_OF_A_PART:
            self._full.set()

    def conversation(self, kept: KeptConversation) -> None:
        """Take a conversation that is to be judged."""
        self._conversations.append(kept)

    async def keep_writing(self) -> None:
        """Write parts until cancelled.

        Raises:
            StoreError: a part was not written.
        """
        while True:
            try:
                async with asyncio.timeout(FLUSH_INTERVAL_S):
                    await self._full.wait()
            except TimeoutError:
                pass
            self._full.clear()
            await asyncio.to_thread(self.flush)

    def flush(self) -> None:
        """Write all that was taken; afterwards it is in the store.

        Raises:
            StoreError: it was not written.
        """
        with self._writing:
            samples, self._samples = self._samples, []
            conversations, self._conversations = self._conversations, []
            if samples:
                self._create("parquet", encode_samples(samples))
            if conversations:
                self._create("jsonl", b"".join(map(self._line, conversations)))

    def _create(self, suffix: str, content: bytes) -> None:
        self._part += 1
        write_once(self._store, name_part(self._shard.index, self._worker, self._part, suffix), content)

    def _line(self, kept: KeptConversation) -> bytes:
        item = self._items[kept.arrival % len(self._items)]
        scenario = _make_executed(self._planned[item.scenario_id], kept).model_copy(
            update={"provider": kept.draw.system}
        )
        return KeptScenario(arrival=kept.arrival, scenario=scenario).model_dump_json(exclude_none=True).encode() + b"\n"


def _plan_scenarios(context: JobContext) -> Mapping[str, PlannedScenario]:
    """Return the scenarios with the ids of the plan."""
    found = {}
    for planned in context.plan.scenarios:
        (scenario,) = assign_ids([planned.scenario])
        found[planned.id] = scenario.model_copy(update={"id": planned.id})
    return found


def _make_executed(planned: PlannedScenario, kept: KeptConversation) -> ExecutedScenario:
    steps = []
    for number, step in enumerate(planned.steps):
        reply = kept.replies[number] if number < len(kept.replies) else None
        latency_s = kept.latencies_s[number] if reply is not None else None
        steps.append(_make_step(step, reply, latency_s))
    return ExecutedScenario.model_validate(dict(planned) | {"steps": tuple(steps)})


def _make_step(step: PlannedStep, reply: AgentReply | AgentError | None, latency_s: float | None) -> ExecutedStep:
    asked = Turn(type="human", content=step.input)
    if reply is None:
        return ExecutedStep.model_validate(dict(step) | {"status": "skipped"})
    if isinstance(reply, AgentError):
        failure = Failure(kind=reply.kind, message=reply.message, retryable=reply.retryable)
        return ExecutedStep.model_validate(dict(step) | {"status": "error", "error": failure, "turns": (asked,)})
    told = {
        "status": "ok",
        "turns": (asked, *reply.turns),
        "context_id": reply.context_id,
        "usage": reply.usage,
        "latency_ms": None if latency_s is None else round(latency_s * 1000, 3),
        "time_to_first_token_ms": reply.time_to_first_token_ms,
    }
    return ExecutedStep.model_validate(dict(step) | told)
