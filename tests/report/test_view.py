"""The view model: the gate's verdict in its own words, and numbers that leave nothing out."""

from __future__ import annotations

from testbench.gating.decision import reach_verdict
from testbench.report.render import Packer, build_index, pack_index, unpack
from testbench.report.report_rows import TraceLinks, build_details
from testbench.report.view import Labels, ReportView, build_view
from testbench.results.verdict import Policy
from testbench.schema.models import EvaluatedExperiment
from tests.support.report_factory import experiment

LABELS = Labels("travel-desk", "exec-7", 42)


def view_of(made: EvaluatedExperiment) -> ReportView:
    return build_view(made, reach_verdict(made, Policy()), LABELS)


def test_the_verdict_is_handed_through() -> None:
    made = experiment(40)
    verdict = reach_verdict(made, Policy(min_pass_rate=0.2, max_error_rate=0.9))
    assert build_view(made, verdict, LABELS).verdict is verdict


def test_cards_count_what_the_gate_counts() -> None:
    made = experiment(80)
    view = view_of(made)
    outcomes = view.cards.outcomes
    checks = view.verdict.checks
    assert (outcomes.passed, outcomes.failed, outcomes.errors) == (checks.passed, checks.failed, checks.errors)
    assert (view.cards.steps, view.cards.scenarios, view.cards.metrics) == (80, len(made.scenarios), 5)
    assert outcomes.total == len(view.rows) == 80 + view.cards.conversations


def test_what_nobody_reported_is_absent_and_not_zero() -> None:
    cards = view_of(experiment(10)).cards
    assert cards.agent_usage.cost_usd is None
    assert cards.judge_usage.cost_usd is not None


def test_an_empty_experiment_has_a_view() -> None:
    view = view_of(EvaluatedExperiment(scenarios=()))
    assert view.verdict.verdict == "nothing"
    assert (view.cards.steps, view.cards.latency_median, view.rows, view.metrics) == (0, None, (), ())


def test_latencies_are_of_answered_steps_only() -> None:
    made = experiment(200)
    answered = [step.latency_ms for scenario in made.scenarios for step in scenario.steps if step.status == "ok"]
    assert view_of(made).cards.latency_p95 in answered


def test_the_index_has_one_entry_per_row_in_every_column() -> None:
    view = view_of(experiment(50))
    found = build_index(view)
    columns = [
        found[name] for name in ("ids", "scenario", "position", "title", "verdict", "latency", "change", "delta")
    ]
    columns += [metric[name] for metric in found["metrics"] for name in ("results", "scores")]
    assert {len(column) for column in columns} == {len(view.rows)}
    assert len(set(found["ids"])) == len(view.rows)


def test_no_score_is_null_in_the_index_and_never_zero() -> None:
    for metric in build_index(view_of(experiment(200)))["metrics"]:
        for result, score in zip(metric["results"], metric["scores"], strict=True):
            assert (score is None) == (result in "es-")


def test_packed_data_unpacks_to_the_same() -> None:
    made = experiment(450)
    view, packer = view_of(made), Packer()
    added = [detail for scenario in made.scenarios for detail in build_details(scenario, None, TraceLinks())]
    for detail in added:
        packer.add(detail)
    pieces = packer.pieces()
    unpacked = [row for piece in pieces for row in unpack(piece)]
    assert [len(unpack(piece)) for piece in pieces[:-1]] == [200] * (len(pieces) - 1)
    assert len(unpacked) == len(view.rows)
    assert [row["evaluations"] for row in unpacked] == [row["evaluations"] for row in added]
    assert unpack(pack_index(view))["ids"] == [row.id for row in view.rows]
