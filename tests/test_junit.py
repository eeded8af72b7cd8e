"""JUnit XML that test systems read: stable names, the right element for each end, well-formed whatever was said."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

from testbench.gating.junit import junit_xml
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
