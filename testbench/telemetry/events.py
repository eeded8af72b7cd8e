"""An evaluated experiment as log events `gen_ai.evaluation.result`, each below the span of the step that it judges.

Follows OpenTelemetry's convention for evaluation events: the score and its label where there is one, else `error.type`
with what kept the metric from a score. A reason is the judge's text, so it is content. Pure; sent by
`testbench.telemetry.publication`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, set_span_in_context

from testbench.results.summary import PlacedEvaluation
from testbench.schema.models import Failure
from testbench.telemetry import attributes as names
from testbench.telemetry.attributes import attribute_text
from testbench.telemetry.points import WHOLE_SCENARIO, Execution, ScoredSample

TRACE_ID: Final = re.compile(r"[0-9a-f]{32}")
SPAN_ID: Final = re.compile(r"[0-9a-f]{16}")
SKIPPED: Final = "skipped"
"""`error.type` of an evaluation that was not made."""


def evaluation_events(
    found: Iterable[ScoredSample], execution: Execution, time_ns: int, *, content: bool
) -> Iterator[LogRecord]:
    """Yield one event for every evaluation, whatever became of it; ids are 0 where the file has none."""
    for sample in found:
        where = sample.evaluated
        yield LogRecord(
            timestamp=time_ns,
            observed_timestamp=time_ns,
            context=_place(where.scenario.trace_id, where.step.span_id if where.step else None),
            severity_number=SeverityNumber.WARN if sample.score is None else SeverityNumber.INFO,
            severity_text="WARN" if sample.score is None else "INFO",
            event_name=names.EVALUATION_EVENT,
            body=_sentence(sample),
            attributes=_attributes(sample, execution) | _verdict(sample) | (_explanation(where) if content else {}),
        )


def _attributes(sample: ScoredSample, execution: Execution) -> dict[str, str | int | float]:
    where = sample.evaluated
    return {
        names.EVALUATION_NAME: sample.name,
        names.WORKFLOW_NAME: attribute_text(execution.workflow_name),
        names.EXECUTION_ID: attribute_text(execution.execution_id),
        names.EXECUTION_NUMBER: execution.execution_number,
        names.SAMPLE_HASH: sample.hash,
        names.SCENARIO: attribute_text(where.scenario.name),
        names.STEP: WHOLE_SCENARIO if where.position is None else where.position + 1,
    }


def _verdict(sample: ScoredSample) -> dict[str, str | float]:
    if sample.score is not None:
        return {names.EVALUATION_SCORE: float(sample.score), names.EVALUATION_LABEL: sample.evaluated.status}
    if sample.evaluated.status == "skipped":
        return {names.ERROR_TYPE: SKIPPED}
    failure = _failure(sample.evaluated)
    return {names.ERROR_TYPE: attribute_text(failure.kind) if failure else "error"}


def _explanation(where: PlacedEvaluation) -> dict[str, str]:
    result, failure = where.evaluation.result, _failure(where)
    text = failure.message if where.status == "error" and failure else result.reason
    return {names.EVALUATION_EXPLANATION: attribute_text(text)} if text else {}


def _failure(where: PlacedEvaluation) -> Failure | None:
    """What went wrong: with the agent's step first, for then there was nothing to judge."""
    return (where.step.error if where.step else None) or where.evaluation.result.error


def _sentence(sample: ScoredSample) -> str:
    score = "" if sample.score is None else f" {sample.score:.4g}"
    return f"{sample.name}: {sample.evaluated.status}{score}"


def _place(trace_id: str | None, span_id: str | None) -> Context:
    """Return the context below the span that was judged; for a whole scenario it has a trace and no span."""
    judged = SpanContext(_number(TRACE_ID, trace_id), _number(SPAN_ID, span_id), is_remote=True)
    return set_span_in_context(NonRecordingSpan(judged), Context())


def _number(shape: re.Pattern[str], text: str | None) -> int:
    return int(text, 16) if text and shape.fullmatch(text) else 0
