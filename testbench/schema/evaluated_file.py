"""An evaluated experiment of any size, read one conversation at a time.

A run of 20,000 steps is a file of a hundred megabytes and eight times that in memory as models. The report needs every
word of it, but never at once, and a baseline is only compared with: `EvaluatedFile` hands out one scenario after the
other, and `light` leaves of each what counting and the verdict need. Called by `visualize.py` and `gate.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from testbench.errors import InputError
from testbench.schema.files import read_phase_file
from testbench.schema.models import (
    SCHEMA_VERSION,
    EvaluatedExperiment,
    EvaluatedScenario,
    EvaluatedStep,
    Evaluation,
    Metric,
)

MADE_BY = "testbench/evaluate.py"
SPACE = re.compile(r"[ \t\n\r]*")
REST_OF_A_NUMBER = re.compile(r"[0-9.eE+-]*")
PIECE = 1 << 20
"""Characters that are read at once; a longer scenario makes the buffer grow."""


class EvaluatedFile:
    """One reading of an evaluated experiment's file: first `scenarios()` to its end, then `frame()`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._frame: dict[str, Any] = {}
        self._metrics: dict[str, Metric] = {}

    def scenarios(self) -> Iterator[EvaluatedScenario]:
        """The scenarios in the order of the file.

        Raises:
            InputError: the file is missing, no JSON, of another shape, or of a newer schema version.
            StoreError: it exists and cannot be read.
        """
        try:
            with self._path.open(encoding="utf-8") as file:
                for key, value in _members(file):
                    if key == "scenarios":
                        yield EvaluatedScenario.model_validate(self._with_shared_metrics(value))
                    else:
                        self._frame[key] = value
            if self.frame().schema_version > SCHEMA_VERSION:
                raise ValueError("a newer schema version")
        except (OSError, ValueError, RecursionError) as error:
            # The reader of all phases finds the same fault again and words it, with the place in the whole document.
            read_phase_file(self._path, EvaluatedExperiment, made_by=MADE_BY)
            raise InputError(
                f"{self._path}: cannot be read as an experiment: {error}",
                hint=f"{MADE_BY} writes this file: run it again.",
            ) from error

    def _with_shared_metrics(self, scenario: Any) -> Any:
        """Every step carries the same few metrics, twice: equal ones become one object, and are checked once."""
        for owner in _objects([scenario]) + _objects(_list(scenario, "steps")):
            owner["metrics"] = [self._shared(metric) for metric in _list(owner, "metrics")]
            for evaluation in _objects(_list(owner, "evaluations")):
                if "metric" in evaluation:
                    evaluation["metric"] = self._shared(evaluation["metric"])
        return scenario

    def _shared(self, metric: Any) -> Metric:
        key = repr(metric)
        if key not in self._metrics:
            self._metrics[key] = Metric.model_validate(metric)
        return self._metrics[key]

    def frame(self, scenarios: tuple[EvaluatedScenario, ...] = ()) -> EvaluatedExperiment:
        """The experiment's own fields, with `scenarios` in the place of those that were read."""
        empty = EvaluatedExperiment.model_validate(self._frame | {"scenarios": ()})
        return empty.model_copy(update={"scenarios": scenarios})


def _list(owner: Any, key: str) -> list[Any]:
    value = owner.get(key) if isinstance(owner, dict) else None
    if value is not None and not isinstance(value, list):
        raise ValueError(f"{key} is no list")
    return value or []


def _objects(values: list[Any]) -> list[dict[str, Any]]:
    return [value for value in values if isinstance(value, dict)]


class _Buffer:
    """Text that is read as it is needed; what was parsed is dropped."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._text = ""
        self._position = 0
        self._decoder = json.JSONDecoder()

    def next(self) -> str:
        """The next character that is no white space, which stays; empty at the end."""
        while True:
            match = SPACE.match(self._text, self._position)
            self._position = match.end() if match else self._position
            if self._position < len(self._text):
                return self._text[self._position]
            if not self._more():
                return ""

    def take(self, *expected: str) -> str:
        """Consume one of the characters."""
        found = self.next()
        if found not in expected:
            raise ValueError(f"expected {' or '.join(expected)}, found {found!r}")
        self._position += 1
        return found

    def value(self) -> Any:
        """Consume one JSON value."""
        self.next()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._position)
            except json.JSONDecodeError:
                if not self._more():
                    raise
                continue
            if REST_OF_A_NUMBER.fullmatch(self._text, end) and self._more():
                continue  # it may be cut off anywhere: `0.` is read as 0
            self._position = end
            return value

    def _more(self) -> bool:
        left = self._text[self._position :]
        piece = self._file.read(max(PIECE, len(left)))
        self._text, self._position = left + piece, 0
        return bool(piece)


def _members(file: IO[str]) -> Iterator[tuple[str, Any]]:
    """The members of a JSON object, each key once; the items of the list `scenarios` one by one."""
    buffer = _Buffer(file)
    buffer.take("{")
    seen: set[str] = set()
    while True:
        key = buffer.value()
        if not isinstance(key, str) or key in seen:
            raise ValueError(f"the key {key!r} is no text or occurs twice")
        seen.add(key)
        buffer.take(":")
        if key == "scenarios" and buffer.next() == "[":
            for item in _items(buffer):
                yield key, item
        else:
            yield key, buffer.value()
        if buffer.take(",", "}") == "}":
            break
    if buffer.next() or "scenarios" not in seen:
        raise ValueError("text after the end, or no scenarios")


def _items(buffer: _Buffer) -> Iterator[Any]:
    buffer.take("[")
    if buffer.next() == "]":
        buffer.take("]")
        return
    while True:
        yield buffer.value()
        if buffer.take(",", "]") == "]":
            return


# --- what stays in memory ------------------------------------------------------------------------------------------


SHORT = 200
"""Characters of a judge's reason from which on it is not worth keeping."""


def light(scenario: EvaluatedScenario) -> EvaluatedScenario:
    """The scenario without its texts; ids, questions, states, scores, error kinds, latencies and usage stay."""
    return scenario.model_copy(
        update={
            "steps": tuple(_light_step(step) for step in scenario.steps),
            "evaluations": tuple(map(_light_evaluation, scenario.evaluations)),
        }
    )


def _light_step(step: EvaluatedStep) -> EvaluatedStep:
    return step.model_copy(
        update={
            "turns": (),
            "reference": None,
            "custom_values": {},
            "evaluations": tuple(map(_light_evaluation, step.evaluations)),
        }
    )


def _light_evaluation(evaluation: Evaluation) -> Evaluation:
    result = evaluation.result
    if len(result.reason or "") <= SHORT and not result.details and result.error is None:
        return evaluation
    error = result.error and result.error.model_copy(update={"message": "", "raw": None})
    return evaluation.model_copy(
        update={"result": result.model_copy(update={"reason": None, "details": {}, "error": error})}
    )


def read_light(path: Path) -> EvaluatedExperiment:
    """The experiment without its texts.

    Raises:
        InputError, StoreError: as `EvaluatedFile.scenarios`.
    """
    file = EvaluatedFile(path)
    scenarios = tuple(map(light, file.scenarios()))
    return file.frame(scenarios)
