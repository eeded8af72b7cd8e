"""The verdict: what is a pass, what is a fail, and that nothing that went wrong can look like either."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbench.gating.decision import reach_verdict
from testbench.results.verdict import Policy, Verdict
from tests.support.gate_samples import ORDER, RESULTS, experiment, step


def verdict(*steps: dict[str, Any], min_pass_rate: float = 1.0, max_error_rate: float = 0.0) -> Verdict:
    return reach_verdict(experiment(*steps), Policy(min_pass_rate=min_pass_rate, max_error_rate=max_error_rate))


@pytest.mark.parametrize(
    ("steps", "word", "exit_code"),
    [
        ([step("pass"), step("pass", "pass")], "pass", 0),
        ([step("pass"), step("pass", "fail")], "fail", 1),
        ([], "nothing", 4),
        ([step()], "nothing", 4),
        ([step("pass", gating=False)], "nothing", 4),
        ([step("error")], "error", 3),
        ([step("skipped")], "error", 3),
        ([step("pass"), step("error")], "error", 3),
        ([step("fail"), step("error")], "error", 3),
        ([step("pass"), step(status="error")], "error", 3),
        ([step("pass"), step(status="skipped")], "error", 3),
    ],
)
def test_the_word_and_the_exit_code(steps: list[dict[str, Any]], word: str, exit_code: int) -> None:
    reached = verdict(*steps)
    assert (reached.verdict, reached.exit_code) == (word, exit_code)


def test_a_metric_that_only_informs_fails_nothing() -> None:
    assert (
        verdict(step("pass"), step("pass") | {"evaluations": step("fail", gating=False)["evaluations"]}).verdict
        == "error"
    )
    informed = step("pass")
    informed["evaluations"] += step("fail", gating=False)["evaluations"]
    assert verdict(informed).verdict == "pass"


def test_a_score_that_is_missing_from_the_file_is_no_pass() -> None:
    lost = step("pass", "fail")
    lost["evaluations"].pop()
    assert verdict(lost).verdict == "error"


def test_a_whole_conversation_is_a_check_of_its_own() -> None:
    reached = reach_verdict(experiment(step("pass"), scenario_results=("fail",)), Policy())
    assert (reached.verdict, reached.checks.total) == ("fail", 2)
    assert "1 of 2 steps and conversations passed" in reached.sentence


def test_the_pass_rate_decides_where_less_than_all_is_required() -> None:
    three_of_four = [step("pass")] * 3 + [step("fail")]
    assert verdict(*three_of_four, min_pass_rate=0.75).verdict == "pass"
    assert verdict(*three_of_four, min_pass_rate=0.76).verdict == "fail"


def test_what_the_error_budget_allows_has_still_not_passed() -> None:
    steps = [step("pass")] * 8 + [step("fail"), step("error")]
    assert verdict(*steps, min_pass_rate=0.8, max_error_rate=0.1).verdict == "pass"
    assert verdict(*steps, min_pass_rate=0.8, max_error_rate=0.09).verdict == "error"
    assert verdict(*steps, min_pass_rate=0.9, max_error_rate=0.1).verdict == "error", "it depends on what is unknown"
    assert verdict(*steps, min_pass_rate=0.95, max_error_rate=0.1).verdict == "fail", "it fails either way"


def test_the_sentence_says_what_the_exit_code_says() -> None:
    assert verdict(step("pass")).sentence == "PASS: 1 of 1 steps passed (100% required)."
    assert verdict(step("fail")).sentence == "FAIL: 0 of 1 steps passed (100% required)."
    assert verdict(step("error")).sentence == "NO VERDICT: 1 of 1 steps could not be judged."
    assert verdict().sentence.startswith("NO VERDICT: there is nothing to judge")


def test_the_reasons_name_metric_and_kind() -> None:
    reached = verdict(step("fail"), step("error"), step(status="error"), step(status="skipped"))
    assert reached.reasons == (
        "builtin.exact_match: 1 of 2 below the threshold",
        "agent: 1 of 4 steps: timeout",
        "agent: 1 of 4 steps skipped after an earlier one failed",
        "builtin.exact_match: 1 error (timeout)",
    )


results = st.lists(st.sampled_from(sorted(RESULTS)), min_size=1, max_size=3)
rates = st.sampled_from([0.0, 0.25, 0.5, 0.75, 0.9, 1.0])


@given(st.lists(results, min_size=1, max_size=6), rates, rates, st.data())
def test_a_worse_result_never_makes_a_better_verdict(
    steps: list[list[str]], min_pass_rate: float, max_error_rate: float, data: st.DataObject
) -> None:
    before = verdict(*(step(*each) for each in steps), min_pass_rate=min_pass_rate, max_error_rate=max_error_rate)
    worse = [list(each) for each in steps]
    place = data.draw(st.integers(0, len(steps) - 1))
    position = data.draw(st.integers(0, len(steps[place]) - 1))
    worse[place][position] = data.draw(st.sampled_from(["fail", "error", "skipped"]))
    if steps[place][position] != "pass" and worse[place][position] == "fail":
        worse[place][position] = "error"
    after = verdict(*(step(*each) for each in worse), min_pass_rate=min_pass_rate, max_error_rate=max_error_rate)
    assert ORDER[after.verdict] <= ORDER[before.verdict]


@given(st.lists(results, min_size=1, max_size=6), rates, rates, st.randoms())
def test_the_order_of_steps_changes_nothing(
    steps: list[list[str]], min_pass_rate: float, max_error_rate: float, random: Any
) -> None:
    shuffled = list(steps)
    random.shuffle(shuffled)
    policy = {"min_pass_rate": min_pass_rate, "max_error_rate": max_error_rate}
    assert verdict(*(step(*each) for each in steps), **policy) == verdict(*(step(*each) for each in shuffled), **policy)
