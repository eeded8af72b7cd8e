"""CSV and JUnit of an evaluation: complete, stable in their names, and harmless whatever was said."""

from __future__ import annotations

import csv
import io
from xml.etree import ElementTree as ET

from testbench.arena.evaluation.rows import AFTER_SCORES, BEFORE_SCORES, ItemRow, build_row, encode_csv, encode_junit
from testbench.arena.plan.model import Plan
from testbench.schema.models import EvaluatedStep
from tests.support.arena_samples import evaluated, plan_of, scenario

PLAN = plan_of([scenario("weather", "Berlin?"), scenario("tides")], repetitions=2)


def rows_with(plan: Plan, *scores: float | None) -> list[ItemRow]:
    padded = [*scores, *[1.0] * (len(plan.items) - len(scores))]
    return [build_row(item, evaluated(plan, item, score)) for item, score in zip(plan.items, padded, strict=True)]


def table(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


def test_the_csv_has_a_line_for_each_item_and_the_promised_columns() -> None:
    lines = table(encode_csv(PLAN, "run-1", rows_with(PLAN, 1.0, 0.0, None)))
    assert list(lines[0]) == [*BEFORE_SCORES, "score_builtin.contains", *AFTER_SCORES]
    assert [line["item_key"] for line in lines] == [item.key for item in PLAN.items]
    assert [line["status"] for line in lines[:3]] == ["passed", "failed", "error"]
    assert (lines[0]["score_builtin.contains"], lines[0]["latency_ms"], lines[0]["cost_usd"]) == (
        "1.0",
        "120.0",
        "0.01",
    )
    assert (lines[2]["score_builtin.contains"], lines[2]["error_type"], lines[2]["attempts"]) == (
        "",
        "unreachable",
        "3",
    )


def test_one_step_that_could_not_be_judged_makes_an_error_of_the_item_and_one_in_quarantine_nothing() -> None:
    plan = plan_of([scenario("talk", "one", "two")], names=("gpt",))
    (item,) = plan.items
    passed, failed, down = (evaluated(plan, item, score).steps for score in (1.0, 0.0, None))

    def status(*steps: EvaluatedStep) -> str:
        return build_row(item, evaluated(plan, item).model_copy(update={"steps": steps})).status

    assert status(passed[0], failed[1]) == "failed"
    assert status(failed[0], down[1]) == "error"
    for step in (failed[1], down[1]):
        assert status(passed[0], step.model_copy(update={"quarantine": True})) == "passed"


def test_a_cell_is_never_a_formula() -> None:
    plan = plan_of([scenario("=HYPERLINK(1)")], names=("@evil",))
    (line,) = table(encode_csv(plan, "run-1", rows_with(plan)))
    assert (line["scenario"], line["provider"]) == ("'=HYPERLINK(1)", "'@evil")


def test_junit_says_how_each_item_ended() -> None:
    root = ET.fromstring(encode_junit(PLAN, rows_with(PLAN, 1.0, 0.0, None)))
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("8", "1", "1")
    cases = {(case.get("classname"), case.get("name")): case for case in root.iter("testcase")}
    assert len(cases) == 8
    failed = cases["nightly.weather", "gpt[2]"]
    assert failed.find("failure") is not None
    error = cases["nightly.weather", "claude[1]"].find("error")
    assert error is not None
    assert error.get("type") == "unreachable"
    properties = {entry.get("name"): entry.get("value") for entry in failed.iter("property")}
    assert properties["metric.builtin.contains"] == "0.0000"
    assert properties["trace_id"] == "ab" * 16


def test_junit_names_depend_on_nothing_but_the_plan() -> None:
    def names(rows: list[ItemRow]) -> list[tuple[str | None, str | None]]:
        root = ET.fromstring(encode_junit(PLAN, rows))
        return [(case.get("classname"), case.get("name")) for case in root.iter("testcase")]

    assert names(rows_with(PLAN)) == names(list(reversed(rows_with(PLAN, 0.0, None))))


def test_scenarios_of_one_name_are_two_suites() -> None:
    plan = plan_of([scenario("tides", "a"), scenario("tides", "b")])
    root = ET.fromstring(encode_junit(plan, rows_with(plan)))
    assert len({suite.get("name") for suite in root.iter("testsuite")}) == 2


def test_no_text_breaks_the_xml() -> None:
    plan = plan_of([scenario("</testsuite>\x00\x1b[31m&\ufffe")], names=("<b>",))
    root = ET.fromstring(encode_junit(plan, rows_with(plan, None)))
    assert root.find(".//testcase") is not None
