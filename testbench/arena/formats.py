"""The formats in which an evaluation's results are handed on: CSV and JUnit, a row or a case for each item.

    CSV     run_id, item_key, job, scenario, group, provider, repetition, status, score_<metric>…, latency_ms, ttft_ms,
            input_tokens, output_tokens, cost_usd, attempts, error_type, error, trace_id, started_at
    JUnit   suite = scenario, class = job.scenario, case = provider[repetition]; the same names on every run

Called by the reducer. What agents and judges said is text in both: a cell can be no formula and an element no markup.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final
from xml.etree import ElementTree as ET  # writes XML, parses none  # nosec B405

from testbench.arena.plan import Plan
from testbench.arena.rows import ItemRow
from testbench.printable import printable

BEFORE_SCORES: Final = ("run_id", "item_key", "job", "scenario", "group", "provider", "repetition", "status")
AFTER_SCORES: Final = (
    *("latency_ms", "ttft_ms", "input_tokens", "output_tokens", "cost_usd"),
    *("attempts", "error_type", "error", "trace_id", "started_at"),
)
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins so is run as a formula by spreadsheets (OWASP, CSV injection); an apostrophe makes it text."""


def csv_bytes(plan: Plan, run_id: str, found: Sequence[ItemRow]) -> bytes:
    """One line for each item in UTF-8; a number that nobody measured is an empty cell."""
    metrics = sorted({name for row in found for name in row.scores})
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*BEFORE_SCORES, *(_text(f"score_{name}") for name in metrics), *AFTER_SCORES])
    for row in found:
        writer.writerow(_cells(plan, run_id, row, metrics))
    return text.getvalue().encode()


def _cells(plan: Plan, run_id: str, row: ItemRow, metrics: Sequence[str]) -> list[str | int | float | None]:
    item, usage = row.item, row.agent_usage
    started_at = row.started_at.isoformat() if row.started_at else None
    return [
        *(run_id, item.key, plan.job, _text(item.scenario_name), _text(item.contender.group)),
        *(_text(item.contender.label), item.repetition, row.status),
        *(row.scores.get(name) for name in metrics),
        *(_rounded(row.latency_ms), _rounded(row.ttft_ms), usage.input_tokens, usage.output_tokens, row.cost_usd),
        *(row.attempts, row.failure.kind if row.failure else None),
        *(_text(row.failure.message) if row.failure else None, row.trace_id, started_at),
    ]


def _text(value: str) -> str:
    line = printable(value)
    return f"'{line}" if line.startswith(FORMULA) else line


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def junit_bytes(plan: Plan, found: Iterable[ItemRow]) -> bytes:
    """The document as UTF-8; suites and cases are sorted by name."""
    root = ET.Element("testsuites", name=printable(plan.job))
    names = _suite_names(plan)
    suites: dict[str, list[ItemRow]] = {}
    for row in found:
        suites.setdefault(names[row.item.scenario_id], []).append(row)
    for name in sorted(suites):
        suite = ET.SubElement(root, "testsuite", name=name)
        for row in sorted(suites[name], key=lambda row: (row.item.contender.label, row.item.repetition)):
            suite.append(_case(f"{printable(plan.job)}.{name}", row))
        _count(suite)
    _count(root)
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _suite_names(plan: Plan) -> dict[str, str]:
    """A name for each scenario's id; scenarios of one name are told apart by their ids."""
    uses = Counter(printable(file.scenario.name) for file in plan.scenarios)
    named = ((file.id, printable(file.scenario.name)) for file in plan.scenarios)
    return {key: name if uses[name] == 1 else f"{name} [{key}]" for key, name in named}


def _case(classname: str, row: ItemRow) -> ET.Element:
    item = row.item
    case = ET.Element(
        "testcase",
        name=printable(f"{item.contender.label}[{item.repetition}]"),
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
    _outcome(case, row)
    return case


def _outcome(case: ET.Element, row: ItemRow) -> None:
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


def _count(element: ET.Element) -> None:
    cases = list(element.iter("testcase"))
    element.set("tests", str(len(cases)))
    for attribute, child in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        element.set(attribute, str(sum(case.find(child) is not None for case in cases)))
