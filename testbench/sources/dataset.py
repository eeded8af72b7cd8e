"""From an address to an experiment: what `setup.py` does.

Location -> DatasetFile -> experiment document ---------------------------> Experiment
                        -> Table -> rows -> placed steps -> scenarios -----^   + choices of the command line
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from testbench import defaults
from testbench.errors import InputError, NothingToDo
from testbench.gc_policy import no_cycle_collection
from testbench.safe_text import printable
from testbench.schema.files import parse_experiment
from testbench.schema.models import Experiment, Metric, Scenario, Step
from testbench.sources.columns import PlacedStep, misspelt, placed_steps
from testbench.sources.dataset_file import DatasetFile
from testbench.sources.download import opened
from testbench.sources.formats.detection import Format, format_of
from testbench.sources.formats.table import Row, Table
from testbench.sources.location import Location

NAME_CHARACTERS = 60
_READ_FOR_NAME = 10 * NAME_CHARACTERS


def scenarios_of(steps: Iterable[PlacedStep]) -> tuple[Scenario, ...]:
    """Steps with the same scenario value are one conversation in their order, wherever they stood.

    Any other step is a conversation of its own, named by its input. Conversations come in the order of their first
    steps; a name that is taken gets ` (2)`.
    """
    conversations: dict[str | int, list[Step]] = {}
    for position, placed in enumerate(steps):
        conversations.setdefault(position if placed.scenario is None else placed.scenario, []).append(placed.step)
    names = _Names()
    return tuple(
        Scenario(name=names.unused(_name(key, members[0])), steps=tuple(members))
        for key, members in conversations.items()
    )


def _name(key: str | int, first: Step) -> str:
    return printable(key) if isinstance(key, str) else printable(first.input.lstrip()[:_READ_FOR_NAME], NAME_CHARACTERS)


class _Names:
    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._occurrences: Counter[str] = Counter()

    def unused(self, wanted: str) -> str:
        name = wanted
        while name in self._taken:
            self._occurrences[wanted] += 1
            name = f"{wanted} ({self._occurrences[wanted] + 1})"
        self._taken.add(name)
        return name


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choices:
    """What the command line adds to a dataset. None leaves what an experiment says.

    `metrics` are for every step that names none itself; `limit` takes so many rows, or scenarios of an experiment.
    """

    metrics: tuple[Metric, ...] = ()
    model: str | None = None
    default_threshold: float | None = None
    scenario_column: str = defaults.SCENARIO_COLUMN
    limit: int | None = None


def load_experiment(location: Location, choices: Choices, environment: Mapping[str, str]) -> Experiment:
    """The experiment that lies at `location`, or that its rows make.

    Raises:
        InputError: the dataset is not there, or not what it has to be; with file, row and column.
        StoreError: it could not be reached or read.
        NothingToDo: it is empty.
    """
    with opened(location, environment) as file, no_cycle_collection():
        experiment = _experiment_in(file, choices)
    if not any(scenario.steps for scenario in experiment.scenarios):
        raise NothingToDo(f"{location.shown}: no rows and no scenarios", hint="Give a dataset with at least one row.")
    return _with_choices(experiment, choices)


def _experiment_in(file: DatasetFile, choices: Choices) -> Experiment:
    kind = format_of(file)
    log.info("%s: reading %s", file.origin, kind.value)
    content = _read(file, kind)
    if isinstance(content, Table):
        return Experiment(default_threshold=defaults.THRESHOLD, scenarios=_scenarios_in(content, choices))
    experiment = parse_experiment(content, file.origin)
    chosen = (_with_metrics(scenario, choices.metrics) for scenario in experiment.scenarios[: choices.limit])
    return experiment.model_copy(update={"scenarios": tuple(chosen)})


def _read(file: DatasetFile, kind: Format) -> Table | dict[str, Any]:
    # imported here: a dataset is in one format, and pyarrow alone takes longer to import than the others to read
    match kind:
        case Format.CSV:
            from testbench.sources.formats.csv import csv_table

            return csv_table(file)
        case Format.EXCEL:
            from testbench.sources.formats.excel import excel_table

            return excel_table(file)
        case Format.PARQUET:
            from testbench.sources.formats.parquet import parquet_table

            return parquet_table(file)
        case Format.JSON | Format.JSON_LINES | Format.YAML:
            from testbench.sources.formats.json import json_content

            return json_content(file, kind)


def _scenarios_in(table: Table, choices: Choices) -> tuple[Scenario, ...]:
    seen: dict[str, None] = dict.fromkeys(table.columns or ())
    watched = replace(table, rows=_watched(table, seen))
    steps = placed_steps(watched, choices.scenario_column, choices.metrics)
    scenarios = scenarios_of(islice(steps, choices.limit))
    if scenarios and choices.scenario_column not in (*seen, defaults.SCENARIO_COLUMN):
        raise InputError(
            f"{table.origin}: no column {choices.scenario_column!r}; there is: {', '.join(seen)}",
            hint="Name the column whose equal values make one conversation after --scenario-column.",
        )
    for column, near in misspelt(seen, choices.scenario_column):
        log.warning("%s: the column %r is kept as a custom value; is %r what is meant?", table.origin, column, near)
    return scenarios


def _watched(table: Table, seen: dict[str, None]) -> Iterator[Row]:
    """The rows of `table`; their keys are noted in `seen`."""
    for row in table.rows:
        seen.update(dict.fromkeys(row.values))
        yield row


def _with_choices(experiment: Experiment, choices: Choices) -> Experiment:
    update: dict[str, Any] = {}
    if choices.model is not None:
        update["llm_as_a_judge_model"] = choices.model
    if choices.default_threshold is not None:
        update["default_threshold"] = choices.default_threshold
    return experiment.model_copy(update=update)


def _with_metrics(scenario: Scenario, metrics: tuple[Metric, ...]) -> Scenario:
    def judged(step: Step) -> Step:
        return step if step.metrics else step.model_copy(update={"metrics": metrics})

    return scenario.model_copy(update={"steps": tuple(judged(step) for step in scenario.steps)})
