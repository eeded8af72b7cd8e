"""The verdicts as JUnit XML, the format that test systems read; written by `gate.py`.

A suite is a scenario, a case is one metric on one step. Names are made of content, so a case is the same case on every
run. A missed threshold is a `failure`; what could not be judged is an `error`, as for any other test that broke. Where
no case says why the verdict is no pass (an empty run, a shard, a regression), a case of its own says it.

Repetitions of a scenario are one suite, and all results of a metric on a step one case, which ends as the worst of
them: error before failure before passed. A case that passed sometimes therefore fails, and says how often it passed in
its message and in the property `passed_attempts`, e.g. `3/5`. What informs only, or is in quarantine, never fails.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET  # writes XML, parses none  # nosec B405

from testbench.results.checks import Check, collect_checks, key_of_check
from testbench.results.summary import cluster_of, find_missing_metrics, is_quarantined, status_of, sum_usage
from testbench.results.verdict import Verdict
from testbench.safe_text import printable
from testbench.schema.models import EvaluatedExperiment, EvaluatedScenario, EvaluatedStep, Evaluation, Metric, Usage

INPUT_LENGTH = 60
"""Characters of the user's input that a case's name shows."""
MESSAGE_LENGTH = 500


@dataclass(frozen=True)
class CaseOutcome:
    """How one attempt at a case ended: the element of JUnit (empty where it passed), its type, and why."""

    tag: str = ""
    message: str = ""
    kind: str | None = None


WORST_FIRST = ("error", "failure", "skipped", "")
LOST_ATTEMPT = CaseOutcome("error", "the file does not hold this attempt, or more than once")
RUN_SUITE = "testbench"
"""Suite of the case that speaks for the whole run."""

MetricResult = tuple[Metric, Evaluation | None]
"""A metric, and its evaluation where the file holds one."""


@dataclass(frozen=True)
class Suite:
    """All attempts at one scenario, and the checks of the run by key: those that the verdict counts."""

    attempts: Sequence[EvaluatedScenario]
    checks: Mapping[str, Check]
    default_threshold: float

    @property
    def name(self) -> str:
        first = self.attempts[0]
        return printable(f"{first.name} · {first.provider}" if first.provider else first.name)

    @property
    def traces(self) -> str | None:
        return " ".join(scenario.trace_id for scenario in self.attempts if scenario.trace_id) or None

    @property
    def steps(self) -> Mapping[str, list[EvaluatedStep]]:
        """By key: attempts may have been left out, or hold other steps than the first."""
        found: dict[str, list[EvaluatedStep]] = {}
        for scenario in self._once:
            for position, step in enumerate(scenario.steps):
                found.setdefault(key_of_check(scenario, position), []).append(step)
        return found

    @property
    def wholes(self) -> list[EvaluatedScenario]:
        return [scenario for scenario in self._once if scenario.metrics or scenario.evaluations]

    @property
    def _once(self) -> Sequence[EvaluatedScenario]:
        """Without what the file holds more than once: which of the two is right, nobody knows."""
        found = Counter(scenario.repetition for scenario in self.attempts)
        return [scenario for scenario in self.attempts if found[scenario.repetition] == 1] or self.attempts[:1]

    def lost(self, key: str, found: int) -> list[CaseOutcome]:
        """Return an outcome for each attempt that there should be beside the `found` ones."""
        return [LOST_ATTEMPT] * (len(self.checks[key].attempts) - found if key in self.checks else 0)


def render_junit(experiment: EvaluatedExperiment, verdict: Verdict, name: str) -> bytes:
    """Return the document in UTF-8.

    Well-formed whatever the agent said, and with a fault wherever the verdict is no pass.
    """
    root = ET.Element("testsuites", name=printable(name))
    groups: dict[str, list[EvaluatedScenario]] = {}
    for number, scenario in enumerate(experiment.scenarios):
        groups.setdefault(cluster_of(scenario) if scenario.id else str(number), []).append(scenario)
    known = {check.key: check for check in collect_checks(experiment)}
    root.extend(_build_suite(Suite(attempts, known, experiment.default_threshold)) for attempts in groups.values())
    if verdict.verdict != "pass" and root.find(".//failure") is None and root.find(".//error") is None:
        root.append(_build_run_suite(verdict))
    _number_namesakes(root.iter("testcase"))
    _set_counts(root, root.iter("testcase"))
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _build_suite(suite: Suite) -> ET.Element:
    first = suite.attempts[0]
    element = ET.Element("testsuite", name=suite.name)
    _add_properties(element, {"scenario_id": first.id, "provider": first.provider, "trace_id": suite.traces})
    for key, steps in suite.steps.items():
        element.extend(_build_step_cases(suite, steps, suite.lost(key, len(steps))))
    if wholes := suite.wholes:
        lost = suite.lost(key_of_check(first, None), len(wholes))
        element.extend(_build_metric_cases(suite, wholes, lost, f"whole conversation [{first.id}]"))
    _set_counts(element, element.iter("testcase"))
    return element


def _build_run_suite(verdict: Verdict) -> ET.Element:
    element = ET.Element("testsuite", name=RUN_SUITE)
    case = ET.SubElement(element, "testcase", classname=RUN_SUITE, name="verdict", time="0")
    outcomes = CaseOutcome("failure" if verdict.verdict == "fail" else "error", verdict.sentence, verdict.verdict)
    _add_outcome(case, [outcomes])
    _set_counts(element, [case])
    return element


def _number_namesakes(cases: Iterable[ET.Element]) -> None:
    """Number the cases that have the same name, as those of a file without ids may be."""
    seen: Counter[tuple[str | None, str]] = Counter()
    for case in cases:
        name = case.get("name", "")
        seen[case.get("classname"), name] += 1
        if (number := seen[case.get("classname"), name]) > 1:
            case.set("name", f"{name} ({number})")


def _build_step_cases(
    suite: Suite, steps: Sequence[EvaluatedStep], lost: Sequence[CaseOutcome]
) -> Iterator[ET.Element]:
    subject = f"{printable(steps[0].input, INPUT_LENGTH)} [{steps[0].id}]"
    answered = _build_case(suite, f"answered: {subject}", steps)
    outcomes = [*map(_outcome_of_step, steps), *lost]
    usage = sum_usage(step.usage for step in steps)
    _add_properties(answered, {"trace_id": suite.traces, **_describe_usage(usage), **_describe_passes(outcomes)})
    _add_outcome(answered, outcomes, apart=steps[0].quarantine)
    yield answered
    yield from _build_metric_cases(suite, steps, lost, subject)


def _outcome_of_step(step: EvaluatedStep) -> CaseOutcome:
    if step.error is not None:
        return CaseOutcome("error", step.error.message, step.error.kind)
    return (
        CaseOutcome("skipped", "An earlier step of the scenario failed.") if step.status == "skipped" else CaseOutcome()
    )


def _build_metric_cases(
    suite: Suite, owners: Sequence[EvaluatedStep | EvaluatedScenario], lost: Sequence[CaseOutcome], subject: str
) -> Iterator[ET.Element]:
    """Yield a case for each metric, in whichever attempt it is; a metric that judges a step twice has two cases."""
    by_name: dict[str, list[MetricResult]] = {}
    for owner in owners:
        for name, found in _number_evaluations(owner):
            by_name.setdefault(name, []).append(found)
    for name, results in by_name.items():
        metric = results[0][0]
        case = _build_case(suite, f"{name}: {subject}")
        outcomes = [_outcome_of_metric(found, evaluation, suite.default_threshold) for found, evaluation in results]
        outcomes += [*[LOST_ATTEMPT] * (len(owners) - len(results)), *lost]
        judged = [evaluation for _, evaluation in results if evaluation is not None]
        about = _describe_metric(metric, judged, suite.default_threshold)
        _add_properties(case, {**about, **_describe_passes(outcomes), "trace_id": suite.traces})
        _add_outcome(case, outcomes, apart=is_quarantined(owners[0]), informs=not metric.gating)
        yield case


def _number_evaluations(owner: EvaluatedStep | EvaluatedScenario) -> Iterator[tuple[str, MetricResult]]:
    """Yield every metric with its result in the file, under a name of its own."""
    found: list[MetricResult] = [(one.metric, one) for one in owner.evaluations]
    found += [(metric, None) for metric in find_missing_metrics(owner)]
    seen: Counter[str] = Counter()
    for metric, evaluation in found:
        seen[metric.shown_name] += 1
        number = seen[metric.shown_name]
        yield metric.shown_name if number == 1 else f"{metric.shown_name} ({number})", (metric, evaluation)


def _outcome_of_metric(metric: Metric, evaluation: Evaluation | None, default_threshold: float) -> CaseOutcome:
    if evaluation is None:
        return CaseOutcome("error", "the file holds no result")
    result, reason = evaluation.result, evaluation.result.reason or ""
    threshold = default_threshold if metric.threshold is None else metric.threshold
    match status_of(evaluation):
        case "pass":
            return CaseOutcome()
        case "fail":
            because = f": {reason}" if reason else ""
            return CaseOutcome("failure", f"score {result.score:.3f} is below the threshold {threshold}{because}")
        case "skipped":
            return CaseOutcome("error", f"not judged: {reason}", "skipped")
    if result.score is not None:
        return CaseOutcome(
            "error", f"the result {result.result!r} contradicts the score {result.score:.3f}", "contradiction"
        )
    return (
        CaseOutcome("error", result.error.message, result.error.kind)
        if result.error
        else CaseOutcome("error", reason, "error")
    )


def _describe_metric(metric: Metric, judged: Sequence[Evaluation], default_threshold: float) -> dict[str, object]:
    """Scores are all attempts' in order; tokens and cost their sum."""
    results = [evaluation.result for evaluation in judged]
    models = dict.fromkeys(result.judge_model for result in results if result.judge_model)
    scores = [f"{result.score:g}" for result in results if result.score is not None]
    return {
        "score": " ".join(scores) or None,
        "threshold": default_threshold if metric.threshold is None else metric.threshold,
        "gating": metric.gating,
        "judge_model": " ".join(models) or None,
        **_describe_usage(sum_usage(result.usage for result in results)),
    }


def _describe_usage(usage: Usage) -> dict[str, object]:
    return {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens, "cost_usd": usage.cost_usd}


def _describe_passes(outcomes: Iterable[CaseOutcome]) -> dict[str, object]:
    ends = list(outcomes)
    return {"passed_attempts": f"{sum(not one.tag for one in ends)}/{len(ends)}"} if len(ends) > 1 else {}


def _build_case(suite: Suite, name: str, steps: Sequence[EvaluatedStep] = ()) -> ET.Element:
    latencies = [step.latency_ms for step in steps if step.latency_ms is not None]
    seconds = f"{math.fsum(latencies) / 1000:.3f}" if latencies else "0"
    return ET.Element("testcase", classname=suite.name, name=printable(name), time=seconds)


def _add_outcome(
    case: ET.Element, outcomes: Sequence[CaseOutcome], *, apart: bool = False, informs: bool = False
) -> None:
    """Add the element that says how the case ended, if it did not pass."""
    worst = min(outcomes, key=lambda one: WORST_FIRST.index(one.tag))
    if not worst.tag:
        return
    message = worst.message
    if len(outcomes) > 1:
        message = f"passed {sum(not one.tag for one in outcomes)} of {len(outcomes)} attempts: {message}"
    if apart or informs:
        why = "in quarantine" if apart else "informs only"
        worst = CaseOutcome("skipped", f"{why}: {worst.tag}: {message}")
        message = worst.message
    attributes = {"message": printable(message, MESSAGE_LENGTH)}
    ET.SubElement(case, worst.tag, attributes | ({"type": printable(worst.kind)} if worst.kind else {}))


def _add_properties(parent: ET.Element, values: Mapping[str, object]) -> None:
    present = {name: value for name, value in values.items() if value is not None}
    if present:
        holder = ET.SubElement(parent, "properties")
        for name, value in present.items():
            ET.SubElement(holder, "property", name=name, value=printable(str(value)))


def _set_counts(element: ET.Element, cases: Iterable[ET.Element]) -> None:
    found = list(cases)
    element.set("tests", str(len(found)))
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        element.set(attribute, str(sum(case.find(tag) is not None for case in found)))
