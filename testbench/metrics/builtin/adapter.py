"""The builtin metrics as a framework. Loaded by `testbench.metrics.registry` for names such as `builtin.tool_calls`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final

from testbench.errors import InputError
from testbench.metrics.adapter import parameters_of, parse_parameters
from testbench.metrics.builtin.json_answers import JsonEquality, JsonSchema
from testbench.metrics.builtin.numbers import Latency, Numeric
from testbench.metrics.builtin.overlap import Bleu, ChrF, Rouge
from testbench.metrics.builtin.rubric import SCALE, RubricJudge, RubricParameters, spec_with
from testbench.metrics.builtin.text import Contains, ExactMatch, Length, NotContains, Refusal, Regex, Similarity
from testbench.metrics.builtin.tool_calls import ForbiddenTools, MaxToolCalls, ToolCalls
from testbench.metrics.computed import ComputedMetricsAdapter
from testbench.metrics.judge.judge import Judge
from testbench.metrics.protocol import MetricCallable, MetricSpec

FRAMEWORK: Final = "builtin"
JUDGE: Final = MetricSpec(
    framework=FRAMEWORK,
    name="judge",
    description="A judge by your own rubric: criteria, a scale with words, and examples.",
    required=("user_input", "response"),
    parameters=parameters_of(RubricParameters),
    needs_llm=True,
    value_range=(float(min(SCALE)), float(max(SCALE))),
)


class BuiltinAdapter(ComputedMetricsAdapter):
    """Needs no package but Testbench's own, and a judge only for `builtin.judge`."""

    framework = FRAMEWORK
    metrics = (
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

    def specs(self) -> Mapping[str, MetricSpec]:
        return self._all_specs

    def spec_for(self, name: str, parameters: Mapping[str, Any]) -> MetricSpec:
        if name == JUDGE.name:
            return spec_with(_parse_rubric(parameters), JUDGE)
        return super().spec_for(name, parameters)

    def create(self, name: str, parameters: Mapping[str, Any], judge: Judge | None) -> MetricCallable:
        if name != JUDGE.name:
            return super().create(name, parameters, judge)
        if judge is None:
            raise InputError(f"{JUDGE.full_name} needs a judge", hint="Give one to the registry.")
        return RubricJudge(_parse_rubric(parameters), judge)

    @cached_property
    def _all_specs(self) -> Mapping[str, MetricSpec]:
        return {**super().specs(), JUDGE.name: JUDGE}


def _parse_rubric(parameters: Mapping[str, Any]) -> RubricParameters:
    return parse_parameters(JUDGE.full_name, RubricParameters, parameters)
