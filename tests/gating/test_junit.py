"""JUnit XML that test systems read: stable names, the right element for each end, well-formed whatever was said."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

import pytest

from testbench.gating.decision import reach_verdict
from testbench.gating.junit import render_junit
from testbench.results.verdict import Policy
from testbench.schema.models import EvaluatedExperiment
from tests.support.gate_samples import (
    attempts,
    experiment,
    quarantined,
    recorded,
    run_of,
    scenario,
    step,
    verdict_against,
)


def document(run: EvaluatedExperiment, name: str = "weather") -> bytes:
    return render_junit(run, reach_verdict(run, Policy()), name)


def cases(*steps: dict[str, Any], **options: Any) -> list[ET.Element]:
    return list(ET.fromstring(document(experiment(*steps, **options))).iter("testcase"))


def ends(*steps: dict[str, Any]) -> list[str]:
    """Of every case the element that says how it ended, or `passed`."""
    known = ("failure", "error", "skipped")
    return [next((tag for tag in known if case.find(tag) is not None), "passed") for case in cases(*steps)]


def test_every_end_has_its_element() -> None:
    assert ends(step("pass")) == ["passed", "passed"]
    assert ends(step("fail")) == ["passed", "failure"]
    assert ends(step("error")) == ["passed", "error"]
    assert ends(step("skipped")) == ["passed", "error"], "a gating metric that judged nothing is no skipped test"
    assert ends(step("pass"), step("fail", gating=False))[2:] == ["passed", "skipped"]
    assert ends(step(status="error")) == ["error"]


def test_a_failure_says_score_threshold_and_reason() -> None:
    failed = step("fail")
    failed["evaluations"][0]["result"] = {"result": "fail", "score": 0.25, "reason": "1 of 4 words"}
    failure = cases(failed)[1].find("failure")
    assert failure is not None
    assert failure.get("message") == "score 0.250 is below the threshold 0.9: 1 of 4 words"


def test_names_are_made_of_content() -> None:
    names = [case.get("name") for case in cases(step("pass"), scenario_results=("pass",))]
    assert names == [
        "answered: hi [stp_1]",
        "builtin.exact_match: hi [stp_1]",
        "AgentGoalAccuracy: whole conversation [scn_1]",
    ]


def test_counts_are_those_of_the_cases() -> None:
    root = ET.fromstring(document(experiment(step("pass"), step("fail"), step("error"))))
    counts = {"tests": "6", "failures": "1", "errors": "1", "skipped": "0"}
    assert {key: root.attrib[key] for key in counts} == counts
    assert {key: root[0].attrib[key] for key in counts} == counts


def test_it_is_well_formed_whatever_the_agent_said() -> None:
    hostile = step("error") | {"input": "\x00\x1b[31m</testcase>& ]]> \u202e"}
    hostile["evaluations"][0]["result"]["error"] = {"kind": "<k>", "message": "\x07 \ufffe <b>"}
    written = document(experiment(hostile), "a\x00b")
    assert b"\x00" not in written
    assert b"\x1b" not in written
    assert len(list(ET.fromstring(written).iter("testcase"))) == 2


def suites(*scenarios: dict[str, Any]) -> ET.Element:
    return ET.fromstring(document(run_of(*scenarios)))


def case_of(root: ET.Element, name: str) -> ET.Element:
    (found,) = (case for case in root.iter("testcase") if str(case.get("name")).startswith(name))
    return found


def properties(element: ET.Element) -> dict[str | None, str | None]:
    return {one.get("name"): one.get("value") for one in element.iterfind("properties/property")}


def message(case: ET.Element) -> str | None:
    return case[-1].get("message")


def test_repetitions_are_one_case_that_passes_only_if_all_of_them_did() -> None:
    root = suites(*attempts("a", "pass", "fail", "pass"), *attempts("b", "pass", "pass", "pass"))
    assert len(root) == 2
    flaky, steady = case_of(root[0], "builtin.exact_match"), case_of(root[1], "builtin.exact_match")
    assert flaky.find("failure") is not None
    assert message(flaky) == "passed 2 of 3 attempts: score 0.200 is below the threshold 0.9"
    assert properties(flaky)["passed_attempts"] == "2/3"
    assert properties(flaky)["score"] == "1 0.2 1"
    assert properties(steady)["passed_attempts"] == "3/3"
    assert [child.tag for child in steady] == ["properties"]


def test_names_are_the_same_with_and_without_repetitions() -> None:
    once, thrice = suites(scenario("a", "pass")), suites(*attempts("a", "fail", "error", "pass"))
    assert [case.get("name") for case in once.iter("testcase")] == [
        case.get("name") for case in thrice.iter("testcase")
    ]


def test_a_repetition_that_the_file_does_not_hold_is_an_error() -> None:
    root = suites(*attempts("a", "pass", "pass"), *attempts("b", "pass"))
    assert case_of(root[1], "builtin.exact_match").find("error") is not None


def test_a_metric_without_result_has_its_case_all_the_same() -> None:
    lost = scenario("a", "pass")
    lost["steps"][0]["evaluations"] = []
    root = suites(lost)
    case = case_of(root, "builtin.exact_match")
    assert case.find("error") is not None
    assert message(case) == "the file holds no result"


def test_a_metric_that_judges_a_step_twice_has_two_cases() -> None:
    twice = step("pass", "fail")
    names = [case.get("name") for case in cases(twice)]
    assert names[1:] == ["builtin.exact_match: hi [stp_1]", "builtin.exact_match (2): hi [stp_1]"]
    assert ends(twice) == ["passed", "passed", "failure"]


def test_what_is_in_quarantine_fails_nothing() -> None:
    root = suites(quarantined(scenario("a", "fail", "error")), scenario("b", "pass"))
    assert (root.get("failures"), root.get("errors"), root.get("skipped")) == ("0", "0", "2")
    assert str(message(case_of(root, "builtin.exact_match: a 1"))).startswith("in quarantine: failure: score 0.200")


def test_properties_carry_trace_tokens_and_cost() -> None:
    made = [one | {"trace_id": f"t{one['repetition']}"} for one in attempts("a", "pass", "pass")]
    for one in made:
        one["steps"][0]["usage"] = {"input_tokens": 10, "output_tokens": 3}
        result = one["steps"][0]["evaluations"][0]["result"]
        result |= {"usage": {"input_tokens": 5, "cost_usd": 0.25}, "judge_model": "j"}
    root = suites(*made)
    assert properties(root[0])["trace_id"] == "t1 t2"
    answered = properties(case_of(root, "answered"))
    assert {"trace_id": "t1 t2", "input_tokens": "20", "output_tokens": "6"}.items() <= answered.items()
    judged = properties(case_of(root, "builtin.exact_match"))
    expected = {"trace_id": "t1 t2", "input_tokens": "10", "cost_usd": "0.5", "judge_model": "j", "threshold": "0.9"}
    assert expected.items() <= judged.items()


def test_a_threshold_that_nobody_named_is_the_default() -> None:
    made = scenario("a", "fail")
    made["steps"][0]["metrics"][0].pop("threshold")
    made["steps"][0]["evaluations"][0]["metric"].pop("threshold", None)  # the same object in this sample
    root = ET.fromstring(document(run_of(made, default_threshold=0.7)))
    assert "below the threshold 0.7" in str(message(case_of(root, "builtin.exact_match")))


def test_a_contradiction_of_result_and_score_is_an_error() -> None:
    made = scenario("a", "pass")
    made["steps"][0]["evaluations"][0]["result"]["score"] = 0.2
    case = case_of(suites(made), "builtin.exact_match")
    assert case.find("error") is not None


def names(root: ET.Element) -> list[tuple[str | None, str | None]]:
    return [(case.get("classname"), case.get("name")) for case in root.iter("testcase")]


def test_names_are_unique_over_systems_under_test_and_in_files_without_ids() -> None:
    bare = scenario("a", "pass", "pass") | {"id": ""}
    for each in bare["steps"]:
        each |= {"id": "", "input": "again"}
    root = suites(*(scenario("b", "pass", provider=system) for system in ("gpt", "claude")), bare, bare)
    assert len(set(names(root))) == len(names(root)) == 12
    assert [suite.get("name") for suite in root][:2] == ["b · gpt", "b · claude"]


def test_a_step_that_one_repetition_has_not_is_an_error() -> None:
    short = scenario("a", "pass", "pass", repetition=2)
    short["steps"] = short["steps"][:1]
    root = suites(scenario("a", "pass", "pass", repetition=1), short)
    assert case_of(root, "answered: a 1").find("error") is None
    assert case_of(root, "answered: a 2").find("error") is not None
    assert case_of(root, "builtin.exact_match: a 2").find("error") is not None


def test_repetitions_are_matched_by_step_and_not_by_place() -> None:
    turned = scenario("a", "fail", "pass", repetition=2)
    turned["steps"].reverse()
    root = suites(scenario("a", "fail", "pass", repetition=1), turned)
    assert properties(case_of(root, "builtin.exact_match: a 2"))["passed_attempts"] == "2/2"


def test_an_attempt_that_the_file_holds_twice_is_an_error() -> None:
    root = suites(scenario("a", "pass"), scenario("a", "pass"), scenario("b", "pass"))
    assert (root.get("errors"), root[1].get("errors")) == ("2", "0")


def test_an_attempt_without_the_metric_of_the_others_is_an_error() -> None:
    made = attempts("a", "pass", "pass")
    made[1]["steps"][0] |= {"metrics": [], "evaluations": []}
    assert message(case_of(suites(*made), "builtin.exact_match")) == (
        "passed 1 of 2 attempts: the file does not hold this attempt, or more than once"
    )


def test_systems_with_other_numbers_of_repetitions_lack_none() -> None:
    root = suites(scenario("a", "pass", provider="gpt"), *attempts("b", "pass", "pass", provider="gpt"))
    assert root.get("errors") == "0"


NO_PASS = {
    "empty": run_of(),
    "a shard": run_of(scenario("a", "pass"), **recorded() | {"run": recorded()["run"] | {"shard": "1/2"}}),
    "nothing gates": run_of(scenario("a") | {"steps": [step()]}),
}


@pytest.mark.parametrize("name", NO_PASS)
def test_a_run_without_a_verdict_is_never_green(name: str) -> None:
    root = ET.fromstring(document(NO_PASS[name]))
    case = case_of(root, "verdict")
    assert case.find("error") is not None
    assert str(message(case)).startswith("NO VERDICT")
    assert root.get("errors") == "1"


def test_a_regression_is_never_green() -> None:
    before = run_of(*(scenario(f"s{n}", "pass") for n in range(12)), **recorded(day=1))
    now = run_of(*(scenario(f"s{n}", "pass") for n in range(12)), **recorded(day=2))
    assert ET.fromstring(document(now)).find(".//testcase[@name='verdict']") is None
    verdict = verdict_against(before, now).model_copy(update={"verdict": "fail", "sentence": "FAIL: worse"})
    root = ET.fromstring(render_junit(now, verdict, "weather"))
    assert (root.get("failures"), message(case_of(root, "verdict"))) == ("1", "FAIL: worse")
