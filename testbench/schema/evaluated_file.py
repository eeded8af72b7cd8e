"""An evaluated experiment of any size, read one conversation at a time.

A run of 20,000 steps is a file of a hundred megabytes and eight times that in memory as models. The report needs every
word of it, but never at once, and a baseline is only compared with: `EvaluatedFile` hands out one scenario after the
other, and `without_texts` leaves of each what counting and the verdict need. Called by `visualize.py` and `gate.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TextIO

from testbench.errors import InputError
from testbench.invocation import suggest_rerun
from testbench.schema.files import read_phase_file
from testbench.schema.json_stream import JsonStream
from testbench.schema.models import (
    SCHEMA_VERSION,
    EvaluatedExperiment,
    EvaluatedScenario,
    EvaluatedStep,
    Evaluation,
    Metric,
)

MOST_REASON_CHARACTERS: Final = 200
"""Characters of a judge's reason from which on it is not kept in memory."""


class EvaluatedFile:
    """One reading of an evaluated experiment's file: first `scenarios()` to its end, then `frame()`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._frame: dict[str, Any] = {}
        self._metrics: dict[str, Metric] = {}

    def scenarios(self) -> Iterator[EvaluatedScenario]:
        """Yield the scenarios in the order of the file.

        Raises:
            InputError: the file is missing, not JSON, of another shape, or of a newer schema version.
            StoreError: it exists and cannot be read.
        """
        try:
            with self._path.open(encoding="utf-8") as file:
                for key, value in _read_members(file):
                    if key == "scenarios":
                        yield EvaluatedScenario.model_validate(self._with_shared_metrics(value))
                    else:
                        self._frame[key] = value
            if self.frame().schema_version > SCHEMA_VERSION:
                raise ValueError("a newer schema version")
        except (OSError, ValueError, RecursionError) as error:
            # The reader of all phases finds the same fault again and words it, with the place in the whole document.
            read_phase_file(self._path, EvaluatedExperiment, made_by="evaluate")
            raise InputError(
                f"{self._path}: cannot be read as an experiment: {error}",
                hint=suggest_rerun("evaluate"),
            ) from error

    def _with_shared_metrics(self, scenario: Any) -> Any:
        """Make one object of equal metrics, which are then checked once: every step carries the same few, twice."""
        for owner in _objects_in([scenario]) + _objects_in(_list_in(scenario, "steps")):
            owner["metrics"] = [self._shared(metric) for metric in _list_in(owner, "metrics")]
            for evaluation in _objects_in(_list_in(owner, "evaluations")):
                if "metric" in evaluation:
                    evaluation["metric"] = self._shared(evaluation["metric"])
        return scenario

    def _shared(self, metric: Any) -> Metric:
        key = repr(metric)
        if key not in self._metrics:
            self._metrics[key] = Metric.model_validate(metric)
        return self._metrics[key]

    def frame(self, scenarios: tuple[EvaluatedScenario, ...] = ()) -> EvaluatedExperiment:
        """Return the experiment's own fields, with `scenarios` in the place of those that were read."""
        empty = EvaluatedExperiment.model_validate(self._frame | {"scenarios": ()})
        return empty.model_copy(update={"scenarios": scenarios})


def _list_in(owner: Any, key: str) -> list[Any]:
    value = owner.get(key) if isinstance(owner, dict) else None
    if value is not None and not isinstance(value, list):
        raise ValueError(f"{key} is not a list")
    return value or []


def _objects_in(values: list[Any]) -> list[dict[str, Any]]:
    return [value for value in values if isinstance(value, dict)]


def _read_members(text: TextIO) -> Iterator[tuple[str, Any]]:
    """Yield the members of a JSON object, each key once; the items of the list `scenarios` one by one."""
    stream = JsonStream(text)
    stream.take("{")
    seen: set[str] = set()
    while True:
        key = stream.read_value()
        if not isinstance(key, str) or key in seen:
            raise stream.fault(f"the key {key!r} is not a text or occurs twice")
        seen.add(key)
        stream.take(":")
        if key == "scenarios" and stream.peek() == "[":
            for item, _ in stream.read_items():
                yield key, item
        else:
            yield key, stream.read_value()
        if stream.take(",", "}") == "}":
            break
    stream.check_end()
    if "scenarios" not in seen:
        raise stream.fault("no scenarios")


# --- what stays in memory ------------------------------------------------------------------------------------------


def without_texts(scenario: EvaluatedScenario) -> EvaluatedScenario:
    """Return the scenario without its texts; ids, questions, states, scores, error kinds, latencies and usage stay."""
    return scenario.model_copy(
        update={
            "steps": tuple(_step_without_texts(step) for step in scenario.steps),
            "evaluations": tuple(map(_evaluation_without_texts, scenario.evaluations)),
        }
    )


def _step_without_texts(step: EvaluatedStep) -> EvaluatedStep:
    return step.model_copy(
        update={
            "turns": (),
            "reference": None,
            "custom_values": {},
            "evaluations": tuple(map(_evaluation_without_texts, step.evaluations)),
        }
    )


def _evaluation_without_texts(evaluation: Evaluation) -> Evaluation:
    result = evaluation.result
    if len(result.reason or "") <= MOST_REASON_CHARACTERS and not result.details and result.error is None:
        return evaluation
    error = result.error and result.error.model_copy(update={"message": "", "raw": None})
    return evaluation.model_copy(
        update={"result": result.model_copy(update={"reason": None, "details": {}, "error": error})}
    )


def read_without_texts(path: Path) -> EvaluatedExperiment:
    """Return the experiment without its texts.

    Raises:
        InputError, StoreError: as `EvaluatedFile.scenarios`.
    """
    file = EvaluatedFile(path)
    scenarios = tuple(map(without_texts, file.scenarios()))
    return file.frame(scenarios)
