"""What a verdict counts, and how much: quarantine, weights, tags, thresholds, coverage; files that are not right."""

from __future__ import annotations

from copy import deepcopy

import pytest

from testbench.errors import InputError
from testbench.gating.decision import reach_verdict
from testbench.results.checks import collect_checks
from testbench.results.selection import apply_policy, check_policy_matches
from testbench.results.summary import summarize
from testbench.results.verdict import CheckCounts, Policy
from testbench.schema.models import EvaluatedExperiment
from tests.support.gate_samples import (
    METRIC,
    attempts,
    quarantined,
    recorded,
    run_of,
    scenario,
    scored,
    step,
    verdict_on,
)


def test_what_is_in_quarantine_is_told_and_never_counted() -> None:
    for result in ("fail", "error", "skipped", "pass"):
        reached = verdict_on([scenario("a", "pass"), quarantined(scenario("known", result))])
        assert (reached.verdict, reached.checks.total) == ("pass", 1)
        assert reached.quarantined.total == 1
        assert reached.reasons == (f"quarantine: 1 not counted, of which {int(result == 'pass')} passed",)


def test_a_run_of_nothing_but_quarantine_is_no_pass() -> None:
    assert verdict_on([quarantined(scenario("a", "pass"))]).verdict == "nothing"


def test_quarantine_is_part_of_no_mean() -> None:
    summary = summarize(run_of(scored("a", 1.0), quarantined(scored("known", 0.0))))
    (metric,) = summary.metrics
    assert (metric.mean, metric.counts.total) == (1.0, 1)
    assert (summary.steps.total, summary.quarantined.failed, summary.evaluations.total) == (1, 1, 2)


def test_a_conversation_counts_while_one_of_its_steps_does() -> None:
    whole = {"metric": {"metric_name": "AgentGoalAccuracy"}, "result": {"result": "fail", "score": 0.1}}
    made = scenario("a", "pass", "pass", metrics=[whole["metric"]], evaluations=[whole])
    made["steps"][0]["quarantine"] = True
    assert verdict_on([made]).verdict == "fail"
    assert verdict_on([quarantined(made), scenario("b", "pass")]).verdict == "pass"


def test_a_scenario_counts_by_its_weight() -> None:
    scenarios = [scenario("important", "pass", weight=9), scenario("minor", "fail")]
    reached = verdict_on(scenarios, min_pass_rate=0.9)
    assert (reached.verdict, reached.pass_rate) == ("pass", 0.9)
    assert reached.sentence == "PASS: 1 of 2 steps, 90% by weight, passed (90% required)."
    assert verdict_on(scenarios, min_pass_rate=0.91).verdict == "fail"


def test_weights_are_the_decimal_numbers_that_they_are_written_as() -> None:
    scenarios = [scenario(f"s{number}", "fail" if number == 0 else "pass", weight=0.1) for number in range(10)]
    assert verdict_on(scenarios, min_pass_rate=0.9).verdict == "pass"


def test_errors_are_budgeted_by_number_and_cannot_hide_behind_a_small_weight() -> None:
    scenarios = [scenario("heavy", "pass", weight=100), scenario("light", "error", "error", weight=0.01)]
    assert verdict_on(scenarios, min_pass_rate=0.5, max_error_rate=0.5).verdict == "error"


def test_every_tag_has_its_verdict_and_none_decides_over_the_run() -> None:
    reached = verdict_on(
        [scenario("a", "pass", "pass", tags=["smoke", "billing"]), scenario("b", "fail", tags=["billing"])],
        min_pass_rate=0.6,
    )
    assert reached.verdict == "pass"
    assert [(tag.tag, tag.verdict, tag.checks.total) for tag in reached.tags] == [
        ("billing", "pass", 3),
        ("smoke", "pass", 2),
    ]
    strict = verdict_on([scenario("a", "pass", tags=["smoke"]), scenario("b", "fail", tags=["billing"])])
    assert [(tag.tag, tag.verdict) for tag in strict.tags] == [("billing", "fail"), ("smoke", "pass")]


def test_only_a_tag_restricts_what_is_judged() -> None:
    scenarios = [scenario("a", "pass", tags=["smoke"]), scenario("b", "fail"), scenario("c", "pass", tags=["x"])]
    assert verdict_on(scenarios, only=("smoke",)).verdict == "pass"
    assert verdict_on(scenarios, only=("smoke", "x")).checks.total == 2
    assert verdict_on(scenarios, only=("nobody",)).verdict == "nothing"


@pytest.mark.parametrize(
    ("policy", "message", "hint"),
    [
        (Policy(only=("smoke", "smok")), "--only 'smok'", "smoke"),
        (Policy(thresholds={"builtin.exact": 0.5}), "--threshold builtin.exact", METRIC),
    ],
)
def test_a_misspelt_tag_or_metric_lets_nothing_through(policy: Policy, message: str, hint: str) -> None:
    with pytest.raises(InputError, match=message) as found:
        check_policy_matches(run_of(scenario("a", "pass", tags=["smoke"])), policy)
    assert hint in found.value.hint


def test_an_empty_run_is_told_by_the_verdict_and_not_by_its_tags() -> None:
    check_policy_matches(EvaluatedExperiment(scenarios=()), Policy(only=("smoke",), thresholds={"x": 1}))


def test_a_stored_score_is_judged_by_another_threshold() -> None:
    scenarios = [scored("a", 0.6, 0.8, threshold=0.5)]
    assert verdict_on(scenarios).checks == CheckCounts(passed=2, failed=0, errors=0)
    assert verdict_on(scenarios, thresholds={METRIC: 0.7}).checks == CheckCounts(passed=1, failed=1, errors=0)
    assert verdict_on(scenarios, thresholds={METRIC.upper(): 0.9}).checks == CheckCounts(passed=0, failed=2, errors=0)
    assert verdict_on([scenario("a", "error")], thresholds={METRIC: 0.0}).verdict == "error", "no score, no verdict"


def test_a_name_without_framework_is_one_of_the_default_framework() -> None:
    made = scored("a", 0.6)
    metric = {"metric_name": "ragas.Faithfulness", "threshold": 0.5}
    made["steps"][0] |= {
        "metrics": [metric],
        "evaluations": [{"metric": metric, "result": {"score": 0.6, "result": "pass"}}],
    }
    assert verdict_on([made], thresholds={"faithfulness": 0.7}).verdict == "fail"


def test_judging_anew_twice_is_judging_anew_once() -> None:
    policy = Policy(thresholds={METRIC: 0.7}, only=("t",))
    once = apply_policy(run_of(scored("a", 0.6, 0.8, tags=["t"]), scored("b", 0.1)), policy)
    assert apply_policy(once, policy) == once


def test_the_required_coverage_is_of_all_steps() -> None:
    scenarios = [
        scenario("a", "pass", "pass", "pass"),
        {"name": "b", "id": "scn_b", "steps": [step() | {"id": "stp_b"}]},
    ]
    reached = verdict_on(scenarios)
    assert (reached.verdict, reached.coverage.judged, reached.coverage.of) == ("pass", 3, 4)
    assert "not gated: 1 of 4 have no metric that gates" in reached.reasons
    assert verdict_on(scenarios, min_coverage=0.75).verdict == "pass"
    strict = verdict_on(scenarios, min_coverage=0.8)
    assert strict.sentence == "NO VERDICT: 3 of 4 were judged (80% required)."


def test_a_metric_that_judged_twice_does_not_stand_in_for_one_that_did_not() -> None:
    made = scenario("a", "pass")
    made["steps"][0]["metrics"].append({"metric_name": "builtin.contains", "threshold": 0.9})
    made["steps"][0]["evaluations"] *= 2
    reached = verdict_on([made])
    assert reached.verdict == "error"
    assert "builtin.contains: 1 without any result in the file" in reached.reasons


def test_a_pass_below_its_threshold_is_no_pass() -> None:
    made = scenario("a", "pass")
    made["steps"][0]["evaluations"][0]["result"]["score"] = 0.2
    reached = verdict_on([made])
    assert reached.verdict == "error"
    assert reached.reasons == (f"{METRIC}: 1 error (result and score contradict each other)",)


def test_a_scenario_that_the_file_holds_twice_is_not_counted_twice() -> None:
    reached = verdict_on([scenario("a", "pass"), scenario("a", "pass"), scenario("b", "pass")])
    assert reached.verdict == "error"
    assert "file: 1 scenarios occur more than once" in reached.reasons


def test_without_ids_nothing_says_that_two_scenarios_are_the_same() -> None:
    bare = scenario("a", "pass") | {"id": ""}
    bare["steps"][0]["id"] = ""
    assert verdict_on([bare, deepcopy(bare)]).checks.passed == 2


def test_a_repetition_that_is_missing_is_an_error() -> None:
    reached = verdict_on([*attempts("a", "pass", "pass", "pass"), *attempts("b", "pass", "pass")])
    assert (reached.verdict, reached.checks.errors) == ("error", 1)
    assert "file: 1 of 2 scenarios have fewer than 3 repetitions" in reached.reasons


def test_a_repetition_that_no_scenario_has_is_an_error() -> None:
    asked = recorded() | {"run": recorded()["run"] | {"repeats": 3}}
    run = run_of(*attempts("a", "pass", "pass"), *attempts("b", "pass", "pass"), **asked)
    assert reach_verdict(run, Policy()).verdict == "error"


def test_what_is_not_quite_all_never_reads_as_all() -> None:
    heavy, light = scenario("heavy", "pass", weight=1e300), scenario("light", "fail")
    assert verdict_on([heavy, light]).sentence == "FAIL: 1 of 2 steps, >99.9% by weight, passed (100% required)."


@pytest.mark.parametrize("weight", [1e308, 1e-308, 5e-324])
def test_weights_of_any_size_count_by_their_ratio(weight: float) -> None:
    alike = [scenario(f"s{number}", "fail" if number else "pass", "pass", weight=weight) for number in range(4)]
    light = [one | {"weight": 1.0} for one in alike]
    assert verdict_on(alike).interval == verdict_on(light).interval


def test_where_nothing_was_judged_no_policy_makes_a_pass() -> None:
    assert verdict_on([scenario("a", "error")], min_pass_rate=0.0, max_error_rate=1.0).verdict == "error"


def test_a_conversation_that_is_missing_with_one_of_several_systems_is_an_error() -> None:
    both = attempts("a", "pass", "pass", provider="gpt")
    assert verdict_on([both[1], scenario("a", "pass", provider="claude")]).verdict == "error"
    assert verdict_on([*both, scenario("a", "pass", provider="claude")]).verdict == "pass"


def test_the_lowest_score_counts_where_a_metric_judges_a_step_twice() -> None:
    made = scored("a", 0.9)
    evaluation = made["steps"][0]["evaluations"][0]
    made["steps"][0]["evaluations"] = [evaluation, evaluation | {"result": {"result": "pass", "score": 0.6}}]
    (check,) = collect_checks(run_of(made))
    assert check.scores == {METRIC: 0.6}


def test_a_score_at_the_new_threshold_passes() -> None:
    assert verdict_on([scored("a", 0.6)], thresholds={METRIC: 0.6}).verdict == "pass"


def test_of_two_thresholds_for_one_metric_the_stricter_one_counts() -> None:
    assert verdict_on([scored("a", 0.6)], thresholds={METRIC: 0.5, METRIC.upper(): 0.7}).verdict == "fail"


def test_a_threshold_is_also_that_of_a_whole_conversation() -> None:
    metric = {"metric_name": "AgentGoalAccuracy", "threshold": 0.5}
    whole = {"metrics": [metric], "evaluations": [{"metric": metric, "result": {"result": "pass", "score": 0.6}}]}
    strict = Policy(thresholds={"AgentGoalAccuracy": 0.7})
    run = run_of(scenario("a", "pass", **whole))
    assert reach_verdict(run, strict).checks == CheckCounts(passed=1, failed=1, errors=0)
    assert [dict(check.metrics) for check in collect_checks(apply_policy(run, strict))][1] == {
        "AgentGoalAccuracy": "threshold 0.7"
    }


def test_an_attempt_without_the_metric_that_gates_the_others_is_an_error() -> None:
    made = attempts("a", "pass", "pass")
    made[1]["steps"][0] |= {"metrics": [], "evaluations": []}
    assert verdict_on(made).verdict == "error"


def test_a_cached_score_counts_like_any_other() -> None:
    made = scenario("a", "fail")
    made["steps"][0]["evaluations"][0]["result"]["cached"] = True
    assert verdict_on([made]).verdict == "fail"


@pytest.mark.parametrize(("shard", "verdict"), [("2/4", "error"), ("1/1", "pass"), (None, "pass")])
def test_a_part_of_a_run_is_not_judged_as_the_whole(shard: str | None, verdict: str) -> None:
    run = recorded() | {"run": recorded()["run"] | {"shard": shard}}
    reached = reach_verdict(run_of(scenario("a", "pass"), **run), Policy())
    assert reached.verdict == verdict
    if shard == "2/4":
        assert reached.sentence.startswith("NO VERDICT: this is shard 2/4")
