"""JSON, JSON Lines and YAML: rows, rows in an object, or an experiment."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbench.errors import InputError, NothingToDo
from testbench.schema import json_stream
from testbench.schema.models import Metric
from testbench.sources.formats.json import read_array
from tests.support.setup_phase import file_of, json_of, law, loaded, steps_of

ROWS: list[dict[str, Any]] = [
    {"user_input": "a", "retrieved_contexts": ["x"], "own": {"n": 1, "none": None}},
    {"user_input": "b", "reference": None, "own": float("nan")},
]
EXPERIMENT: dict[str, Any] = {
    "llm_as_a_judge_model": "judge",
    "default_threshold": 0.5,
    "scenarios": [
        {"name": "one", "steps": [{"input": "a", "metrics": [{"metric_name": "Own"}]}, {"input": "b"}]},
        {"name": "two", "steps": [{"input": "c"}]},
    ],
}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.json", json.dumps(ROWS)),
        ("rows.json", json.dumps(ROWS, indent=2)),
        ("rows.json", "\ufeff " + json.dumps(ROWS)),
        ("rows.json", json.dumps({"data": ROWS})),
        ("rows.json", json.dumps({"rows": ROWS, "version": 1})),
        ("rows.jsonl", "\n".join(map(json.dumps, ROWS))),
        ("rows.ndjson", "\ufeff" + "\n\n".join(map(json.dumps, ROWS)) + "\r\n"),
        ("lines.json", "\n".join(map(json.dumps, ROWS))),
        (
            "rows.yaml",
            "- {user_input: a, retrieved_contexts: [x], own: {n: 1, none: null}}\n- {user_input: b, own: .nan}",
        ),
    ],
)
def test_rows_are_found_however_they_are_wrapped(tmp_path: Path, name: str, content: str) -> None:
    first, second = steps_of(loaded(file_of(tmp_path, name, content)))
    assert first.custom_values == {"retrieved_contexts": ["x"], "own": {"n": 1, "none": None}}
    assert (second.input, second.reference, second.custom_values) == ("b", None, {})


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("rows.json", '[{"user_input": "a"},\n 5]', r"row 2 \(line 2\): is not an object but a number"),
        ("rows.json", '[{"user_input": "a"},\n {"user_input": }]', r"line 2: not valid JSON: Expecting value"),
        ("rows.json", '[{"user_input": "a"}', r"line 1: not valid JSON: a comma or the end"),
        ("rows.json", '[{"user_input": "a"}\n{"user_input": "b"}]', r"line 2: not valid JSON: a comma or the end"),
        ("rows.json", '[{"user_input": "a"},]', r"line 1: not valid JSON: Expecting value"),
        ("rows.json", '[{"user_input": "a"}] x', r"line 1: not valid JSON: something follows"),
        ("rows.json", '[{"user_input": "a', r"line 1: not valid JSON: Unterminated string"),
        ("rows.json", "[" * 100_000, "nested too deeply"),
        ("rows.json", '[{"a":' * 100_000, "nested too deeply"),
        ("rows.json", '[{"user_input": 1' + "0" * 5000 + "}]", "not valid JSON: Exceeds"),
        ("rows.json", b'[{"user_input": "\xff"}]', "not UTF-8"),
        ("rows.json", '{"user_input": "a"}', "neither rows nor an experiment; there is: user_input"),
        ("rows.json", '"text"', "neither rows nor an experiment; there is: str"),
        ("rows.json", '{"data": [{"user_input": "a"}]', "not valid JSON"),
        ("rows.jsonl", '{"user_input": "a"}\n\n{"user_input": \n', r"row 2 \(line 3\): not valid JSON"),
        ("rows.jsonl", "[\n", r"row 1 \(line 1\): not valid JSON"),
        ("rows.jsonl", '["a"]', r"row 1 \(line 1\): is not an object but a list"),
        ("rows.jsonl", b'{"user_input": "\xff"}', r"row 1 \(line 1\): not valid JSON"),
        ("rows.jsonl", '{"user_input": "\\ud800"}', r"row 1 \(line 1\), column 'user_input': .*surrogate"),
        ("rows.json", '{"scenarios": [{"name": "\\ud800", "steps": []}]}', "surrogate"),
        ("rows.yaml", "- user_input: [a\n", "not valid YAML"),
        ("rows.yaml", "just text", "neither rows nor an experiment"),
    ],
)
def test_broken_json_is_an_error_that_names_the_place(
    tmp_path: Path, name: str, content: str | bytes, words: str
) -> None:
    with pytest.raises(InputError, match=rf"{name}: .*{words}|{name}: {words}") as caught:
        loaded(file_of(tmp_path, name, content))
    assert caught.value.hint


def test_aliases_that_would_fill_the_memory_are_refused(tmp_path: Path) -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
    )
    with pytest.raises(InputError, match=r"more than .* values, or nested deeper"):
        loaded(file_of(tmp_path, "rows.yaml", bomb + "scenarios: []\n"))
    with pytest.raises(InputError, match=r"more than .* values, or nested deeper"):
        loaded(file_of(tmp_path, "self.yaml", "scenarios: &a [*a]\n"))


@pytest.mark.parametrize(
    ("name", "content"), [("rows.json", "[]"), ("rows.json", '{"scenarios": []}'), ("r.jsonl", "\n")]
)
def test_no_rows_are_nothing_to_do(tmp_path: Path, name: str, content: str) -> None:
    with pytest.raises(NothingToDo):
        loaded(file_of(tmp_path, name, content))


@pytest.mark.parametrize("name", ["experiment.json", "experiment.yaml", "experiment.dat"])
def test_an_experiment_is_known_by_its_scenarios(tmp_path: Path, name: str) -> None:
    experiment = loaded(json_of(tmp_path, EXPERIMENT, name))
    assert (experiment.llm_as_a_judge_model, experiment.default_threshold) == ("judge", 0.5)
    assert [(scenario.name, len(scenario.steps)) for scenario in experiment.scenarios] == [("one", 2), ("two", 1)]


def test_the_command_line_overrides_an_experiment_and_adds_metrics_where_there_are_none(tmp_path: Path) -> None:
    path = json_of(tmp_path, EXPERIMENT)
    metrics = (Metric(metric_name="Chosen"),)
    experiment = loaded(path, model="other", default_threshold=0.0, metrics=metrics, limit=1)
    assert (experiment.llm_as_a_judge_model, experiment.default_threshold) == ("other", 0.0)
    assert [[metric.metric_name for metric in step.metrics] for step in steps_of(experiment)] == [["Own"], ["Chosen"]]


def test_a_misspelt_key_of_an_experiment_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"rows\.json: unknown key 'inputs' at scenarios\[0\]\.steps\[0\]"):
        loaded(json_of(tmp_path, {"scenarios": [{"name": "x", "steps": [{"input": "a", "inputs": 1}]}]}))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@law
@given(
    values=st.lists(st.dictionaries(st.text(), json_values, max_size=3), max_size=8),
    piece=st.integers(1, 40),
    indent=st.none() | st.integers(0, 2),
)
def test_an_array_is_read_in_pieces_as_it_is_read_at_once(values: list[Any], piece: int, indent: int | None) -> None:
    text = json.dumps(values, indent=indent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "PIECE_CHARACTERS", piece)
        found = list(read_array(io.StringIO(text), "rows.json"))
    assert [value for value, _ in found] == values
    lines = text.split("\n")
    assert all(lines[line - 1].lstrip(" [").startswith("{") for _, line in found)


def test_the_first_rows_of_an_array_need_only_the_beginning_of_the_file() -> None:
    text = io.StringIO("[" + ",".join(['{"user_input": "a"}'] * 500_000) + "]")
    for _ in zip(range(1000), read_array(text, "rows.json"), strict=False):
        pass
    assert text.tell() <= json_stream.PIECE_CHARACTERS
