"""Which column becomes which part of a step."""

from __future__ import annotations

import re
from typing import Any

import pytest

from testbench.errors import InputError
from testbench.schema.models import Metric, Reference, Step, ToolCall
from testbench.sources.columns import PlacedStep, find_misspelt_columns, place_steps
from testbench.sources.formats.dataset_format import Row, Table


def placed(values: dict[str, Any], *, text: bool = False, scenario_column: str = "scenario") -> PlacedStep:
    table = Table("rows.csv", iter([Row(1, values, line=2)]), cells_are_text=text)
    (only,) = place_steps(table, scenario_column)
    return only


def test_every_column_has_its_place() -> None:
    assert placed(
        {
            "user_input": "Weather in Paris?",
            "retrieved_contexts": ["Paris: 18 degrees"],
            "reference": "18 degrees",
            "reference_contexts": ["The Paris sheet"],
            "reference_tool_calls": [{"name": "get_weather", "args": {"city": "Paris"}}],
            "reference_topics": ["weather"],
            "metrics": ["Faithfulness=0.8", {"metric_name": "builtin.contains", "gating": False}],
            "scenario": "trip",
            "difficulty": 3,
        }
    ) == PlacedStep(
        Step(
            input="Weather in Paris?",
            reference=Reference(
                response="18 degrees",
                reference_contexts=("The Paris sheet",),
                tool_calls=(ToolCall(name="get_weather", args={"city": "Paris"}),),
                topics=("weather",),
            ),
            custom_values={"retrieved_contexts": ["Paris: 18 degrees"], "difficulty": 3},
            metrics=(
                Metric(metric_name="Faithfulness", threshold=0.8),
                Metric(metric_name="builtin.contains", gating=False),
            ),
        ),
        "trip",
    )


def test_cells_of_text_say_the_same_as_lists() -> None:
    lists = {
        "user_input": "Weather?",
        "retrieved_contexts": ["a", "b"],
        "reference_contexts": ["c"],
        "reference_tool_calls": [{"name": "f", "args": {"x": [1]}}],
        "reference_topics": ["t", "u"],
        "metrics": ["A", "B=0.5"],
        "rubrics": {"score1": "bad"},
    }
    texts = {
        "user_input": "Weather?",
        "retrieved_contexts": "['a' 'b']",
        "reference_contexts": "c",
        "reference_tool_calls": "[{'name': 'f', 'args': {'x': [1]}}]",
        "reference_topics": '["t", "u"]',
        "metrics": "A, B=0.5",
        "rubrics": '{"score1": "bad"}',
    }
    assert placed(texts, text=True) == placed(lists)


def test_only_a_format_of_texts_turns_the_users_own_text_into_data() -> None:
    assert placed({"user_input": "x", "own": "[1]"}).step.custom_values == {"own": "[1]"}
    assert placed({"user_input": "x", "own": "[1]"}, text=True).step.custom_values == {"own": [1]}


def test_a_question_and_an_expected_answer_in_brackets_stay_text() -> None:
    step = placed({"user_input": "['a']", "reference": "[1, 2]"}, text=True).step
    assert (step.input, step.reference) == ("['a']", Reference(response="[1, 2]"))


def test_input_stands_in_for_user_input_and_is_the_users_own_beside_it() -> None:
    assert placed({"input": "a"}).step.input == "a"
    both = placed({"input": "a", "user_input": "b"}).step
    assert (both.input, both.custom_values) == ("b", {"input": "a"})


def test_empty_cells_leave_no_trace() -> None:
    empty = dict.fromkeys(("reference", "reference_tool_calls", "metrics", "scenario", "own", "retrieved_contexts"), "")
    assert placed({"user_input": "x"} | empty, text=True) == PlacedStep(Step(input="x"), None)
    assert placed({"user_input": "x", "reference": float("nan")}).step.reference is None


@pytest.mark.parametrize("value", [[], "[]"])
def test_an_empty_list_of_tool_calls_expects_no_call(value: Any) -> None:
    assert placed({"user_input": "x", "reference_tool_calls": value}).step.reference == Reference(tool_calls=())


@pytest.mark.parametrize(
    "value",
    [
        '{"name": "f", "arguments": {"x": 1}}',
        [{"name": "f", "arguments": '{"x": 1}'}],
        {"name": "f", "args": {"x": 1}},
    ],
)
def test_a_tool_call_may_be_written_as_models_write_it(value: Any) -> None:
    reference = placed({"user_input": "x", "reference_tool_calls": value}).step.reference
    assert reference == Reference(tool_calls=(ToolCall(name="f", args={"x": 1}),))


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("user_input", "", "is empty"),
        ("user_input", [{"role": "user"}], "a text is expected"),
        ("reference", {"response": "x"}, "a text is expected"),
        ("reference_tool_calls", "get_weather", "is an object with 'name'"),
        ("reference_tool_calls", [{"args": {}}], "needs a name"),
        ("reference_tool_calls", [{"name": " "}], "needs a name"),
        ("reference_tool_calls", [{"name": "f", "arg": {}}], "no key 'arg'"),
        ("reference_tool_calls", [{"name": "f", "args": [1]}], "not a tool call: args"),
        ("reference_tool_calls", [{"name": "f", "args": "{"}], "not a JSON object"),
        ("reference_tool_calls", '[{"name": "f"', "not a list"),
        ("retrieved_contexts", [{"text": "x"}], "an object where texts"),
        ("metrics", "Faithfulness=high", "not a metric: threshold"),
        ("metrics", "=0.5", "not a metric: metric_name"),
        ("metrics", [{"metric_name": "A", "treshold": 0.5}], "no key 'treshold'"),
        ("metrics", 5, "not a metric"),
        ("own", "half \ud800", "surrogate"),
    ],
)
def test_a_value_that_does_not_fit_names_file_row_line_and_column(column: str, value: Any, words: str) -> None:
    place = re.escape(f"rows.csv: row 1 (line 2), column {column!r}: ")
    with pytest.raises(InputError, match=f"^{place}.*{re.escape(words)}") as caught:
        placed({"user_input": "x"} | {column: value})
    assert caught.value.hint


@pytest.mark.parametrize(
    ("columns", "hint"),
    [(("User Input", "reference"), "'User Input'"), (("id", "question"), "'question'"), (("id", "answer"), "Name")],
)
def test_a_table_without_a_question_says_what_there_is_and_what_may_be_meant(
    columns: tuple[str, ...], hint: str
) -> None:
    with pytest.raises(InputError, match=f"no column 'user_input'.*there is: {', '.join(columns)}") as caught:
        list(place_steps(Table("rows.csv", iter(()), columns)))
    assert hint in caught.value.hint


def test_a_row_without_a_question_says_which_it_is() -> None:
    with pytest.raises(InputError, match=r"rows\.csv: row 1: no column 'user_input'.*there is: reference"):
        placed({"reference": "x"})


def test_a_column_that_is_there_twice_is_an_error() -> None:
    with pytest.raises(InputError, match="'reference' is there twice"):
        list(place_steps(Table("rows.csv", iter(()), ("user_input", "reference", "reference"))))


def test_the_scenario_column_can_be_another() -> None:
    only = placed({"user_input": "x", "scenario": "a", "thread": 7}, scenario_column="thread")
    assert (only.scenario, only.step.custom_values) == ("7", {"scenario": "a"})


def test_metrics_are_for_rows_that_name_none() -> None:
    rows = iter([Row(1, {"user_input": "x"}), Row(2, {"user_input": "y", "metrics": "Own"})])
    chosen = (Metric(metric_name="Chosen"),)
    steps = [placed.step for placed in place_steps(Table("rows", rows), metrics=chosen)]
    assert [step.metrics for step in steps] == [chosen, (Metric(metric_name="Own"),)]


def test_a_column_that_is_nearly_one_of_ours_is_noticed() -> None:
    columns = ("user_input", "refrence", "Reference_Topics", "category", "reference_tool_call", "retrieved_context")
    assert list(find_misspelt_columns(columns, "scenario")) == [
        ("refrence", "reference"),
        ("Reference_Topics", "reference_topics"),
        ("reference_tool_call", "reference_tool_calls"),
        ("retrieved_context", "retrieved_contexts"),
    ]
