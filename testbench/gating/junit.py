"""The verdicts as JUnit XML, the format that test systems read; written by `gate.py`.

A suite is a scenario, a case is one metric on one step. Names are made of content, so a case is the same case on every
run. A missed threshold is a `failure`; what could not be judged is an `error`, as for any other test that broke.
"""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree import ElementTree as ET  # writes XML, parses none  # nosec B405

from testbench.printable import printable
from testbench.schema.models import EvaluatedExperiment, EvaluatedScenario, EvaluatedStep, Evaluation

INPUT_LENGTH = 60
"""Characters of the user's input that a case's name shows."""


def junit_xml(experiment: EvaluatedExperiment, name: str) -> bytes:
    """The document as UTF-8; well-formed whatever the agent said."""
    root = ET.Element("testsuites", name=printable(name))
    for scenario in experiment.scenarios:
        root.append(_suite(scenario))
    _count(root, root.iter("testcase"))
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _suite(scenario: EvaluatedScenario) -> ET.Element:
    suite = ET.Element("testsuite", name=printable(scenario.name))
    _properties(suite, {"scenario_id": scenario.id, "trace_id": scenario.trace_id})
    for step in scenario.steps:
        suite.extend(_step_cases(scenario, step))
    for evaluation in scenario.evaluations:
        case = _case(scenario, f"{evaluation.metric.metric_name}: whole conversation [{scenario.id}]")
        _outcome(case, evaluation)
        suite.append(case)
    _count(suite, suite.iter("testcase"))
    return suite


def _step_cases(scenario: EvaluatedScenario, step: EvaluatedStep) -> list[ET.Element]:
    subject = f"{printable(step.input, INPUT_LENGTH)} [{step.id}]"
    answered = _case(scenario, f"answered: {subject}", step.latency_ms)
    if step.usage is not None:
        _properties(answered, {"input_tokens": step.usage.input_tokens, "output_tokens": step.usage.output_tokens})
    if step.error is not None:
        _say(answered, "error", step.error.message, step.error.kind)
    elif step.status == "skipped":
        _say(answered, "skipped", "An earlier step of the scenario failed.")
    cases = [answered]
    for evaluation in step.evaluations:
        case = _case(scenario, f"{evaluation.metric.metric_name}: {subject}")
        _outcome(case, evaluation)
        cases.append(case)
    return cases


def _case(scenario: EvaluatedScenario, name: str, latency_ms: float | None = None) -> ET.Element:
    seconds = "0" if latency_ms is None else f"{latency_ms / 1000:.3f}"
    return ET.Element("testcase", classname=printable(scenario.name), name=printable(name), time=seconds)


def _outcome(case: ET.Element, evaluation: Evaluation) -> None:
    result, metric = evaluation.result, evaluation.metric
    usage = result.usage
    _properties(
        case,
        {
            "score": result.score,
            "threshold": metric.threshold,
            "gating": metric.gating,
            "judge_model": result.judge_model,
            "input_tokens": usage.input_tokens if usage else None,
            "output_tokens": usage.output_tokens if usage else None,
            "cost_usd": usage.cost_usd if usage else None,
        },
    )
    reason = result.reason or ""
    if not metric.gating and result.result != "pass":
        _say(case, "skipped", f"informs only: {result.result}, score {result.score}: {reason}")
    elif result.result == "fail":
        _say(case, "failure", f"score {result.score:.3f} is below the threshold {metric.threshold}: {reason}")
    elif result.result == "error":
        kind, message = (result.error.kind, result.error.message) if result.error else ("error", reason)
        _say(case, "error", message, kind)
    elif result.result == "skipped":
        _say(case, "error", f"not judged: {reason}", "skipped")


def _say(case: ET.Element, tag: str, message: str, kind: str | None = None) -> None:
    attributes = {"message": printable(message, 500)} | ({"type": printable(kind)} if kind else {})
    ET.SubElement(case, tag, attributes)


def _properties(parent: ET.Element, values: dict[str, object]) -> None:
    present = {name: value for name, value in values.items() if value is not None}
    if present:
        holder = ET.SubElement(parent, "properties")
        for name, value in present.items():
            ET.SubElement(holder, "property", name=name, value=printable(str(value)))


def _count(element: ET.Element, cases: Iterable[ET.Element]) -> None:
    found = list(cases)
    element.set("tests", str(len(found)))
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        element.set(attribute, str(sum(case.find(tag) is not None for case in found)))
