"""The sample datasets agree with one another, and with what the sample agent answers."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from rapidfuzz.distance import Levenshtein

from testbench.errors import InputError
from testbench.samples import generate
from testbench.samples.generate import COLUMNS
from testbench.samples.locate import SAMPLE_NAMES, sample_path
from testbench.samples.weather_dialogue import DialogueMemory, DialogueReply, answer
from testbench.samples.weather_knowledge import DEFAULT_NOW
from testbench.schema.files import read_experiment
from testbench.schema.models import Experiment, Metric, Reference, Scenario, Step, ToolCall

LISTS = ("retrieved_contexts", "reference_tool_calls", "reference_topics")
ALIKE = ("builtin.similarity", "ragas.NonLLMStringSimilarity")


def json_rows() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(sample_path("weather.json").read_text(encoding="utf-8"))
    return rows


def csv_rows() -> list[dict[str, Any]]:
    with sample_path("weather.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        {key: None if cell == "" else json.loads(cell) if key in LISTS else cell for key, cell in row.items()}
        for row in rows
    ]


def parquet_rows() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pyarrow.parquet.read_table(sample_path("weather.parquet")).to_pylist()
    return rows


def experiment() -> Experiment:
    return read_experiment(sample_path("experiment.yaml"))


def replies(steps: tuple[Step, ...]) -> list[DialogueReply]:
    said, memory = [], DialogueMemory()
    for step in steps:
        reply, memory = answer(step.input, memory, DEFAULT_NOW)
        said.append(reply)
    return said


def calls_of(reply: DialogueReply) -> list[tuple[str, dict[str, Any]]]:
    return [(use.name, dict(use.args)) for use in reply.tool_uses]


def expected_calls(calls: tuple[ToolCall, ...] | None) -> list[tuple[str, dict[str, Any]]]:
    return [(call.name, call.args) for call in calls or ()]


def test_every_sample_is_a_file() -> None:
    assert all(sample_path(name).is_file() for name in SAMPLE_NAMES)
    folder = sample_path(SAMPLE_NAMES[0]).parent
    assert {path.name for path in folder.iterdir()} == set(SAMPLE_NAMES)


@pytest.mark.parametrize("name", ["weather.xlsx", "../locate.py", ""])
def test_no_other_file_is_a_sample(name: str) -> None:
    with pytest.raises(InputError, match="no sample dataset") as caught:
        sample_path(name)
    assert "experiment.yaml" in caught.value.hint


def test_the_three_formats_hold_the_same_rows() -> None:
    rows = json_rows()
    assert [list(row) for row in rows] == [list(COLUMNS)] * len(rows)
    assert csv_rows() == rows
    assert parquet_rows() == rows


def test_the_generator_writes_what_is_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weather.json").write_bytes(sample_path("weather.json").read_bytes())
    monkeypatch.setattr(generate, "sample_path", lambda name: tmp_path / name)
    generate.main()
    assert (tmp_path / "weather.csv").read_bytes() == sample_path("weather.csv").read_bytes()
    assert pyarrow.parquet.read_table(tmp_path / "weather.parquet").equals(
        pyarrow.parquet.read_table(sample_path("weather.parquet"))
    )


def test_rows_show_what_a_dataset_can_hold() -> None:
    rows = json_rows()
    assert len({row["user_input"] for row in rows}) == len(rows) == 12
    for column in COLUMNS[1:]:
        assert any(row[column] is None for row in rows), f"no row leaves {column} empty"
    assert any(row["reference_tool_calls"] == [] for row in rows), "no row says that no tool may be called"
    assert any(len(row["retrieved_contexts"] or ()) > 1 for row in rows)


@pytest.mark.parametrize("row", json_rows(), ids=lambda row: row["user_input"])
def test_agent_answers_a_row_as_its_reference_says(row: dict[str, Any]) -> None:
    reply, _ = answer(row["user_input"], DialogueMemory(), DEFAULT_NOW)
    calls = [(call["name"], call["args"]) for call in row["reference_tool_calls"] or ()]
    assert calls_of(reply) == calls
    if row["reference"] is not None:
        assert Levenshtein.normalized_similarity(reply.text, row["reference"]) >= 0.6


def test_experiment_shows_a_conversation_that_asks_back_and_metrics_of_two_frameworks() -> None:
    steps = [step for scenario in experiment().scenarios for step in scenario.steps]
    names = {metric.metric_name for step in steps for metric in step.metrics}
    assert {name.partition(".")[0] for name in names} == {"builtin", "ragas"}
    assert any(reply.needs_input for scenario in experiment().scenarios for reply in replies(scenario.steps))
    assert max(len(scenario.steps) for scenario in experiment().scenarios) == 3


@pytest.mark.parametrize("scenario", experiment().scenarios, ids=lambda scenario: scenario.name)
def test_agent_passes_every_metric_of_the_experiment(scenario: Scenario) -> None:
    for step, reply in zip(scenario.steps, replies(scenario.steps), strict=True):
        assert step.reference is not None
        for metric in step.metrics:
            score = score_of(metric, step.reference, reply)
            threshold = experiment().default_threshold if metric.threshold is None else metric.threshold
            assert score >= threshold, f"{metric.metric_name}: {reply.text!r}"
            assert (score < 1) == (metric.metric_name in ALIKE), "a score that is no 1.0 is what the demo shows"


def score_of(metric: Metric, reference: Reference, reply: DialogueReply) -> float:
    """What the metric is about, in the plainest form: whether the demo's references fit, not how a metric is built."""
    assert reference.response is not None
    match metric.metric_name:
        case "builtin.exact_match":
            return float(reply.text == reference.response)
        case "builtin.contains":
            return float(metric.parameters.get("text", reference.response) in reply.text)
        case "builtin.tool_calls":
            assert reference.tool_calls is not None
            return float(calls_of(reply) == expected_calls(reference.tool_calls))
        case "ragas.ToolCallF1":
            assert reference.tool_calls, "RAGAS scores 0 where no call is expected and none is made"
            return float(calls_of(reply) == expected_calls(reference.tool_calls))
        case "builtin.similarity" | "ragas.NonLLMStringSimilarity":
            return Levenshtein.normalized_similarity(reply.text, reference.response)
    raise AssertionError(f"the experiment uses {metric.metric_name}, which this test does not know")


def test_generator_and_locator_are_light_to_import() -> None:
    program = "import sys, testbench.samples.generate; sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
