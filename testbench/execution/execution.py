"""Phase run as a whole: what is already done is kept, the rest is sent, and the output is written when it is complete.

    experiment -> plan (ids) -> minus journal or finished output -> runtime and executor -> journal -> output

Called by `testbench/run.py`. The lock, the journal and the output belong together: all are named after the output.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

from pydantic import ValidationError

from testbench import __version__, defaults
from testbench.errors import NothingToDo, StoreError
from testbench.execution.executor import A2AExecutor, OnStepError, StepRules, Surroundings
from testbench.execution.retry import GaveUp, RetryPolicy, persist
from testbench.execution.statistics import RunStatistics, Sending, run_statistics
from testbench.redaction import shown_url
from testbench.schema.agent import AgentClient, AgentDescription
from testbench.schema.files import write_model
from testbench.schema.identity import content_id, experiment_id, plan
from testbench.schema.journal import Found, Journal, journal_path, read_journal
from testbench.schema.lock import locked
from testbench.schema.models import (
    ExecutedExperiment,
    ExecutedScenario,
    ExecutedStep,
    Experiment,
    PlannedScenario,
    RunRecord,
)
from testbench.schema.runtime import ExperimentRuntime

CONNECTING: Final = RetryPolicy(retries=2, deadline_s=20.0, base_s=0.5, cap_s=2.0)
"""An agent that is just starting gets a moment; one that is down is found out within seconds."""
SECRET: Final = re.compile(r"auth|cookie|token|key|secret|password|credential|signature", re.IGNORECASE)
"""Headers whose value may change (a token expires) while the run stays the same."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunSettings:
    """What the command line decides about a run."""

    agent_url: str
    output: Path
    workflow_name: str = defaults.WORKFLOW_NAME
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    concurrency: int = defaults.AGENT_CONCURRENCY
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    on_step_error: OnStepError = "skip"
    fresh: bool = False
    retry_errors: bool = False


class Progress(Protocol):
    """Is told of every step that is done."""

    def advance(self, *, failed: bool = False) -> None: ...


ShowProgress = Callable[[int, int], AbstractContextManager[Progress]]
"""Opens the progress of a run of so many steps, of which so many are done."""


@dataclass(frozen=True)
class RunResult:
    """The executed experiment as it stands in the output, and whether that was there already."""

    executed: ExecutedExperiment
    statistics: RunStatistics
    already_complete: bool = False


@dataclass(frozen=True)
class _Kept:
    """What need not be sent again: finished scenarios by id, and the journal that holds them."""

    scenarios: Mapping[str, ExecutedScenario] = field(default_factory=dict)
    journal: Found[ExecutedScenario] | None = None


async def execute(
    experiment: Experiment,
    settings: RunSettings,
    agent: AgentClient,
    surroundings: Surroundings,
    show_progress: ShowProgress,
) -> RunResult:
    """Run an experiment and write the output.

    Raises:
        NothingToDo: there is no step.
        AgentError: the agent is not there; nothing was sent and nothing written.
        StoreError: another run writes the same output, or it cannot be written.
    """
    scenarios = plan(experiment.scenarios)
    if not any(scenario.steps for scenario in scenarios):
        raise NothingToDo("the experiment has no step", hint="Check the dataset, or --limit of testbench/setup.py.")
    identity = run_identity(experiment, settings)
    with locked(settings.output):
        finished = None if settings.fresh else _finished_output(settings.output, identity)
        found = None if settings.fresh else read_journal(journal_path(settings.output), identity, ExecutedScenario)
        if finished is not None and found is None and not (settings.retry_errors and _has_errors(finished)):
            return RunResult(finished, run_statistics(finished, Sending()), already_complete=True)
        kept = _kept(scenarios, finished, found, retry_errors=settings.retry_errors)
        if finished is None:
            _set_aside(settings.output)
        if found is None:
            _set_aside(journal_path(settings.output))
        run = _Run(experiment, settings, identity, agent, surroundings)
        return await run.execute(scenarios, kept, show_progress)


def run_identity(experiment: Experiment, settings: RunSettings) -> str:
    """The digest of all that decides the answers: input, target, and the settings that change what is sent."""
    headers = sorted(
        (name.lower(), "" if SECRET.search(name) else hashlib.sha256(value.encode()).hexdigest())
        for name, value in settings.headers
    )
    address = urlsplit(settings.agent_url)
    place = [address.scheme, address.netloc.rpartition("@")[2], address.path, address.query]
    target = [place, settings.workflow_name, headers]
    return content_id("run", experiment_id(experiment), target, settings.on_step_error)


@dataclass(frozen=True)
class _Run:
    """One run from the first message to the output."""

    experiment: Experiment
    settings: RunSettings
    identity: str
    agent: AgentClient
    surroundings: Surroundings

    async def execute(
        self, scenarios: Sequence[PlannedScenario], kept: _Kept, show_progress: ShowProgress
    ) -> RunResult:
        clock = self.surroundings.clock
        started_at, started = clock.now(), clock.monotonic()
        remaining = [scenario for scenario in scenarios if scenario.id not in kept.scenarios]
        sending = Sending(scenarios_taken_over=len(kept.scenarios))
        description = AgentDescription()
        done = dict(kept.scenarios)
        path = journal_path(self.settings.output)
        if remaining:
            description = await self._connect()
        with Journal(path, self.identity, kept.journal, clock) as journal:
            if kept.journal is None:
                for scenario in kept.scenarios.values():
                    journal.append(scenario)
            steps_kept = sum(len(scenario.steps) for scenario in kept.scenarios.values())
            with show_progress(sum(len(scenario.steps) for scenario in scenarios), steps_kept) as progress:
                for scenario in await self._send(remaining, journal, sending, progress):
                    done[scenario.id] = scenario
            sending.seconds = clock.monotonic() - started
            record = RunRecord(
                agent_url=shown_url(self.settings.agent_url),
                agent_name=description.name,
                agent_version=description.version,
                protocol_version=description.protocol_version,
                workflow_name=self.settings.workflow_name,
                testbench_version=__version__,
                started_at=started_at,
                wall_seconds=sending.seconds,
                identity=self.identity,
            )
            executed = _executed(self.experiment, [done[scenario.id] for scenario in scenarios], record)
            write_model(self.settings.output, executed)
            journal.discard()
        return RunResult(executed, run_statistics(executed, sending))

    async def _connect(self) -> AgentDescription:
        connected = await persist(self.agent.connect, CONNECTING, self.surroundings.clock, self.surroundings.chance)
        if isinstance(connected, GaveUp):
            raise connected.error
        return connected.value

    async def _send(
        self,
        scenarios: Sequence[PlannedScenario],
        journal: Journal[ExecutedScenario],
        sending: Sending,
        progress: Progress,
    ) -> Sequence[ExecutedScenario]:
        def step_done(step: ExecutedStep, attempts: int) -> None:
            sending.steps += attempts > 0
            sending.retries += max(0, attempts - 1)
            progress.advance(failed=step.status != "ok")

        rules = StepRules(self.settings.retry, self.settings.on_step_error)
        runtime = ExperimentRuntime(
            A2AExecutor(self.agent, rules, self.surroundings, step_done),
            concurrency=self.settings.concurrency,
            on_scenario_done=journal.append,
        )
        return await runtime.run(scenarios)


def _executed(experiment: Experiment, scenarios: Sequence[ExecutedScenario], run: RunRecord) -> ExecutedExperiment:
    return ExecutedExperiment.model_validate(
        dict(experiment) | {"id": experiment_id(experiment), "run": run, "scenarios": tuple(scenarios)}
    )


def _finished_output(output: Path, identity: str) -> ExecutedExperiment | None:
    """The output if this very run has written it before."""
    try:
        executed = ExecutedExperiment.model_validate_json(output.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    except OSError as error:
        raise StoreError(f"{output}: cannot be read: {error.strerror}", hint="Check its permissions.") from error
    return executed if executed.run is not None and executed.run.identity == identity else None


def _kept(
    scenarios: Sequence[PlannedScenario],
    finished: ExecutedExperiment | None,
    found: Found[ExecutedScenario] | None,
    *,
    retry_errors: bool,
) -> _Kept:
    """What an interrupted run, or with `retry_errors` a finished one, has that need not be sent again."""
    known = {scenario.id: scenario for scenario in finished.scenarios} if finished is not None else {}
    if found is not None:
        known = dict(found.scenarios)
    wanted = {scenario.id for scenario in scenarios}
    kept = {
        name: scenario
        for name, scenario in known.items()
        if name in wanted and not (retry_errors and any(step.status != "ok" for step in scenario.steps))
    }
    return _Kept(kept, found)


def _has_errors(executed: ExecutedExperiment) -> bool:
    return any(step.status != "ok" for scenario in executed.scenarios for step in scenario.steps)


def _set_aside(path: Path) -> None:
    """Keep the answers of another run from being taken for this one's, whatever happens to this one."""
    previous = path.with_name(f"{path.name}.previous")
    try:
        path.replace(previous)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"{path}: cannot be renamed: {error.strerror}", hint="Check the folder.") from error
    log.warning("%s is of an earlier run; it is now %s", path, previous.name)
