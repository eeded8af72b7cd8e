"""All that a worker or a reducer of a job has to do with: one value, made by the commands, and by tests with fakes.

    manifest, bundle, credentials, store, signals -> JobContext -> evaluation | load | datagen

What a type of job does with it is in `job_types`.

**Signals.** SIGTERM and Ctrl-C cancel the coroutine. Write what is finished in `finally` (or on `CancelledError`, which
passes on): a worker that was stopped is never taken for one that is done, and the next one goes on with what is there.

**Files.** `context.store` is the folder of this run; its names are relative to it and are created once. A shard is done
when `name_done_marker(index)` is there.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from testbench import defaults
from testbench.arena.bundle.bundle import Bundle
from testbench.arena.manifest.documents import Documents
from testbench.arena.manifest.job import ArenaJob
from testbench.arena.plan.model import Plan, SystemUnderTest
from testbench.arena.stores import ResultStore, check_name
from testbench.arena.targets.target import Target
from testbench.errors import InputError
from testbench.net.clock import Clock, SystemClock
from testbench.results.verdict import Policy
from testbench.schema.agent import AgentClient
from testbench.schema.models import Usage
from testbench.schema.progress import ShowProgress, hide_progress
from testbench.schema.shards import WHOLE, Shard
from testbench.schema.tracing import Tracing, Untraced

PLAN_FILE: Final = "plan.json"
MANIFEST_FILE: Final = "manifest.yaml"
SUMMARY_FILE: Final = "summary.json"
SHARDS: Final = "shards"
DONE_FILE: Final = "done.json"

OnSpent = Callable[[Usage], None]
"""Receives the usage of every completion of a model, those of failed steps included."""


class Clients(Protocol):
    """Opens clients with their own addresses and credentials; who opens one closes it. To be used in the event loop."""

    def target(self, kind: str, name: str) -> Target:
        """Return who is talked to: `kind` and `name` as in `SystemUnderTest`.

        Raises:
            InputError: it has no usable address, or its credential is not there.
        """

    def system(self, system: SystemUnderTest, *, on_spent: OnSpent | None = None) -> AgentClient:
        """A client of a system under test, with the tools that the job offers; its system prompt is the scenario's
        (`ChatClient.prompted`).

        Raises:
            InputError: see `target`.
        """

    def entry(self, kind: str, name: str, *, on_spent: OnSpent | None = None) -> AgentClient:
        """Return a client without tools: of a simulated user, or of a model that writes data.

        Raises:
            InputError: see `target`.
        """


@dataclass(frozen=True)
class RunFolder:
    """The files of one run: a store within a store."""

    whole: ResultStore
    folder: str

    def create(self, name: str, content: bytes) -> bool:
        return self.whole.create(self._full(name), content)

    def read(self, name: str) -> bytes | None:
        return self.whole.read(self._full(name))

    def names(self, folder: str) -> tuple[str, ...]:
        found = self.whole.names(self._full(folder))
        return tuple(name.removeprefix(f"{self.folder}/") for name in found)

    def url(self, name: str = "") -> str:
        return self.whole.url(f"{self.folder}/{name}" if name else self.folder)

    def _full(self, name: str) -> str:
        return f"{self.folder}/{check_name(name)}"


CommonStart = Callable[[], Awaitable[datetime]]
"""Waits until all workers are ready; the moment from which they count."""


@dataclass(frozen=True)
class Outputs:
    """What a reducer makes of the results: by which policy it judges, and whether it publishes the scores over OTLP."""

    policy: Policy = field(default_factory=Policy)
    publish: bool = False
    trace_url: str | None = None
    """Where a report's traces are, with `{trace_id}`."""


@dataclass(frozen=True)
class JobContext:
    """A job with its plan, its shard and its dependencies.

    `documents` are those that the plan was made with. `source` is the bundle, which only data generation needs after
    the plan is made. `shard.count` is also how many shards a reducer expects. `common_start` waits for the other
    workers of a load test, once this one is ready; without it each starts at once. `round` counts the rounds of data
    generation from 1.
    """

    job: ArenaJob
    documents: Documents
    plan: Plan
    store: RunFolder
    run_id: str
    clients: Clients
    source: Bundle | None = None
    shard: Shard = WHOLE
    worker: str = "local"
    """A name that no other process has."""
    round: int = 1
    common_start: CommonStart | None = None
    concurrency: int = defaults.AGENT_CONCURRENCY
    """Conversations in flight, of all systems of a worker together."""
    clock: Clock = field(default_factory=SystemClock)
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    tracing: Tracing = field(default_factory=Untraced)
    judge_model: str | None = None
    """Instead of the one that scenarios name, where no entry of the job judges."""
    judge_cache: Path | None = None
    """Folder of the judge's earlier answers."""
    outputs: Outputs = field(default_factory=Outputs)
    show_progress: ShowProgress = hide_progress

    @property
    def bundle(self) -> Bundle:
        """The files of the job's source.

        Raises:
            InputError: nobody said where they are.
        """
        if self.source is None:
            raise InputError("this needs the files of the job's source", hint="Say with --source where they are.")
        return self.source


def find_kind(documents: Documents, namespace: str, name: str) -> str:
    """Return whether an entry that is known by name alone, such as a simulated user, is a `provider` or an `agent`."""
    return "provider" if documents.providers.named(name, namespace) is not None else "agent"


def name_shard_folder(index: int) -> str:
    """Return where the files of a shard are."""
    return f"{SHARDS}/{index}"


def name_done_marker(index: int) -> str:
    """Return the file that says that a shard is done, and of which parts it consists."""
    return f"{name_shard_folder(index)}/{DONE_FILE}"


def name_part(index: int, worker: str, number: int, suffix: str = "jsonl") -> str:
    """Return a file of results, e.g. `shards/0/part-local-1.jsonl`; no two processes write the same one."""
    return f"{name_shard_folder(index)}/part-{worker}-{number}.{suffix}"
