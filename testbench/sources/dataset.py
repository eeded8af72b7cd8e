"""From an address to an experiment: what `setup.py` does.

Location -> DatasetFile -> experiment document ---------------------------> Experiment
                        -> Table -> rows -> placed steps -> scenarios -----^   + options of the command line
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

from testbench import defaults
from testbench.errors import InputError, NothingToDo
from testbench.gc_policy import no_cycle_collection
from testbench.safe_text import printable
from testbench.schema.files import parse_experiment
from testbench.schema.models import Experiment, Metric, Scenario, Step
from testbench.sources.columns import PlacedStep, find_misspelt_columns, place_steps
from testbench.sources.download import open_dataset
from testbench.sources.formats.dataset_format import DatasetFile, Row, Table
from testbench.sources.formats.registry import detect_format
from testbench.sources.location import Location

NAME_CHARACTERS: Final = 60
_READ_FOR_NAME: Final = 10 * NAME_CHARACTERS

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SetupOptions:
    """What the command line adds to a dataset. None leaves what an experiment says.

    `metrics` are for every step that names none itself; `limit` takes so many rows, or scenarios of an experiment.
    """

    metrics: tuple[Metric, ...] = ()
    model: str | None = None
    default_threshold: float | None = None
    scenario_column: str = defaults.SCENARIO_COLUMN
    limit: int | None = None


def load_experiment(location: Location, options: SetupOptions, environment: Mapping[str, str]) -> Experiment:
    """Return the experiment that lies at `location`, or that its rows make.

    Raises:
        InputError: the dataset is not there, or not what it has to be; with file, row and column.
        StoreError: it could not be reached or read.
        NothingToDo: it is empty.
    """
    with open_dataset(location, environment) as file, no_cycle_collection():
        experiment = _read_experiment(file, options)
    if not any(scenario.steps for scenario in experiment.scenarios):
        raise NothingToDo(f"{location.shown}: no rows and no scenarios", hint="Give a dataset with at least one row.")
    return _apply_options(experiment, options)


def _read_experiment(file: DatasetFile, options: SetupOptions) -> Experiment:
    file_format = detect_format(file)
    log.info("%s: reading %s", file.origin, file_format.name)
    content = file_format.read(file)
    if isinstance(content, Table):
        return Experiment(default_threshold=defaults.THRESHOLD, scenarios=_read_scenarios(content, options))
    experiment = parse_experiment(content, file.origin)
    chosen = (_with_metrics(scenario, options.metrics) for scenario in experiment.scenarios[: options.limit])
    return experiment.model_copy(update={"scenarios": tuple(chosen)})


def _read_scenarios(table: Table, options: SetupOptions) -> tuple[Scenario, ...]:
    seen: dict[str, None] = dict.fromkeys(table.columns or ())
    watched = replace(table, rows=_note_columns(table, seen))
    steps = place_steps(watched, options.scenario_column, options.metrics)
    scenarios = group_into_scenarios(islice(steps, options.limit))
    if scenarios and options.scenario_column not in (*seen, defaults.SCENARIO_COLUMN):
        raise InputError(
            f"{table.origin}: no column {options.scenario_column!r}; there is: {', '.join(seen)}",
            hint="Name the column whose equal values make one conversation after --scenario-column.",
        )
    for column, near in find_misspelt_columns(seen, options.scenario_column):
        log.warning("%s: the column %r is kept as a custom value; is %r what is meant?", table.origin, column, near)
    return scenarios


def _note_columns(table: Table, seen: dict[str, None]) -> Iterator[Row]:
    """Yield the rows of `table`, and note their keys in `seen`."""
    for row in table.rows:
        seen.update(dict.fromkeys(row.values))
        yield row


def _apply_options(experiment: Experiment, options: SetupOptions) -> Experiment:
    update: dict[str, Any] = {}
    if options.model is not None:
        update["llm_as_a_judge_model"] = options.model
    if options.default_threshold is not None:
        update["default_threshold"] = options.default_threshold
    return experiment.model_copy(update=update)


def _with_metrics(scenario: Scenario, metrics: tuple[Metric, ...]) -> Scenario:
    def judged(step: Step) -> Step:
        return step if step.metrics else step.model_copy(update={"metrics": metrics})

    return scenario.model_copy(update={"steps": tuple(judged(step) for step in scenario.steps)})


# --- steps to conversations ------------------------------------------------------------------------------------------


def group_into_scenarios(steps: Iterable[PlacedStep]) -> tuple[Scenario, ...]:
    """Return the conversations that steps make: those with one scenario value, wherever they stood, in their order.

    Any other step is a conversation of its own, named by its input. Conversations come in the order of their first
    steps; a name that is taken gets ` (2)`.
    """
    conversations: dict[str | int, list[Step]] = {}
    for position, placed in enumerate(steps):
        conversations.setdefault(position if placed.scenario is None else placed.scenario, []).append(placed.step)
    names = _ScenarioNames()
    return tuple(
        Scenario(name=names.claim(_name_of(key, members[0])), steps=tuple(members))
        for key, members in conversations.items()
    )


def _name_of(key: str | int, first: Step) -> str:
    return printable(key) if isinstance(key, str) else printable(first.input.lstrip()[:_READ_FOR_NAME], NAME_CHARACTERS)


class _ScenarioNames:
    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._occurrences: Counter[str] = Counter()

    def claim(self, wanted: str) -> str:
        name = wanted
        while name in self._taken:
            self._occurrences[wanted] += 1
            name = f"{wanted} ({self._occurrences[wanted] + 1})"
        self._taken.add(name)
        return name
