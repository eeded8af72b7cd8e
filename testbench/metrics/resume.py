"""What an interrupted evaluation had finished: kept beside the output, and not judged again by the same command.

    executed experiment + settings that decide scores -> identity -> journal -> scenarios that are done

A scenario with an error, or with something that was left out for its cost, is judged again: the cache makes what is
known free.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from testbench.metrics.conclusion import has_errors, left_out_for_cost
from testbench.metrics.evaluation import EvaluationSettings
from testbench.schema.clock import Clock, SystemClock
from testbench.schema.identity import content_id
from testbench.schema.journal import Found, Journal, journal_path, read_journal
from testbench.schema.lock import locked
from testbench.schema.models import EvaluatedScenario, ExecutedExperiment


@dataclass
class Finished:
    """The scenarios that need not be judged, and where to add to them."""

    path: Path
    identity: str
    clock: Clock
    found: Found[EvaluatedScenario] | None = None
    done: Mapping[str, EvaluatedScenario] = field(default_factory=dict)
    journal: Journal[EvaluatedScenario] | None = None

    def add(self, scenario: EvaluatedScenario) -> None:
        """Keep a scenario that was judged.

        Raises:
            StoreError: it cannot be written.
        """
        if self.journal is None:
            self.journal = Journal(self.path, self.identity, self.found, self.clock)
        self.journal.append(scenario)

    def discard(self) -> None:
        """Forget it all: the output is written."""
        self.path.unlink(missing_ok=True)


@contextmanager
def resuming(
    experiment: ExecutedExperiment, settings: EvaluationSettings, output: Path, *, fresh: bool
) -> Iterator[Finished]:
    """Go on where the same evaluation was interrupted, or from the beginning with `fresh`.

    Raises:
        StoreError: another process writes the same output, or the journal cannot be read or written.
    """
    identity = identity_of(experiment, settings)
    path = journal_path(output)
    with locked(output):
        finished = Finished(path, identity, SystemClock())
        if not fresh and _can_be_told_apart(experiment):
            finished.found = read_journal(path, identity, EvaluatedScenario)
        if finished.found is not None:
            known = finished.found.scenarios
            finished.done = {name: scenario for name, scenario in known.items() if not _again(scenario)}
        try:
            yield finished
        finally:
            if finished.journal is not None:
                finished.journal.close()


def identity_of(experiment: ExecutedExperiment, settings: EvaluationSettings) -> str:
    """The digest of all that decides the scores: what was answered, the metrics, and the judge."""
    judge = [settings.model, settings.embedding_model, settings.temperature, settings.judge_samples]
    return content_id("evl", experiment.model_dump(mode="json", exclude_none=True), judge)


def _can_be_told_apart(experiment: ExecutedExperiment) -> bool:
    """Files of other programs may have no ids."""
    names = [scenario.id for scenario in experiment.scenarios]
    return all(names) and len(set(names)) == len(names)


def _again(scenario: EvaluatedScenario) -> bool:
    return has_errors(scenario) or left_out_for_cost(scenario) > 0
