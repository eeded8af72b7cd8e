"""The table's rows and what an opened one shows: nothing invented, nothing rounded, nothing hidden."""

from __future__ import annotations

import pytest

from testbench.errors import InputError
from testbench.report.report_rows import NO_RESULT, TraceLinks, build_details, build_rows
from testbench.schema.models import (
    EvaluatedExperiment,
    EvaluatedScenario,
    EvaluatedStep,
    Evaluation,
    Failure,
    Metric,
    Reference,
    Result,
    ToolCall,
    Turn,
)
from tests.support.report_factory import experiment

FAITHFUL = Metric(metric_name="ragas.Faithfulness", threshold=0.8)
PASSED = Evaluation(metric=FAITHFUL, result=Result(result="pass", score=0.9))
ANSWER = Turn(type="agent", content="At noon.")


def scenario(*steps: EvaluatedStep, **more: object) -> EvaluatedScenario:
    return EvaluatedScenario.model_validate({"id": "scn_1", "name": "trains", "steps": steps, **more})


def of(*scenarios: EvaluatedScenario) -> EvaluatedExperiment:
    return EvaluatedExperiment(scenarios=scenarios)


def test_every_step_is_a_row_and_a_judged_conversation_too() -> None:
    step = EvaluatedStep(id="stp_1", input="When?", turns=(ANSWER,), metrics=(FAITHFUL,), evaluations=(PASSED,))
    found = list(
        build_rows(of(scenario(step, evaluations=(PASSED,)), scenario(step.model_copy(update={"id": "stp_2"}))), None)
    )
    assert [(row.id, row.position, row.verdict) for row in found] == [
        ("stp_1", 0, "pass"),
        ("scn_1", None, "pass"),
        ("stp_2", 0, "unjudged" if not step.evaluations else "pass"),
    ]


def test_rows_of_a_file_without_ids_can_still_be_linked_to() -> None:
    step = EvaluatedStep(input="When?", turns=(ANSWER,))
    same = EvaluatedStep(id="stp_1", input="When?", turns=(ANSWER,))
    assert [row.id for row in build_rows(of(scenario(step, step, same, same)), None)] == [
        "row-1",
        "row-2",
        "stp_1",
        "row-4",
    ]


def test_a_step_that_the_agent_did_not_answer_has_errors_and_no_scores() -> None:
    failed = EvaluatedStep(
        input="When?",
        status="error",
        error=Failure(kind="timeout", message="late", attempts=3),
        metrics=(FAITHFUL,),
        evaluations=(PASSED,),
    )
    (row,) = build_rows(of(scenario(failed)), None)
    (detail,) = build_details(scenario(failed), None, TraceLinks())
    assert (row.verdict, row.cells["ragas.Faithfulness"].result, row.cells["ragas.Faithfulness"].score) == (
        "error",
        "error",
        None,
    )
    assert [("score" in shown, shown["result"]) for shown in detail["evaluations"]] == [(False, "error")]
    assert detail["error"] == {"kind": "timeout", "message": "late", "attempts": 3, "retryable": False}


def test_a_result_that_is_missing_is_shown_as_an_error() -> None:
    step = EvaluatedStep(input="When?", turns=(ANSWER,), metrics=(FAITHFUL,))
    (detail,) = build_details(scenario(step), None, TraceLinks())
    assert [(shown["result"], shown["reason"]) for shown in detail["evaluations"]] == [("error", NO_RESULT)]


def test_of_two_evaluations_by_one_metric_the_list_shows_the_worse() -> None:
    broken = Evaluation(metric=FAITHFUL, result=Result(result="error", error=Failure(kind="timeout", message="late")))
    step = EvaluatedStep(input="When?", turns=(ANSWER,), evaluations=(PASSED, broken, PASSED))
    (row,) = build_rows(of(scenario(step)), None)
    assert row.cells["ragas.Faithfulness"].result == "error"


def test_numbers_that_a_browser_would_round_stay_exact() -> None:
    call = ToolCall(name="book", args={"order": 12345678901234567890, "price": 1.10})
    step = EvaluatedStep(input="Book.", turns=(Turn(type="agent", tool_calls=(call,)), ANSWER))
    (detail,) = build_details(scenario(step), None, TraceLinks())
    assert detail["turns"][0]["calls"] == [{"name": "book", "args": '{"order":12345678901234567890,"price":1.1}'}]


def test_an_expected_empty_list_of_tool_calls_is_shown_as_such() -> None:
    asked = EvaluatedStep(input="Hi", turns=(ANSWER,), reference=Reference(tool_calls=()))
    silent = EvaluatedStep(input="Hi", turns=(ANSWER,), reference=Reference())
    shown = [detail["reference"] for detail in build_details(scenario(asked, silent), None, TraceLinks())]
    assert shown == [{"calls": []}, {}]


def test_long_questions_are_cut_in_the_list_and_whole_in_the_opened_row() -> None:
    step = EvaluatedStep(input="x" * 5000, turns=(ANSWER,))
    (row,) = build_rows(of(scenario(step)), None)
    (detail,) = build_details(scenario(step), None, TraceLinks())
    assert len(row.title) < 300
    assert len(detail["input"]) == 5000


def test_trace_links_hold_the_ids_and_nothing_else_of_them() -> None:
    step = EvaluatedStep(input="Hi", turns=(ANSWER,), span_id="beef")
    hostile = scenario(step, trace_id="a/../b?x=1#y javascript:")
    (detail,) = build_details(
        hostile, None, TraceLinks.from_template("https://t.example/trace/{trace_id}?span={span_id}")
    )
    assert detail["trace_url"] == "https://t.example/trace/a%2F..%2Fb%3Fx%3D1%23y%20javascript%3A?span=beef"


def test_without_a_trace_there_is_no_link() -> None:
    step = EvaluatedStep(input="Hi", turns=(ANSWER,))
    (detail,) = build_details(scenario(step), None, TraceLinks.from_template("https://t.example/{trace_id}"))
    assert "trace_url" not in detail


@pytest.mark.parametrize(
    "template", ["javascript:alert('{trace_id}')", "https://t.example/", "t.example/{trace_id}", ""]
)
def test_a_template_that_is_no_link_to_a_trace_is_refused(template: str) -> None:
    with pytest.raises(InputError, match="--trace-url"):
        TraceLinks.from_template(template)


def test_rows_and_details_go_together() -> None:
    made = experiment(40)
    shown = [detail for scenario in made.scenarios for detail in build_details(scenario, None, TraceLinks())]
    found = list(build_rows(made, None))
    assert len(shown) == len(found)
    assert all(
        row.position is None or detail["input"].startswith(row.title[:200])
        for row, detail in zip(found, shown, strict=True)
    )
