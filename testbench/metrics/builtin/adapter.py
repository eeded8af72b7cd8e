"""The builtin metrics as a framework. Loaded by `testbench.metrics.registry` for names such as `builtin.tool_calls`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any, Final

from testbench.errors import InputError
from testbench.metrics.adapter import FrameworkAdapter
from testbench.metrics.builtin.json_answers import JsonEquality, JsonSchema
from testbench.metrics.builtin.metric import BuiltinMetric
from testbench.metrics.builtin.numbers import Latency, Numeric
from testbench.metrics.builtin.overlap import Bleu, ChrF, Rouge
from testbench.metrics.builtin.refusal import Refusal
from testbench.metrics.builtin.rubric import SCALE, RubricJudge, RubricParameters, spec_of
from testbench.metrics.builtin.text import Contains, ExactMatch, Length, NotContains, Regex, Similarity
from testbench.metrics.builtin.tool_calls import ForbiddenTools, MaxToolCalls, ToolCalls
from testbench.metrics.judge.judge import Judge
from testbench.metrics.parameters import parameters_of, parse_parameters
from testbench.metrics.protocol import MetricCallable, MetricSpec

FRAMEWORK: Final = "builtin"
_CLASSES: Final[tuple[type[BuiltinMetric], ...]] = (
    ExactMatch,
    Contains,
    NotContains,
    Regex,
    Similarity,
    Rouge,
    Bleu,
    ChrF,
    Length,
    Refusal,
    Numeric,
    JsonSchema,
    JsonEquality,
    ToolCalls,
    ForbiddenTools,
    MaxToolCalls,
    Latency,
)
METRICS: Final = {metric.metric_name: metric for metric in _CLASSES}
JUDGE: Final = "judge"


class BuiltinAdapter(FrameworkAdapter):
    """Needs no package but Testbench's own, and a judge only for `builtin.judge`."""

    framework = FRAMEWORK

    def specs(self) -> Mapping[str, MetricSpec]:
        return _specs()

    def spec_for(self, name: str, parameters: Mapping[str, Any]) -> MetricSpec:
        if name == JUDGE:
            return spec_of(_rubric(parameters), _specs()[name])
        return replace(_specs()[name], required=self._metric(name, parameters).required())

    def create(self, name: str, parameters: Mapping[str, Any], judge: Judge | None) -> MetricCallable:
        if name != JUDGE:
            metric = self._metric(name, parameters)
            metric.prepare()
            return metric
        if judge is None:
            raise InputError("builtin.judge needs a judge", hint="Give one to the registry.")
        return RubricJudge(_rubric(parameters), judge)

    def _metric(self, name: str, parameters: Mapping[str, Any]) -> BuiltinMetric:
        return parse_parameters(f"{FRAMEWORK}.{name}", METRICS[name], parameters)


def _rubric(parameters: Mapping[str, Any]) -> RubricParameters:
    return parse_parameters(f"{FRAMEWORK}.{JUDGE}", RubricParameters, parameters)


@cache
def _specs() -> Mapping[str, MetricSpec]:
    found = {
        name: MetricSpec(
            framework=FRAMEWORK,
            name=name,
            description=(metric.__doc__ or "").partition("\n")[0],
            required=metric.fields,
            parameters=parameters_of(metric),
            unavailable=getattr(metric, "unavailable", None),
        )
        for name, metric in METRICS.items()
    }
    found[JUDGE] = MetricSpec(
        framework=FRAMEWORK,
        name=JUDGE,
        description="A judge by your own rubric: criteria, a scale with words, and examples.",
        required=("user_input", "response"),
        parameters=parameters_of(RubricParameters),
        needs_llm=True,
        value_range=(float(min(SCALE)), float(max(SCALE))),
    )
    return found
