"""The interface that a metric framework is plugged in by; `testbench.metrics.registry` finds and loads the adapters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from testbench.metrics.protocol import MetricCallable, MetricSpec

if TYPE_CHECKING:
    from testbench.metrics.judge.judge import Judge


class FrameworkAdapter(ABC):
    """One framework: which metrics it has, and how to make one that judges our samples."""

    framework: str

    @abstractmethod
    def specs(self) -> Mapping[str, MetricSpec]:
        """Every metric by its name without the framework's prefix."""

    def aliases(self) -> Mapping[str, str]:
        """Further names that users may know a metric by, e.g. `faithfulness` for `Faithfulness`."""
        return {}

    def spec_for(self, name: str, parameters: Mapping[str, Any]) -> MetricSpec:
        """The spec of `specs()[name]` with these parameters, which may change what the metric needs.

        Raises:
            InputError: a parameter's value does not fit.
        """
        return self.specs()[name]

    @abstractmethod
    def create(self, name: str, parameters: Mapping[str, Any], judge: Judge | None) -> MetricCallable:
        """A callable for the metric `name` of `specs()`; `judge` is there whenever the spec asks for one.

        Raises:
            InputError: a parameter's value does not fit.
        """
