"""Finds a metric by its name: which framework, which spec, and a callable once everything about it is checked.

    "ragas.Faithfulness" -> adapter (loaded only now) -> spec, checked against the parameters -> callable

A framework is plugged in by a line in `FRAMEWORKS`, or by a package of the user's with an entry point in the group
`testbench.metrics` that names a `FrameworkAdapter` class. Used by `testbench.metrics.evaluation`.
"""

from __future__ import annotations

import difflib
import gc
import importlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, get_args

from testbench import defaults
from testbench.errors import InputError, TestbenchError
from testbench.gc_policy import no_cycle_collection
from testbench.metrics.adapter import FrameworkAdapter
from testbench.metrics.judge.sampling import Sampled
from testbench.metrics.parameters import check_parameter_names
from testbench.metrics.protocol import MetricCallable, MetricSpec, SampleField

if TYPE_CHECKING:
    from testbench.metrics.judge.judge import Judge
    from testbench.schema.models import Metric

ENTRY_POINTS: Final = "testbench.metrics"


@dataclass(frozen=True)
class Framework:
    """Where an adapter is, and the package that it needs (None: no other)."""

    adapter: str
    package: str | None = None
    install: str = "uv sync"
    optional: bool = False
    """Whether doing without it is as it should be."""


FRAMEWORKS: Final[Mapping[str, Framework]] = {
    "builtin": Framework("testbench.metrics.builtin.adapter:BuiltinAdapter"),
    "ragas": Framework("testbench.metrics.ragas.adapter:RagasAdapter", package="ragas"),
    "deepeval": Framework(
        "testbench.metrics.deepeval.adapter:DeepEvalAdapter",
        package="deepeval",
        install="uv sync --extra deepeval",
        optional=True,
    ),
}


@dataclass(frozen=True)
class ReadyMetric:
    """A metric that can judge: its spec with its parameters, and the callable."""

    spec: MetricSpec
    call: MetricCallable


class GenericMetricsRegistry:
    """All metrics of all frameworks; a framework is imported when a metric of it is first asked for."""

    def __init__(self, adapters: Mapping[str, Callable[[], FrameworkAdapter]] | None = None) -> None:
        """`adapters` replaces the known frameworks, for tests and programs that bring their own."""
        self._makers = dict(_known_adapters() if adapters is None else adapters)
        self._loaded: dict[str, FrameworkAdapter] = {}
        self._ready: dict[tuple[str, str, str, int], ReadyMetric] = {}
        self._judge: Judge | None = None
        self._first_names: dict[str, str] = {}

    def frameworks(self) -> tuple[str, ...]:
        """The names that may stand before the dot."""
        return tuple(self._makers)

    def specs(self) -> tuple[MetricSpec, ...]:
        """Every metric of every framework that can be loaded here; an optional one that is not installed has none.

        Raises:
            InputError: a framework's package is missing or broken.
        """
        here = [name for name in self._makers if name not in missing_extras()]
        return tuple(spec for name in here for spec in self._adapter(name).specs().values())

    def check(self, metric: Metric) -> MetricSpec:
        """The spec of a metric as it will be used, or the reason why it cannot be.

        Raises:
            InputError: no such framework or metric, unknown or unfit parameters, a missing package.
        """
        adapter, name = self._find(metric.metric_name)
        spec = adapter.specs()[name]
        if spec.unavailable:
            hint = "Choose another metric: evaluate.py --list-metrics shows all."
            raise InputError(f"{spec.full_name} cannot be used here: {spec.unavailable}", hint=hint)
        check_parameter_names(spec, metric.parameters)
        self._first_names.setdefault(spec.full_name, metric.metric_name)
        with _told(f"{spec.full_name} cannot be used"):
            spec = adapter.spec_for(name, metric.parameters)
        if unknown := set(spec.required).difference(get_args(SampleField)):
            message = f"{spec.full_name} needs {min(unknown)!r}, which no sample has"
            raise InputError(message, hint=f"Its package may ask for {', '.join(get_args(SampleField))}.")
        return spec

    def ready(self, metric: Metric, judge: Judge | None, *, samples: int = 1) -> ReadyMetric:
        """The callable for a metric; equal metrics share one. `judge` is there whenever the spec asks for one.

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
            with _told(f"{spec.full_name} cannot be made"):
                call = adapter.create(name, metric.parameters, judge)
            times = spec.samples or (samples if spec.needs_llm else 1)
            self._ready[key] = ReadyMetric(spec, Sampled(call, times, spec.combine) if times > 1 else call)
        return self._ready[key]

    def one_name(self, metric: Metric) -> str:
        """The name by which a metric was first asked for, whatever it is called here: one metric, one row."""
        adapter, name = self._find(metric.metric_name)
        return self._first_names.get(adapter.specs()[name].full_name, metric.metric_name)

    def _find(self, metric_name: str) -> tuple[FrameworkAdapter, str]:
        framework, dot, name = metric_name.partition(".")
        if not dot:
            framework, name = defaults.METRIC_FRAMEWORK, metric_name
        if framework not in self._makers:
            near = difflib.get_close_matches(framework, self._makers, n=1)
            meant = f"Did you mean {near[0]}.{name}? " if near else ""
            hint = f"{meant}Frameworks: {', '.join(self._makers)}."
            raise InputError(f"{metric_name!r}: no metric framework {framework!r}", hint=hint)
        adapter = self._adapter(framework)
        name = adapter.aliases().get(name, name) if name not in adapter.specs() else name
        if name not in adapter.specs():
            raise InputError(f"no metric {metric_name!r}", hint=self._nearest(framework, name))
        return adapter, name

    def names(self, framework: str) -> tuple[str, ...]:
        """The names of a framework's metrics; loads it."""
        return tuple(self._adapter(framework).specs())

    def _nearest(self, framework: str, name: str) -> str:
        """A hint with the names that resemble the unknown one, in its own framework and in those loaded anyway."""
        names: dict[str, str] = {}
        for other in dict.fromkeys([framework, *self._loaded, *(["builtin"] if "builtin" in self._makers else [])]):
            adapter = self._adapter(other)
            names |= {spec.name.lower(): spec.full_name for spec in adapter.specs().values()}
            names |= {alias.lower(): f"{other}.{real}" for alias, real in adapter.aliases().items()}
        return nearest_of(name, names)

    def _adapter(self, framework: str) -> FrameworkAdapter:
        if framework not in self._loaded:
            adapter = self._makers[framework]()
            if adapter.framework != framework:
                message = f"the adapter of the metric framework {framework!r} calls itself {adapter.framework!r}"
                raise InputError(message, hint="Its `framework` and the name of its entry point must be the same.")
            with _told(f"the metric framework {framework} cannot say its metrics"):
                adapter.specs(), adapter.aliases()
            self._loaded[framework] = adapter
        return self._loaded[framework]


def nearest_of(name: str, known: Mapping[str, str]) -> str:
    """A hint with what is meant by the known names (in lower case) that resemble an unknown one."""
    near = difflib.get_close_matches(name.lower(), known, n=4, cutoff=0.5)
    nearest = list(dict.fromkeys(known[found] for found in near))
    listing = "python testbench/evaluate.py --list-metrics shows all."
    return f"Did you mean {' or '.join(nearest)}? {listing}" if nearest else f"Misspelt? {listing}"


def missing_extras() -> Mapping[str, str]:
    """Optional frameworks that are not installed here, each with the command that installs it."""
    return {
        name: framework.install
        for name, framework in FRAMEWORKS.items()
        if framework.optional and framework.package and find_spec(framework.package) is None
    }


def _known_adapters() -> Iterable[tuple[str, Callable[[], FrameworkAdapter]]]:
    """Ours last, so that no other package can take the place of one of them."""
    found = entry_points(group=ENTRY_POINTS)
    for name in found.names:
        value, *rivals = sorted({entry.value for entry in found.select(name=name)})
        yield name, _Maker(name, Framework(value, install=f"see the package of {value}"), tuple(rivals))
    for name, framework in FRAMEWORKS.items():
        yield name, _Maker(name, framework)


@contextmanager
def _told(what: str) -> Iterator[None]:
    """A fault of a user's own adapter is told as theirs."""
    try:
        yield
    except TestbenchError:
        raise
    except Exception as error:  # code of others may raise anything
        message = f"{what}: its adapter failed with {type(error).__name__}: {error}"
        raise InputError(message, hint="Correct the package that brings it.") from error


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """What is imported is no garbage: looking through it takes a fifth of an import, and then of every evaluation."""
    with no_cycle_collection():
        try:
            yield
        finally:
            gc.freeze()


@dataclass(frozen=True)
class _Maker:
    """Imports an adapter when it is called."""

    name: str
    framework: Framework
    rivals: tuple[str, ...] = ()
    """Other adapters that want the same name; which one is meant, nobody can know."""

    def __call__(self) -> FrameworkAdapter:
        if self.rivals:
            named = " and ".join([self.framework.adapter, *self.rivals])
            raise InputError(
                f"several packages bring a metric framework {self.name!r}: {named}",
                hint="Uninstall all of them but one.",
            )
        package = self.framework.package
        if package and find_spec(package) is None:
            raise InputError(
                f"metrics of {self.name} need the package {package}, which is not installed",
                hint=f"Install it: {self.framework.install}",
            )
        module_name, _, attribute = self.framework.adapter.partition(":")
        try:
            with _nothing_collected():
                made: Any = getattr(importlib.import_module(module_name), attribute)()
        except (Exception, SystemExit) as error:  # a module of others may do anything when it is imported
            raise InputError(
                f"the metric framework {self.name} cannot be loaded: {type(error).__name__}: {error}",
                hint=f"Its installation is incomplete or broken; {self.framework.install} repairs it.",
            ) from error
        if not isinstance(made, FrameworkAdapter):
            raise InputError(
                f"{self.framework.adapter} is no FrameworkAdapter", hint="Check the package's entry point."
            )
        return made
