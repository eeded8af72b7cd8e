"""What earlier processes have left of a run: its output, and the journal of one that did not come to its end.

    output (the same run, the same shard) + journal -> the conversations that are known -> what need not be sent again

Used by `testbench.execution.run`, under the lock of the output. Nothing that was answered is thrown away: what
belongs to another run, or goes beyond what is asked for now, is set aside under another name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from testbench.schema.ids import ScenarioKey, key_of
from testbench.schema.journal import JournalContents, RunSession, journal_path, read_journal, read_output
from testbench.schema.models import ExecutedExperiment, ExecutedScenario, MadeOf


@dataclass(frozen=True)
class Earlier:
    """A finished output of this very run, the journal of an unfinished one, or both where the first is extended."""

    output: ExecutedExperiment | None = None
    journal: JournalContents[ExecutedScenario] | None = None
    known: Mapping[ScenarioKey, ExecutedScenario] = field(default_factory=dict)
    """What output and journal hold; the journal's is newer."""

    @property
    def repeats(self) -> int:
        """How often a finished output has run every scenario; 0 where there is none."""
        return self.output.run.repeats if self.output is not None and self.output.run is not None else 0

    @property
    def sessions(self) -> tuple[RunSession, ...]:
        """The processes that worked on the run, first to last; those of a finished output count as one."""
        noted = self.journal.sessions if self.journal is not None else ()
        run = self.output.run if self.output is not None else None
        if run is None:
            return noted
        finished = RunSession(
            started_at=run.started_at,
            seconds=run.wall_seconds,
            agent_name=run.agent_name,
            agent_version=run.agent_version,
            protocol_version=run.protocol_version,
        )
        return (finished, *noted)

    def is_finished(self, made_of: Sequence[MadeOf]) -> bool:
        """Return whether the output is complete as it stands, and made of these very files."""
        run = self.output.run if self.output is not None else None
        return run is not None and self.journal is None and run.made_of == tuple(made_of)

    def kept(self, wanted: Iterable[ScenarioKey], *, retry_errors: bool) -> dict[ScenarioKey, ExecutedScenario]:
        """Return what is wanted and need not be sent again.

        Where no step was answered at all nothing is kept: whatever was the matter, the same command tries again.
        """
        found = {key: self.known[key] for key in wanted if key in self.known}
        if not any(answered(scenario) for scenario in self.known.values()):
            return {}
        return {key: scenario for key, scenario in found.items() if not (retry_errors and _has_failed(scenario))}


def find_earlier(output: Path, identity: str, shard: str | None) -> Earlier:
    """Return what there is of this run; files of another run stay as they are.

    Raises:
        StoreError: a file cannot be read, or the journal of a finished run not be removed.
    """
    journal = journal_path(output)
    finished = read_output(output, ExecutedExperiment, lambda found: _is_of(found, identity, shard))
    found = read_journal(journal, make_journal_identity(identity, shard), ExecutedScenario)
    known = {key_of(scenario): scenario for scenario in finished.scenarios} if finished is not None else {}
    if (
        found is not None
        and finished is not None
        and all(known.get(key) == new for key, new in found.scenarios.items())
    ):
        found = None  # the last process wrote the output and died before it removed the journal
        journal.unlink(missing_ok=True)
    return Earlier(finished, found, {**known, **found.scenarios} if found is not None else known)


def make_journal_identity(identity: str, shard: str | None) -> str:
    """Return the identity of a journal: that of a shard is nobody else's, of whichever run it is a part."""
    return identity if shard is None else f"{identity} {shard}"


def _is_of(executed: ExecutedExperiment, identity: str, shard: str | None) -> bool:
    return executed.run is not None and (executed.run.identity, executed.run.shard) == (identity, shard)


def answered(scenario: ExecutedScenario) -> bool:
    """Return whether the agent answered any step of a conversation."""
    return any(step.status == "ok" for step in scenario.steps)


def _has_failed(scenario: ExecutedScenario) -> bool:
    return any(step.status != "ok" for step in scenario.steps)
