"""Finds a metric by its name: which framework, which spec, and a callable once everything about it is checked.

    "ragas.Faithfulness" -> adapter (loaded only now) -> spec, checked against the parameters -> callable

A framework is added by an entry in `FRAMEWORKS`, or by a package of the user's with an entry point in the group
`testbench.metrics` that names a `FrameworkAdapter` class. Used by `testbench.metrics.evaluation`, by setup (names of
metrics only) and by the arena.
"""

from __future__ import annotations

import difflib
import gc
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, get_args

from testbench import defaults
from testbench.errors import InputError, TestbenchError
from testbench.gc_policy import no_cycle_collection
from testbench.invocation import format_command
from testbench.metrics.adapter import FrameworkAdapter, check_parameter_names
from testbench.metrics.outcome import RepeatedMetric
from testbench.metrics.protocol import MetricCallable, MetricSpec, SampleField

if TYPE_CHECKING:
    from testbench.metrics.judge.judge import Judge
    from testbench.schema.models import Experiment, Metric

__all__ = ["GenericMetricsRegistry", "ReadyMetric"]

ENTRY_POINTS: Final = "testbench.metrics"

AdapterLoader: TypeAlias = "Callable[[], FrameworkAdapter]"
PlacedMetric: TypeAlias = "tuple[str, Metric]"
"""A metric, and where it stands for people, e.g. `scenario 'Paris', step 2`."""
FoundT = TypeVar("FoundT")


def _load_builtin() -> FrameworkAdapter:
    from testbench.metrics.builtin.adapter import BuiltinAdapter

    return BuiltinAdapter()


def _load_ragas() -> FrameworkAdapter:
    from testbench.metrics.ragas.adapter import RagasFrameworkAdapter

    return RagasFrameworkAdapter()


def _load_deepeval() -> FrameworkAdapter:
    from testbench.metrics.deepeval.adapter import DeepEvalAdapter

    return DeepEvalAdapter()


def _name_ragas_metrics() -> Mapping[str, str]:
    from testbench.metrics.ragas.names import ALIASES, NAMES

    return {name: name for name in sorted(NAMES)} | dict(ALIASES)


@dataclass(frozen=True)
class Framework:
    """How a framework is loaded, and what it needs."""

    load: AdapterLoader
    package: str | None = None
    """What must be installed for it beside Testbench."""
    install: str = "uv sync"
    """The command that installs it."""
    optional: bool = False
    """Whether doing without it is as it should be."""
    known_names: Callable[[], Mapping[str, str]] | None = None
    """Names and aliases of its metrics, found without the long import that loading is; each with the metric's name."""


FRAMEWORKS: Final[Mapping[str, Framework]] = {
    "builtin": Framework(_load_builtin),
    "ragas": Framework(_load_ragas, package="ragas", known_names=_name_ragas_metrics),
    "deepeval": Framework(_load_deepeval, package="deepeval", install="uv sync --extra deepeval", optional=True),
}


@dataclass(frozen=True)
class ReadyMetric:
    """A metric that can judge: its spec with its parameters, and the callable."""

    spec: MetricSpec
    call: MetricCallable


class GenericMetricsRegistry:
    """All metrics of all frameworks; a framework is imported when a metric of it is first asked for."""

    def __init__(self, adapters: Mapping[str, AdapterLoader] | None = None) -> None:
        """`adapters` replaces the known frameworks, for tests and programs that bring their own."""
        self._loaders = dict(_find_loaders() if adapters is None else adapters)
        self._loaded: dict[str, FrameworkAdapter] = {}
        self._ready: dict[tuple[str, str, str, int], ReadyMetric] = {}
        self._judge: Judge | None = None
        self._first_names: dict[str, str] = {}

    def frameworks(self) -> tuple[str, ...]:
        """Return the names that may stand before the dot."""
        return tuple(self._loaders)

    def specs(self) -> tuple[MetricSpec, ...]:
        """Return every metric of every framework that can be loaded; an optional one that is not installed has none.

        Raises:
            InputError: a framework's package is missing or broken.
        """
        installed = [name for name in self._loaders if name not in missing_extras()]
        return tuple(spec for name in installed for spec in self._adapter(name).specs().values())

    def check(self, metric: Metric) -> MetricSpec:
        """Return the spec of a metric as it will be used.

        Raises:
            InputError: no such framework or metric, unknown or unfit parameters, a missing package.
        """
        adapter, name = self._find(metric.metric_name)
        spec = adapter.specs()[name]
        if spec.unavailable:
            hint = f"Choose another metric: {format_command('evaluate', '--list-metrics')} shows all."
            raise InputError(f"{spec.full_name} cannot be used here: {spec.unavailable}", hint=hint)
        check_parameter_names(spec, metric.parameters)
        self._first_names.setdefault(spec.full_name, metric.metric_name)
        with _blame_adapter(f"{spec.full_name} cannot be used"):
            spec = adapter.spec_for(name, metric.parameters)
        if unknown := set(spec.required).difference(get_args(SampleField)):
            message = f"{spec.full_name} needs {min(unknown)!r}, which no sample has"
            raise InputError(message, hint=f"Its package may ask for {', '.join(get_args(SampleField))}.")
        return spec

    def check_name(self, metric: Metric) -> None:
        """Check as much of a metric as can be known without a long import; `check` finds the rest.

        Builtin metrics are checked with their parameters, RAGAS's by name; of other frameworks, that there is one.

        Raises:
            InputError: the metric is unknown, or the parameters of a builtin one do not fit.
        """
        framework, name = _split_name(metric.metric_name)
        known = FRAMEWORKS.get(framework)
        if framework not in self._loaders or (known and known.package is None):
            self.check(metric)
        elif known and known.known_names and name not in (names := known.known_names()):
            near = {alias.lower(): f"{framework}.{real}" for alias, real in names.items()}
            near |= {spec.name.lower(): spec.full_name for spec in self._adapter("builtin").specs().values()}
            raise InputError(f"no metric {metric.metric_name!r}", hint=_hint_at_nearest(name, near))

    def check_all(self, metrics: Iterable[PlacedMetric]) -> list[MetricSpec]:
        """Return the specs of metrics in their order; equal ones are checked once.

        Raises:
            InputError: one cannot be used; says where it stands.
        """
        return _check_distinct(metrics, self.check)

    def check_names(self, metrics: Iterable[PlacedMetric]) -> None:
        """Check all names as `check_name` does, each once.

        Raises:
            InputError: one is unknown; says where it stands.
        """
        _check_distinct(metrics, self.check_name)

    def prepare(self, metric: Metric, judge: Judge | None, *, samples: int = 1) -> ReadyMetric:
        """Return the callable for a metric; equal metrics share one. `judge` is there whenever the spec asks for one.

        `samples` is how often a metric with an LLM judges, where it does not say so itself.

        Raises:
            InputError: see `check`.
        """
        adapter, name = self._find(metric.metric_name)
        if judge is not self._judge:
            self._ready.clear()  # those ask a judge of an earlier run
            self._judge = judge
        key = adapter.framework, name, json.dumps(metric.parameters, sort_keys=True, default=str), samples
        if key not in self._ready:
            spec = self.check(metric)
            with _blame_adapter(f"{spec.full_name} cannot be made"):
                call = adapter.create(name, metric.parameters, judge)
            times = spec.samples or (samples if spec.needs_llm else 1)
            self._ready[key] = ReadyMetric(spec, RepeatedMetric(call, times, spec.combine) if times > 1 else call)
        return self._ready[key]

    def first_name(self, metric: Metric) -> str:
        """Return the name by which a metric was first asked for, whatever it is called here: one metric, one row."""
        adapter, name = self._find(metric.metric_name)
        return self._first_names.get(adapter.specs()[name].full_name, metric.metric_name)

    def _find(self, metric_name: str) -> tuple[FrameworkAdapter, str]:
        """Return the adapter that has a metric, and the metric's own name there."""
        framework, name = _split_name(metric_name)
        if framework not in self._loaders:
            near = difflib.get_close_matches(framework, self._loaders, n=1)
            meant = f"Did you mean {near[0]}.{name}? " if near else ""
            hint = f"{meant}Frameworks: {', '.join(self._loaders)}."
            raise InputError(f"{metric_name!r}: no metric framework {framework!r}", hint=hint)
        adapter = self._adapter(framework)
        name = adapter.aliases().get(name, name) if name not in adapter.specs() else name
        if name not in adapter.specs():
            raise InputError(f"no metric {metric_name!r}", hint=self._hint_at_loaded(framework, name))
        return adapter, name

    def _hint_at_loaded(self, framework: str, name: str) -> str:
        """Return a hint with names that resemble an unknown one, in its own framework and in those loaded anyway."""
        names: dict[str, str] = {}
        for other in dict.fromkeys([framework, *self._loaded, *(["builtin"] if "builtin" in self._loaders else [])]):
            adapter = self._adapter(other)
            names |= {spec.name.lower(): spec.full_name for spec in adapter.specs().values()}
            names |= {alias.lower(): f"{other}.{real}" for alias, real in adapter.aliases().items()}
        return _hint_at_nearest(name, names)

    def _adapter(self, framework: str) -> FrameworkAdapter:
        if framework not in self._loaded:
            adapter = self._loaders[framework]()
            if adapter.framework != framework:
                message = f"the adapter of the metric framework {framework!r} calls itself {adapter.framework!r}"
                raise InputError(message, hint="Its `framework` and the name of its entry point must be the same.")
            with _blame_adapter(f"the metric framework {framework} cannot list its metrics"):
                adapter.specs(), adapter.aliases()
            self._loaded[framework] = adapter
        return self._loaded[framework]


def place_metrics(experiment: Experiment) -> Iterator[PlacedMetric]:
    """Yield every metric of an experiment's steps and scenarios with its place, as often as it is asked for."""
    for scenario in experiment.scenarios:
        for position, step in enumerate(scenario.steps, start=1):
            for metric in step.metrics:
                yield f"scenario {scenario.name!r}, step {position}", metric
        for metric in scenario.metrics:
            yield f"scenario {scenario.name!r}", metric


def missing_extras() -> Mapping[str, str]:
    """Return the optional frameworks that are not installed, each with the command that installs it."""
    return {
        name: framework.install
        for name, framework in FRAMEWORKS.items()
        if framework.optional and framework.package and find_spec(framework.package) is None
    }


def _check_distinct(metrics: Iterable[PlacedMetric], check: Callable[[Metric], FoundT]) -> list[FoundT]:
    """Return what `check` says of each metric; of those with the same name and parameters only the first is checked."""
    found: dict[str, FoundT] = {}
    keys = []
    for place, metric in metrics:
        key = metric.model_dump_json(include={"metric_name", "parameters"})
        if key not in found:
            try:
                found[key] = check(metric)
            except InputError as error:
                error.message = f"{place}: {error.message}"
                raise
        keys.append(key)
    return [found[key] for key in keys]


def _split_name(metric_name: str) -> tuple[str, str]:
    framework, dot, name = metric_name.partition(".")
    return (framework, name) if dot else (defaults.METRIC_FRAMEWORK, metric_name)


def _hint_at_nearest(name: str, known: Mapping[str, str]) -> str:
    """Return a hint with what is meant by the known names (in lower case) that resemble an unknown one."""
    near = difflib.get_close_matches(name.lower(), known, n=4, cutoff=0.5)
    nearest = list(dict.fromkeys(known[found] for found in near))
    listing = f"{format_command('evaluate', '--list-metrics')} shows all."
    return f"Did you mean {' or '.join(nearest)}? {listing}" if nearest else f"Misspelt? {listing}"


def _find_loaders() -> Iterator[tuple[str, AdapterLoader]]:
    """Yield all frameworks; ours last, so that no other package can take the place of one of them."""
    for name, framework in [*_frameworks_of_users(), *FRAMEWORKS.items()]:
        yield name, partial(_load, name, framework)


def _frameworks_of_users() -> Iterator[tuple[str, Framework]]:
    found = entry_points(group=ENTRY_POINTS)
    for name in found.names:
        entries = {entry.value: entry for entry in found.select(name=name)}
        values = sorted(entries)
        load = _refuse_rivals(name, values) if len(values) > 1 else _load_entry(entries[values[0]])
        yield name, Framework(load, install=f"see the package of {values[0]}")


def _load_entry(entry: EntryPoint) -> AdapterLoader:
    def load() -> FrameworkAdapter:
        made: Any = entry.load()()
        if not isinstance(made, FrameworkAdapter):
            raise InputError(f"{entry.value} is not a FrameworkAdapter", hint="Check the package's entry point.")
        return made

    return load


def _refuse_rivals(name: str, values: Iterable[str]) -> AdapterLoader:
    """Return a loader that refuses: which of several adapters of one name is meant, nobody can know."""

    def load() -> FrameworkAdapter:
        message = f"several packages bring a metric framework {name!r}: {' and '.join(values)}"
        raise InputError(message, hint="Uninstall all of them but one.")

    return load


def _load(name: str, framework: Framework) -> FrameworkAdapter:
    if framework.package and find_spec(framework.package) is None:
        raise InputError(
            f"metrics of {name} need the package {framework.package}, which is not installed",
            hint=f"Install it: {framework.install}",
        )
    try:
        with _keep_imports_from_collection():
            return framework.load()
    except TestbenchError:
        raise
    except (Exception, SystemExit) as error:  # a module of others may do anything when it is imported
        raise InputError(
            f"the metric framework {name} cannot be loaded: {type(error).__name__}: {error}",
            hint=f"Its installation is incomplete or broken; {framework.install} repairs it.",
        ) from error


@contextmanager
def _blame_adapter(what: str) -> Iterator[None]:
    """Say of a fault in a user's own adapter that it is the adapter's."""
    try:
        yield
    except TestbenchError:
        raise
    except Exception as error:  # code of others may raise anything
        message = f"{what}: its adapter failed with {type(error).__name__}: {error}"
        raise InputError(message, hint="Correct the package that brings it.") from error


@contextmanager
def _keep_imports_from_collection() -> Iterator[None]:
    """Keep what is imported out of garbage collection: it takes a fifth of an import, and then of every evaluation."""
    with no_cycle_collection():
        try:
            yield
        finally:
            gc.freeze()
