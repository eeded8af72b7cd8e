"""One flat row for each item: what the CSV and the JUnit file hold, and what the conclusion is counted from.

    item, evaluated scenario -> row -> status, scores, times, tokens
    verdict, reduction, rows -> conclusion

Called by the reducer of evaluations. Pure.
"""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal
from xml.etree import ElementTree as ET  # writes XML, parses none  # nosec B405

from testbench.arena.conclusion import (
    BELOW_THRESHOLD,
    MISSING_ITEMS,
    MISSING_SHARDS,
    NO_ITEMS,
    NOT_JUDGED,
    SUCCEEDED,
    Conclusion,
    Counts,
    list_some,
    summarize_usage,
    withdraw_pass,
)
from testbench.arena.evaluation.results import Reduction
from testbench.arena.manifest.job_status import MESSAGE_LENGTH, SUMMARY_ERRORS, SUMMARY_SCORE, SUMMARY_VERDICT
from testbench.arena.plan.model import Item, Plan
from testbench.results.summary import CheckVerdict, decide_scenario, decide_step, sum_usage
from testbench.results.verdict import Verdict, VerdictWord
from testbench.safe_text import printable
from testbench.schema.models import EvaluatedExperiment, EvaluatedScenario, Evaluation, Failure, Usage

RowStatus = Literal["passed", "failed", "error", "skipped"]
"""`error`: not all of it could be judged; `skipped`: nothing that gates judges it."""

WORST_FIRST: tuple[CheckVerdict, ...] = ("error", "fail", "pass")
STATUS: dict[CheckVerdict, RowStatus] = {"error": "error", "fail": "failed", "pass": "passed", "unjudged": "skipped"}


@dataclass(frozen=True)
class ItemRow:
    """An item in numbers. Latency and time to first token are means over its answered steps, in milliseconds."""

    item: Item
    status: RowStatus
    scores: Mapping[str, float]
    """Mean score of each metric over what it judged."""
    latency_ms: float | None
    ttft_ms: float | None
    agent_usage: Usage
    judge_usage: Usage
    attempts: int
    failure: Failure | None
    trace_id: str | None
    started_at: datetime | None

    @property
    def cost_usd(self) -> float | None:
        """What the item cost, agent and judge together, as far as it was reported."""
        return sum_usage([self.agent_usage, self.judge_usage]).cost_usd


def build_rows(plan: Plan, experiment: EvaluatedExperiment) -> Iterator[ItemRow]:
    """Return a row for each item, in the plan's order; `testbench.arena.evaluation.results` makes the experiment."""
    for item, scenario in zip(plan.items, experiment.scenarios, strict=True):
        yield build_row(item, scenario)


def build_row(item: Item, scenario: EvaluatedScenario) -> ItemRow:
    """One item as a row."""
    steps = scenario.steps
    found = [*(evaluation for step in steps for evaluation in step.evaluations), *scenario.evaluations]
    return ItemRow(
        item=item,
        status=_decide_status(scenario),
        scores=_average_scores(found),
        latency_ms=_average([step.latency_ms for step in steps if step.status == "ok"]),
        ttft_ms=_average([step.time_to_first_token_ms for step in steps if step.status == "ok"]),
        agent_usage=sum_usage(step.usage for step in steps),
        judge_usage=sum_usage(evaluation.result.usage for evaluation in found),
        attempts=sum(step.error.attempts if step.error else step.status == "ok" for step in steps),
        failure=_find_first_failure(scenario, found),
        trace_id=scenario.trace_id,
        started_at=min((step.started_at for step in steps if step.started_at is not None), default=None),
    )


def _decide_status(scenario: EvaluatedScenario) -> RowStatus:
    verdicts = {decide_step(step) for step in scenario.steps if not step.quarantine} | {decide_scenario(scenario)}
    return STATUS[next((verdict for verdict in WORST_FIRST if verdict in verdicts), "unjudged")]


def _average_scores(found: list[Evaluation]) -> dict[str, float]:
    groups: dict[str, list[float]] = {}
    for evaluation in found:
        if evaluation.result.score is not None:
            groups.setdefault(evaluation.metric.shown_name, []).append(evaluation.result.score)
    return {name: statistics.fmean(scores) for name, scores in groups.items()}


def _find_first_failure(scenario: EvaluatedScenario, found: list[Evaluation]) -> Failure | None:
    failures = [step.error for step in scenario.steps] + [evaluation.result.error for evaluation in found]
    return next((failure for failure in failures if failure is not None), None)


def _average(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


BEFORE_SCORES: Final = ("run_id", "item_key", "job", "scenario", "group", "provider", "repetition", "status")
AFTER_SCORES: Final = (
    *("latency_ms", "ttft_ms", "input_tokens", "output_tokens", "cost_usd"),
    *("attempts", "error_type", "error", "trace_id", "started_at"),
)
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins so is run as a formula by spreadsheets (OWASP, CSV injection); an apostrophe makes it text."""


def encode_csv(plan: Plan, run_id: str, found: Sequence[ItemRow]) -> bytes:
    """One line for each item in UTF-8; a number that nobody measured is an empty cell."""
    metrics = sorted({name for row in found for name in row.scores})
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*BEFORE_SCORES, *(_escape_formula(f"score_{name}") for name in metrics), *AFTER_SCORES])
    for row in found:
        writer.writerow(_build_cells(plan, run_id, row, metrics))
    return text.getvalue().encode()


def _build_cells(plan: Plan, run_id: str, row: ItemRow, metrics: Sequence[str]) -> list[str | int | float | None]:
    item, usage = row.item, row.agent_usage
    started_at = row.started_at.isoformat() if row.started_at else None
    return [
        *(run_id, item.key, plan.job, _escape_formula(item.scenario_name), _escape_formula(item.system.group)),
        *(_escape_formula(item.system.label), item.repetition, row.status),
        *(row.scores.get(name) for name in metrics),
        *(_round(row.latency_ms), _round(row.ttft_ms), usage.input_tokens, usage.output_tokens, row.cost_usd),
        *(row.attempts, row.failure.kind if row.failure else None),
        *(_escape_formula(row.failure.message) if row.failure else None, row.trace_id, started_at),
    ]


def _escape_formula(value: str) -> str:
    line = printable(value)
    return f"'{line}" if line.startswith(FORMULA) else line


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def encode_junit(plan: Plan, found: Iterable[ItemRow]) -> bytes:
    """Return the document as UTF-8; suites and cases are sorted by name."""
    root = ET.Element("testsuites", name=printable(plan.job))
    names = _name_suites(plan)
    suites: dict[str, list[ItemRow]] = {}
    for row in found:
        suites.setdefault(names[row.item.scenario_id], []).append(row)
    for name in sorted(suites):
        suite = ET.SubElement(root, "testsuite", name=name)
        for row in sorted(suites[name], key=lambda row: (row.item.system.label, row.item.repetition)):
            suite.append(_build_case(f"{printable(plan.job)}.{name}", row))
        _set_counts(suite)
    _set_counts(root)
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _name_suites(plan: Plan) -> dict[str, str]:
    """Return a name for each scenario's id; scenarios of one name are told apart by their ids."""
    uses = Counter(printable(file.scenario.name) for file in plan.scenarios)
    named = ((file.id, printable(file.scenario.name)) for file in plan.scenarios)
    return {key: name if uses[name] == 1 else f"{name} [{key}]" for key, name in named}


def _build_case(classname: str, row: ItemRow) -> ET.Element:
    item = row.item
    case = ET.Element(
        "testcase",
        name=printable(f"{item.system.label}[{item.repetition}]"),
        classname=classname,
        time="0" if row.latency_ms is None else f"{row.latency_ms / 1000:.3f}",
    )
    numbers = {
        "item_key": item.key,
        "trace_id": row.trace_id,
        "input_tokens": row.agent_usage.input_tokens,
        "output_tokens": row.agent_usage.output_tokens,
        "cost_usd": row.cost_usd,
        **{f"metric.{name}": f"{score:.4f}" for name, score in sorted(row.scores.items())},
    }
    properties = ET.SubElement(case, "properties")
    for name, value in numbers.items():
        if value is not None:
            ET.SubElement(properties, "property", name=printable(name), value=printable(str(value)))
    _add_outcome(case, row)
    return case


def _add_outcome(case: ET.Element, row: ItemRow) -> None:
    match row.status:
        case "failed":
            scores = ", ".join(f"{name} {score:.3f}" for name, score in sorted(row.scores.items()))
            ET.SubElement(case, "failure", message=printable(f"below the threshold: {scores}"), type="threshold")
        case "error":
            kind = row.failure.kind if row.failure else "unjudged"
            message = row.failure.message if row.failure else "not all of it could be judged"
            ET.SubElement(case, "error", message=printable(message), type=printable(kind))
        case "skipped":
            ET.SubElement(case, "skipped", message="no metric that gates judges it")
        case "passed":
            pass


def _set_counts(element: ET.Element) -> None:
    cases = list(element.iter("testcase"))
    element.set("tests", str(len(cases)))
    for attribute, child in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        element.set(attribute, str(sum(case.find(child) is not None for case in cases)))


REASONS: Final[Mapping[VerdictWord, str]] = {
    "pass": SUCCEEDED,
    "fail": BELOW_THRESHOLD,
    "error": NOT_JUDGED,
    "nothing": NO_ITEMS,
}


def conclude_evaluation(
    verdict: Verdict, reduction: Reduction, missing_shards: Sequence[int], found: Sequence[ItemRow]
) -> Conclusion:
    """Return the end of an evaluation. `found` are the rows of all items, `missing_shards` those that are not done."""
    counts = count_items(found)
    reason, message = REASONS[verdict.verdict], verdict.sentence
    if counts.total == 0:
        reason, message = NO_ITEMS, "The plan has no item."
    elif missing_shards:
        reason = MISSING_SHARDS
        message = f"{len(missing_shards)} shards did not finish: {list_some(missing_shards)}. {verdict.sentence}"
    elif not reduction.complete:
        reason, message = MISSING_ITEMS, f"{'; '.join(reduction.faults)}. {verdict.sentence}"
    summary = _summarize(verdict, counts, found)
    return Conclusion(
        phase="Succeeded" if reason == SUCCEEDED else "Failed",
        reason=reason,
        message=printable(message, MESSAGE_LENGTH),
        counts=counts,
        summary=withdraw_pass(summary) if reason != SUCCEEDED else summary,
    )


def count_items(found: Sequence[ItemRow]) -> Counts:
    """Items by their status."""
    statuses = [row.status for row in found]
    return Counts(
        total=len(statuses),
        passed=statuses.count("passed"),
        failed=statuses.count("failed"),
        errors=statuses.count("error"),
        unjudged=statuses.count("skipped"),
    )


def _summarize(verdict: Verdict, counts: Counts, found: Sequence[ItemRow]) -> dict[str, str]:
    usage = sum_usage([usage for row in found for usage in (row.agent_usage, row.judge_usage)])
    latencies = [row.latency_ms for row in found if row.latency_ms is not None]
    numbers: dict[str, str | None] = {
        SUMMARY_VERDICT: verdict.verdict,
        SUMMARY_SCORE: None if verdict.pass_rate is None else f"{verdict.pass_rate:.3f}",
        SUMMARY_ERRORS: str(counts.errors),
        "totalItems": str(counts.total),
        "passedItems": str(counts.passed),
        "failedItems": str(counts.failed),
        "unjudgedItems": str(counts.unjudged),
        "avgLatencyMs": f"{math.fsum(latencies) / len(latencies):.1f}" if latencies else None,
    }
    return {name: value for name, value in numbers.items() if value is not None} | summarize_usage(usage)
