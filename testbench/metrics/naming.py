"""Whether an experiment's metrics exist, before anything is sent or paid for. Called by `testbench/setup.py`.

Cheap: builtin metrics are checked with their parameters, RAGAS's by name without importing it. A framework that knows
its metrics only after a long import is left to evaluate, which checks everything.
"""

from __future__ import annotations

from collections.abc import Iterator

from testbench import defaults
from testbench.errors import InputError
from testbench.metrics.ragas import names as ragas
from testbench.metrics.registry import GenericMetricsRegistry, nearest_of
from testbench.schema.models import Experiment, Metric


def refuse_unknown_metrics(experiment: Experiment) -> None:
    """See that there are metrics of these names.

    Raises:
        InputError: one is unknown, or a builtin one has parameters that do not fit; with the place and near names.
    """
    registry = GenericMetricsRegistry()
    for metric in _different(experiment):
        framework, dot, name = metric.metric_name.partition(".")
        if not dot:
            framework, name = defaults.METRIC_FRAMEWORK, metric.metric_name
        try:
            if framework == "builtin" or framework not in registry.frameworks():
                registry.check(metric)
            elif framework == "ragas" and name not in ragas.NAMES and name not in ragas.ALIASES:
                raise InputError(f"no metric {metric.metric_name!r}", hint=_nearest(name, registry))
        except InputError as error:
            error.message = f"{place_of(experiment, metric)}: {error.message}"
            raise


def place_of(experiment: Experiment, metric: Metric) -> str:
    """Where a metric stands first, e.g. `scenario 'Paris', step 2`."""
    for scenario in experiment.scenarios:
        for position, step in enumerate(scenario.steps, start=1):
            if metric in step.metrics:
                return f"scenario {scenario.name!r}, step {position}"
        if metric in scenario.metrics:
            return f"scenario {scenario.name!r}"
    return "the experiment"


def _different(experiment: Experiment) -> Iterator[Metric]:
    """One metric for each name with its parameters."""
    seen: set[str] = set()
    for scenario in experiment.scenarios:
        for metric in (*(metric for step in scenario.steps for metric in step.metrics), *scenario.metrics):
            key = metric.model_dump_json(include={"metric_name", "parameters"})
            if key not in seen:
                seen.add(key)
                yield metric


def _nearest(name: str, registry: GenericMetricsRegistry) -> str:
    known = {real.lower(): f"ragas.{real}" for real in sorted(ragas.NAMES)}
    known |= {alias.lower(): f"ragas.{real}" for alias, real in ragas.ALIASES.items()}
    known |= {real.lower(): f"builtin.{real}" for real in registry.names("builtin")}
    return nearest_of(name, known)
