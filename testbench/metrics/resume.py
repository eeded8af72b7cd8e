"""What earlier processes have judged, in the output or in the journal beside it, is not judged again.

    executed experiment + what decides scores -> identity -> output or journal -> scenarios that are done

After an interruption a scenario with an error is judged again; in an output that was finished, only where
`--retry-errors` says so. What was left out for its cost is always still to be done. The cache makes what is known free.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from testbench import __version__
from testbench.metrics.evaluation import EvaluationSettings, count_left_out_for_cost, has_errors, has_scores
from testbench.net.clock import Clock, SystemClock
from testbench.schema.files import set_aside, write_model
from testbench.schema.ids import ScenarioKey, content_id, key_of
from testbench.schema.journal import Journal, JournalContents, journal_path, read_journal, read_output
from testbench.schema.lock import hold_lock
from testbench.schema.models import EvaluatedExperiment, EvaluatedScenario, ExecutedExperiment


@dataclass
class FinishedScenarios:
    """The scenarios that need not be judged, and where to add to them; `complete` is the output if none is left."""

    output: Path
    identity: str
    clock: Clock
    found: JournalContents[EvaluatedScenario] | None = None
    done: Mapping[ScenarioKey, EvaluatedScenario] = field(default_factory=dict)
    journal: Journal[EvaluatedScenario] | None = None
    complete: EvaluatedExperiment | None = None
    of_this_evaluation: bool = False
    """Whether the output that lies there is an earlier result of this very evaluation."""

    def add(self, scenario: EvaluatedScenario) -> None:
        """Keep a scenario that was judged.

        Raises:
            StoreError: it cannot be written.
        """
        if self.journal is None:
            self.journal = Journal(journal_path(self.output), self.identity, self.found, self.clock)
        self.journal.append(scenario)

    def write(self, evaluated: EvaluatedExperiment) -> bool:
        """Write the output and forget the journal; what another evaluation has left there is put aside.

        Returns:
            False where nothing but errors came of it: then the result of the other evaluation stays where it is.

        Raises:
            StoreError: it cannot be written.
        """
        if not self.of_this_evaluation and self.output.exists():
            if not has_scores(evaluated) and any(map(has_errors, evaluated.scenarios)):
                return False
            set_aside(self.output, "is of an earlier evaluation")
        write_model(self.output, evaluated)
        journal_path(self.output).unlink(missing_ok=True)
        return True


@contextmanager
def resume_evaluation(
    experiment: ExecutedExperiment,
    settings: EvaluationSettings,
    output: Path,
    *,
    fresh: bool,
    retry_errors: bool = False,
    base_url: str = "",
) -> Iterator[FinishedScenarios]:
    """Go on where the same evaluation stands, by the judge at `base_url`, or from the beginning with `fresh`.

    The output of another evaluation stays where it is until there are scores to put in its place.

    Raises:
        StoreError: another process writes the same output, or what is there cannot be read or written.
    """
    identity = make_identity(experiment, settings, base_url)
    with hold_lock(output):
        before = None if fresh else read_output(output, EvaluatedExperiment, lambda found: _identity(found) == identity)
        finished = FinishedScenarios(output, identity, SystemClock(), of_this_evaluation=before is not None)
        if not fresh:
            _find_earlier(finished, experiment, before, settings, retry_errors=retry_errors)
        try:
            yield finished
        finally:
            if finished.journal is not None:
                finished.journal.close()


def _find_earlier(
    finished: FinishedScenarios,
    experiment: ExecutedExperiment,
    before: EvaluatedExperiment | None,
    settings: EvaluationSettings,
    *,
    retry_errors: bool,
) -> None:
    """Look into the journal, and into the output that this evaluation has written before.

    Where that holds not one score, whatever was the matter, the same command tries again.
    """
    known = {key_of(scenario): scenario for scenario in before.scenarios} if before else {}
    if _have_distinct_keys(experiment):
        finished.found = read_journal(journal_path(finished.output), finished.identity, EvaluatedScenario)
    interrupted = finished.found is not None
    if finished.found is not None:
        known |= finished.found.scenarios
    errors_too = retry_errors or interrupted or (before is not None and not has_scores(before))
    unfinished = {key for key, one in known.items() if _is_unfinished(one, errors_too=errors_too)}
    record = before.evaluation if before is not None else None
    if record is not None and record.made_of == settings.made_of and not interrupted and not unfinished:
        finished.complete = before
    if _have_distinct_keys(experiment):
        finished.done = {key: one for key, one in known.items() if key not in unfinished}


def make_identity(experiment: ExecutedExperiment, settings: EvaluationSettings, base_url: str = "") -> str:
    """Return the digest of all that decides the scores: what was answered, the metrics, the judge, and who computes."""
    judge = [base_url, settings.model, settings.embedding_model, settings.temperature, settings.judge_samples]
    return content_id("evl", experiment.model_dump(mode="json", exclude_none=True), judge, __version__)


def _have_distinct_keys(experiment: ExecutedExperiment) -> bool:
    """Return whether each scenario has a key of its own: files of other programs may have no ids."""
    keys = [key_of(scenario) for scenario in experiment.scenarios]
    return all(key.id for key in keys) and len(set(keys)) == len(keys)


def _is_unfinished(scenario: EvaluatedScenario, *, errors_too: bool) -> bool:
    return count_left_out_for_cost(scenario) > 0 or (errors_too and has_errors(scenario))


def _identity(evaluated: EvaluatedExperiment) -> str | None:
    return evaluated.evaluation.identity if evaluated.evaluation is not None else None
