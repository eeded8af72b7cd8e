"""Metrics from the command line, from a file, and in a cell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from testbench.errors import InputError
from testbench.schema.models import Metric
from testbench.sources.metric_choice import read_chosen_metrics, to_metrics
from tests.support.setup_phase import file_of

A = Metric(metric_name="ragas.Faithfulness", threshold=0.8)
B = Metric(metric_name="builtin.contains", gating=False, parameters={"text": "a=b"})


def test_metrics_of_the_command_line() -> None:
    assert read_chosen_metrics(["ragas.Faithfulness=0.8", " Plain "], None) == (A, Metric(metric_name="Plain"))


@pytest.mark.parametrize("top", ["", "metrics:\n"])
def test_metrics_of_a_file_follow_those_of_the_command_line(tmp_path: Path, top: str) -> None:
    listed = "- ragas.Faithfulness=0.8\n- {metric_name: builtin.contains, gating: false, parameters: {text: a=b}}\n"
    path = file_of(tmp_path, "metrics.yaml", top + listed)
    assert read_chosen_metrics(["First"], path) == (Metric(metric_name="First"), A, B)


@pytest.mark.parametrize(
    "value",
    [
        "ragas.Faithfulness=0.8, Plain",
        '["ragas.Faithfulness=0.8", "Plain"]',
        "['ragas.Faithfulness=0.8' 'Plain']",
        ["ragas.Faithfulness=0.8", {"metric_name": "Plain"}],
        "[{'metric_name': 'ragas.Faithfulness', 'threshold': 0.8}, 'Plain']",
    ],
)
def test_metrics_of_a_cell(value: Any) -> None:
    assert to_metrics(value) == (A, Metric(metric_name="Plain"))


def test_one_metric_object_in_a_cell() -> None:
    assert to_metrics('{"metric_name": "ragas.Faithfulness", "threshold": 0.8}') == (A,)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["A=1.5"], "--metric: not a metric: threshold: .*less than or equal to 1"),
        (["A="], "--metric: not a metric: threshold"),
        (["A=nan"], "--metric: not a metric: threshold"),
        ([""], "--metric: not a metric: metric_name"),
        (["A", "A=0.5"], "'A' is given twice"),
    ],
)
def test_a_metric_of_the_command_line_that_cannot_be_is_an_error(names: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_chosen_metrics(names, None)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("m.yaml", "just text", "m.yaml: not a list of metrics"),
        ("m.yaml", "{metrics: [], model: x}", "m.yaml: not a list of metrics"),
        ("m.yaml", "- [A]", r"m.yaml: metrics\[0\]: not a metric"),
        ("m.yaml", "- A\n- {metric_name: B, treshold: 1}", r"m.yaml: metrics\[1\]: a metric has no key 'treshold'"),
        ("m.json", "[", "m.json: not valid JSON"),
        ("m.yaml", "- A\n- A", "'A' is given twice"),
    ],
)
def test_a_file_of_metrics_that_cannot_be_is_an_error(tmp_path: Path, name: str, content: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_chosen_metrics([], file_of(tmp_path, name, content))


def test_a_file_of_metrics_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_chosen_metrics([], tmp_path / "none.yaml")
    with pytest.raises(InputError, match="is a folder"):
        read_chosen_metrics([], tmp_path)


def test_one_metric_with_two_sets_of_parameters_is_two(tmp_path: Path) -> None:
    content = "- {metric_name: A, parameters: {x: 1}}\n- {metric_name: A, parameters: {x: 2}}"
    assert len(read_chosen_metrics([], file_of(tmp_path, "m.yaml", content))) == 2
