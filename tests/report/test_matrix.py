"""The report's matrix: which system did how well in which scenario."""

from __future__ import annotations

import pytest

from testbench.arena.plan.model import Item
from testbench.gating.decision import reach_verdict
from testbench.report.matrix import MOST_ROWS, Matrix, MatrixCell, build_matrix
from testbench.report.render import render_report
from testbench.report.view import Labels, build_view
from testbench.results.verdict import Policy
from testbench.schema.models import EvaluatedExperiment, Evaluation, Metric, Result
from tests.support import report_factory
from tests.support.arena_samples import evaluated, plan_of, scenario

PLAN = plan_of([scenario("greets"), scenario("leaves", "one", "two")], repetitions=2)


def experiment(scores: dict[str, float | None]) -> EvaluatedExperiment:
    """Every item with the score of its system, or of `system scenario`."""

    def score(item: Item) -> float | None:
        return scores.get(f"{item.system.name} {item.scenario_name}", scores[item.system.name])

    return EvaluatedExperiment(id="exp_1", scenarios=tuple(evaluated(PLAN, item, score(item)) for item in PLAN.items))


def matrix(scores: dict[str, float | None]) -> Matrix:
    found = build_matrix(experiment(scores))
    assert found is not None
    return found


def test_each_cell_counts_the_conversations_of_a_system_in_a_scenario() -> None:
    found = matrix({"gpt": 1.0, "gpt leaves": 0.25, "claude": 1.0})
    assert [total.provider for total in found.totals] == ["gpt", "claude"]
    assert {row.scenario: row.cells for row in found.rows} == {
        "greets": (MatrixCell("pass", 2, 2, 1.0), MatrixCell("pass", 2, 2, 1.0)),
        "leaves": (MatrixCell("fail", 0, 2, 0.25), MatrixCell("pass", 2, 2, 1.0)),
    }
    assert [(total.cell.passed, total.cell.of) for total in found.totals] == [(2, 4), (4, 4)]
    assert found.totals[0].latency_median == 120.0
    assert found.totals[0].cost_usd == pytest.approx(0.06)


def test_an_outage_is_an_error_without_a_score() -> None:
    found = matrix({"gpt": None, "claude": 1.0})
    assert {row.cells[0] for row in found.rows} == {MatrixCell("error", 0, 2, None)}
    assert found.totals[0].cell == MatrixCell("error", 0, 4, None)
    assert found.totals[0].latency_median is None


def test_what_is_in_quarantine_is_in_no_cell() -> None:
    of = experiment({"gpt": 1.0, "claude": 1.0})
    metric = Metric(metric_name="builtin.contains", threshold=0.5)
    failed = Evaluation(metric=metric, result=Result(result="fail", score=0.0))
    scenarios = tuple(
        one.model_copy(
            update={
                "steps": tuple(step.model_copy(update={"quarantine": True}) for step in one.steps),
                "evaluations": (failed,),
            }
        )
        for one in of.scenarios
    )
    found = build_matrix(of.model_copy(update={"scenarios": scenarios}))
    assert found is not None
    assert {cell for row in found.rows for cell in row.cells} == {MatrixCell("unjudged", 0, 2, None)}


def test_a_run_with_one_nameless_system_has_no_matrix() -> None:
    assert build_matrix(report_factory.experiment(6)) is None


def test_of_many_scenarios_those_that_did_not_pass_are_shown() -> None:
    plan = plan_of([scenario(f"s{number}") for number in range(MOST_ROWS + 5)], names=("gpt",))
    scenarios = tuple(evaluated(plan, item, 0.0 if item.position >= MOST_ROWS else 1.0) for item in plan.items)
    found = build_matrix(EvaluatedExperiment(id="exp_1", scenarios=scenarios))
    assert found is not None
    assert (len(found.rows), found.left_out) == (MOST_ROWS, 5)
    assert [row.scenario for row in found.rows[:5]] == [f"s{MOST_ROWS + number}" for number in range(5)]


def html(of: EvaluatedExperiment) -> str:
    return render_report(of, reach_verdict(of, Policy()), Labels("w", "e", 1)).decode()


def test_the_page_shows_it_and_counts_each_scenario_once() -> None:
    of = experiment({"gpt": 1.0, "gpt leaves": 0.25, "claude": None})
    shown = html(of)
    assert shown.count('<td class="matrix__cell') == 6
    assert "<strong>0</strong> of 2 · failed" in shown
    assert "<strong>0</strong> of 2 · error" in shown
    assert build_view(of, reach_verdict(of, Policy()), Labels("w", "e", 1)).cards.scenarios == 2
    assert "matrix-title" not in html(report_factory.experiment(6))


def test_a_system_with_a_hostile_name_is_text() -> None:
    of = experiment({"gpt": 1.0, "claude": 1.0})
    evil = "<img src=x onerror=alert(1)>"
    scenarios = tuple(one.model_copy(update={"provider": evil}) for one in of.scenarios)
    assert evil not in html(of.model_copy(update={"scenarios": scenarios}))
