"""JUnit XML that test systems read: stable names, the right element for each end, well-formed whatever was said."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

from testbench.gating.junit import junit_xml
from tests.gate_samples import attempts, quarantined, run_of, scenario
from tests.test_verdict import experiment, step


def cases(*steps: dict[str, Any], **options: Any) -> list[ET.Element]:
    return list(ET.fromstring(junit_xml(experiment(*steps, **options), "weather")).iter("testcase"))


def ends(*steps: dict[str, Any]) -> list[str]:
    """Of every case the element that says how it ended, or `passed`."""
    known = ("failure", "error", "skipped")
    return [next((tag for tag in known if case.find(tag) is not None), "passed") for case in cases(*steps)]


def test_every_end_has_its_element() -> None:
    assert ends(step("pass")) == ["passed", "passed"]
    assert ends(step("fail")) == ["passed", "failure"]
    assert ends(step("error")) == ["passed", "error"]
    assert ends(step("skipped")) == ["passed", "error"], "a gating metric that judged nothing is no skipped test"
    assert ends(step("fail", gating=False)) == ["passed", "skipped"]
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
    root = ET.fromstring(junit_xml(experiment(step("pass"), step("fail"), step("error")), "weather"))
    counts = {"tests": "6", "failures": "1", "errors": "1", "skipped": "0"}
    assert {key: root.attrib[key] for key in counts} == counts
    assert {key: root[0].attrib[key] for key in counts} == counts


def test_it_is_well_formed_whatever_the_agent_said() -> None:
    hostile = step("error") | {"input": "\x00\x1b[31m</testcase>& ]]> \u202e"}
    hostile["evaluations"][0]["result"]["error"] = {"kind": "<k>", "message": "\x07 \ufffe <b>"}
    document = junit_xml(experiment(hostile), "a\x00b")
    assert b"\x00" not in document
    assert b"\x1b" not in document
    assert len(list(ET.fromstring(document).iter("testcase"))) == 2


def suites(*scenarios: dict[str, Any]) -> ET.Element:
    return ET.fromstring(junit_xml(run_of(*scenarios), "weather"))


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
    root = suites(quarantined(scenario("a", "fail", "error")))
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
    root = ET.fromstring(junit_xml(run_of(made, default_threshold=0.7), "weather"))
    assert "below the threshold 0.7" in str(message(case_of(root, "builtin.exact_match")))


def test_a_contradiction_of_result_and_score_is_an_error() -> None:
    made = scenario("a", "pass")
    made["steps"][0]["evaluations"][0]["result"]["score"] = 0.2
    case = case_of(suites(made), "builtin.exact_match")
    assert case.find("error") is not None
