"""The table of the report: one row per step, and one per conversation that is judged as a whole.

`ReportRow` is what the list shows of all of them at once; a detail is what one of them shows when it is opened. Both
are plain data: the page and the browser decide how it looks. Called by `testbench.report.view`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from pydantic_core import to_json

from testbench.errors import InputError
from testbench.results.checks import Check, collect_checks, key_of_check, repetitions_of
from testbench.results.comparison import Baseline, CheckChange, classify_change
from testbench.results.summary import (
    CheckVerdict,
    decide_scenario,
    decide_step,
    find_missing_metrics,
    is_quarantined,
    status_of,
)
from testbench.schema.models import (
    EvaluatedExperiment,
    EvaluatedScenario,
    EvaluatedStep,
    Failure,
    Metric,
    Reference,
    Result,
    ResultStatus,
    ToolCall,
    Turn,
    Usage,
)


def encode(value: Any) -> bytes:
    """Return plain data as JSON in UTF-8; NaN and infinities become null."""
    try:
        return to_json(value, inf_nan_mode="null", fallback=str)
    except ValueError:
        return json.dumps(value, default=str, allow_nan=False, separators=(",", ":")).encode("ascii")


def show_value(value: Any) -> str:
    """Return plain data as JSON text for people, in which NaN and infinities keep their names."""
    try:
        return to_json(value, inf_nan_mode="constants", fallback=str).decode()
    except ValueError:
        return json.dumps(value, ensure_ascii=False, default=str, separators=(",", ":"))


TITLE_LIMIT = 240
"""Characters of a question that the list carries; the opened row has all of it."""

NO_ANSWER = "The agent did not answer this step."
NO_RESULT = "The evaluated experiment holds no result of this metric."
CONTRADICTION = "The file's result and score contradict each other."


@dataclass(frozen=True)
class Cell:
    """What one metric said of one row. Several evaluations by the same metric show as the worst of them."""

    result: ResultStatus
    score: float | None


@dataclass(frozen=True)
class ReportRow:
    """One line of the table. `position` is None for a whole conversation; `id` is unique within the report.

    `label` says how often the check passed, e.g. `3/5`, in a run with repetitions.
    """

    id: str
    key: str
    scenario: int
    position: int | None
    title: str
    verdict: CheckVerdict
    cells: Mapping[str, Cell]
    latency_ms: float | None
    change: CheckChange | None
    quarantine: bool = False
    repetition: int = 1
    label: str | None = None


@dataclass(frozen=True)
class Place:
    """Where a row stands in the experiment."""

    scenario: EvaluatedScenario
    index: int
    position: int | None

    @property
    def step(self) -> EvaluatedStep | None:
        return None if self.position is None else self.scenario.steps[self.position]

    @property
    def owner(self) -> EvaluatedStep | EvaluatedScenario:
        return self.step or self.scenario

    @property
    def verdict(self) -> CheckVerdict:
        return decide_scenario(self.scenario) if self.step is None else decide_step(self.step)


def walk_places(experiment: EvaluatedExperiment) -> Iterator[Place]:
    """Yield the place of every row, in the order of the file."""
    for index, scenario in enumerate(experiment.scenarios):
        yield from walk_places_in(scenario, index)


def walk_places_in(scenario: EvaluatedScenario, index: int = 0) -> Iterator[Place]:
    """Yield the steps of a conversation, then the conversation itself where something judges it."""
    for position in range(len(scenario.steps)):
        yield Place(scenario, index, position)
    if scenario.evaluations or scenario.metrics:
        yield Place(scenario, index, None)


def build_rows(experiment: EvaluatedExperiment, baseline: Baseline | None) -> Iterator[ReportRow]:
    """Yield the lines of the table in the order of the file."""
    seen: set[str] = set()
    repeated = repetitions_of(experiment) > 1
    known = {check.key: check for check in collect_checks(experiment)} if repeated or baseline else {}
    for number, place in enumerate(walk_places(experiment), start=1):
        key = key_of_check(place.scenario, place.position)
        repetition = place.scenario.repetition
        identity = f"{place.owner.id}-r{repetition}" if place.owner.id and repetition > 1 else place.owner.id
        if not identity or identity in seen:
            identity = f"row-{number}"
        seen.add(identity)
        title = place.step.input if place.step else "Whole conversation"
        verdict = place.verdict
        yield ReportRow(
            id=identity,
            key=key,
            scenario=place.index,
            position=place.position,
            title=title if len(title) <= TITLE_LIMIT else title[:TITLE_LIMIT] + "…",
            verdict=verdict,
            cells=_build_cells(place.owner),
            latency_ms=place.step.latency_ms if place.step else None,
            change=classify_change(baseline.checks.get(key), known[key].verdict, known[key].scores)
            if baseline
            else None,
            quarantine=is_quarantined(place.owner),
            repetition=place.scenario.repetition,
            label=known[key].label if repeated else None,
        )


RESULT_SEVERITY: dict[ResultStatus, int] = {"pass": 0, "fail": 1, "skipped": 2, "error": 3}


def _build_cells(owner: EvaluatedStep | EvaluatedScenario) -> dict[str, Cell]:
    cells: dict[str, Cell] = {}
    for metric, result in _walk_results(owner):
        worst = cells.get(metric.shown_name)
        if worst is None or RESULT_SEVERITY[result.result] > RESULT_SEVERITY[worst.result]:
            cells[metric.shown_name] = Cell(result.result, result.score)
    return cells


def _walk_results(owner: EvaluatedStep | EvaluatedScenario) -> Iterator[tuple[Metric, Result]]:
    """Yield every metric with its result; one without result is in error, and so is each of a step that failed."""
    failed = isinstance(owner, EvaluatedStep) and owner.status != "ok"
    for evaluation in owner.evaluations:
        result = evaluation.result
        if failed and result.result != "error":
            result = Result(result="error", reason=result.reason or NO_ANSWER)
        elif status_of(evaluation) != result.result:
            result = Result(result="error", reason=CONTRADICTION)
        yield evaluation.metric, result
    for metric in find_missing_metrics(owner):
        yield metric, Result(result="error", reason=NO_ANSWER if failed else NO_RESULT)


# --- an opened row -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TraceLinks:
    """A link to the trace from a template with `{trace_id}` and `{span_id}`; None where there is no trace."""

    trace_template: str | None = None

    @classmethod
    def from_template(cls, template: str | None) -> TraceLinks:
        """Return links by a template that a user gave.

        Raises:
            InputError: it is not an http address, or has no place for the trace's id.
        """
        if template is not None and not (template.startswith(("http://", "https://")) and "{trace_id}" in template):
            raise InputError(f"--trace-url: {template!r} is not a link to a trace", hint="https://…/{trace_id}")
        return cls(template)

    def link_of(self, place: Place) -> str | None:
        """Return the address of the trace, with every part of it escaped."""
        if self.trace_template is None or not place.scenario.trace_id:
            return None
        span_id = place.step.span_id if place.step else None
        link = self.trace_template.replace("{trace_id}", quote(place.scenario.trace_id, safe=""))
        return link.replace("{span_id}", quote(span_id or "", safe=""))


def build_details(
    scenario: EvaluatedScenario, baseline: Baseline | None, links: TraceLinks
) -> Iterator[dict[str, Any]]:
    """Yield what each row of a conversation shows when it is opened, in the order of `build_rows`.

    Absent values are left out. A threshold that the metric does not name is left out too: it is the experiment's.
    """
    for place in walk_places_in(scenario):
        yield _build_detail(place, baseline, links)


def _build_detail(place: Place, baseline: Baseline | None, links: TraceLinks) -> dict[str, Any]:
    before = baseline.checks.get(key_of_check(place.scenario, place.position)) if baseline else None
    about = {
        "scenario_id": place.scenario.id or None,
        "trace_id": place.scenario.trace_id,
        "trace_url": links.link_of(place),
        "evaluations": [_describe_evaluation(metric, result) for metric, result in _walk_results(place.owner)],
        "before": _describe_before(before) if before else None,
    }
    return _drop_absent(about | (_describe_step(place.step) if place.step else {}))


def _describe_step(step: EvaluatedStep) -> dict[str, Any]:
    return {
        "id": step.id or None,
        "input": step.input,
        "status": step.status,
        "turns": [_describe_turn(turn) for turn in step.turns],
        "answer": step.answer,
        "reference": _describe_reference(step.reference) if step.reference else None,
        "error": _describe_failure(step.error) if step.error else None,
        "custom": show_value(step.custom_values) if step.custom_values else None,
        "context_id": step.context_id,
        "task_id": step.task_id,
        "span_id": step.span_id,
        "started_at": step.started_at.isoformat() if step.started_at else None,
        "latency_ms": step.latency_ms,
        "first_token_ms": step.time_to_first_token_ms,
        "usage": _describe_usage(step.usage) if step.usage else None,
    }


def _describe_turn(turn: Turn) -> dict[str, Any]:
    return _drop_absent(
        {
            "type": turn.type,
            "content": turn.content or None,
            "calls": _describe_calls(turn.tool_calls) if turn.tool_calls else None,
            "extra": show_value(turn.model_extra) if turn.model_extra else None,
        }
    )


def _describe_calls(calls: Iterable[ToolCall]) -> list[dict[str, str]]:
    return [{"name": call.name, "args": show_value(call.args)} for call in calls]


def _describe_reference(reference: Reference) -> dict[str, Any]:
    return _drop_absent(
        {
            "response": reference.response,
            "calls": None if reference.tool_calls is None else _describe_calls(reference.tool_calls),
            "topics": reference.topics,
            "retrieved_contexts": reference.retrieved_contexts,
            "reference_contexts": reference.reference_contexts,
            "extra": show_value(reference.model_extra) if reference.model_extra else None,
        }
    )


def _describe_evaluation(metric: Metric, result: Result) -> dict[str, Any]:
    return _drop_absent(
        {
            "metric": metric.shown_name,
            "threshold": metric.threshold,
            "gating": metric.gating,
            "kind": metric.metric_name if metric.label else None,
            "parameters": show_value(metric.parameters) if metric.parameters else None,
            "result": result.result,
            "score": result.score,
            "reason": result.reason,
            "details": show_value(result.details) if result.details else None,
            "error": _describe_failure(result.error) if result.error else None,
            "judge": result.judge_model,
            "cached": result.cached or None,
            "usage": _describe_usage(result.usage) if result.usage else None,
        }
    )


def _describe_failure(failure: Failure) -> dict[str, Any]:
    return _drop_absent(
        {
            "kind": failure.kind,
            "message": failure.message,
            "attempts": failure.attempts,
            "retryable": failure.retryable,
            "raw": failure.raw,
        }
    )


def _describe_usage(usage: Usage) -> dict[str, Any]:
    return _drop_absent({"in": usage.input_tokens, "out": usage.output_tokens, "cost": usage.cost_usd})


def _describe_before(before: Check) -> dict[str, Any]:
    return {"verdict": before.verdict, "scores": dict(before.scores)}


def _drop_absent(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
