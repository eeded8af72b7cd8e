"""The data contract: what loads, what is refused, and that nothing is lost on the way through the phases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from testbench import defaults
from testbench.cli.reference import build_json_schemas
from testbench.errors import InputError
from testbench.schema.files import parse_experiment, read_phase_file, write_model
from testbench.schema.models import (
    EvaluatedExperiment,
    EvaluatedStep,
    ExecutedExperiment,
    ExecutedScenario,
    ExecutedStep,
    Experiment,
    Result,
)

DOCS = Path(__file__).parents[2] / "docs"

UPSTREAM_EVALUATED: dict[str, Any] = {
    "llm_as_a_judge_model": "gemini-2.5-flash-lite",
    "default_threshold": 0.9,
    "scenarios": [
        {
            "name": "Weather in New York",
            "id": "scn_94c51b9c5481d82e",
            "trace_id": "1a6345473128b65a2dcfad8e4867ee66",
            "steps": [
                {
                    "input": "What is the weather like in New York?",
                    "reference": {
                        "response": "Sunny.",
                        "tool_calls": [{"name": "get_weather", "arguments": {"city": "New York"}}],
                        "topics": ["weather"],
                        "retrieved_contexts": ["New York: sunny"],
                    },
                    "custom_values": None,
                    "metrics": [
                        {"metric_name": "ToolCallAccuracy", "threshold": None, "parameters": {"strict_order": True}}
                    ],
                    "id": "stp_618210c4bc0b9f19",
                    "turns": [
                        {"content": "What is the weather like in New York?", "type": "human"},
                        {
                            "content": "",
                            "type": "agent",
                            "tool_calls": [{"name": "get_weather", "args": {"city": "NY"}}],
                        },
                        {"content": "sunny", "type": "tool"},
                        {"content": "It is sunny.", "type": "agent"},
                    ],
                    "evaluations": [
                        {"metric": {"metric_name": "ToolCallAccuracy"}, "result": {"result": "pass", "score": 1.0}},
                        {"metric": {"metric_name": "Faithfulness"}, "result": {"result": None, "score": None}},
                    ],
                },
                {"input": "And tomorrow?", "metrics": None, "turns": None, "evaluations": None},
            ],
        }
    ],
}


def test_a_file_of_the_format_upstream_loads() -> None:
    experiment = EvaluatedExperiment.model_validate(UPSTREAM_EVALUATED)
    answered, silent = experiment.scenarios[0].steps
    assert answered.reference is not None
    assert answered.reference.tool_calls is not None
    assert answered.reference.tool_calls[0].args == {"city": "New York"}
    assert answered.metrics[0].parameters == {"strict_order": True}
    assert (answered.status, answered.answer) == ("ok", "It is sunny.")
    assert [evaluation.result.result for evaluation in answered.evaluations] == ["pass", "skipped"]
    assert silent.status == "error"
    assert silent.error is not None
    assert silent.error.kind == "no_answer"


def test_nothing_is_lost_on_a_round_trip(tmp_path: Path) -> None:
    document = UPSTREAM_EVALUATED | {"experiment_note": {"kept": [1, None, "x"]}}
    first = EvaluatedExperiment.model_validate(document)
    write_model(tmp_path / "x.json", first)
    assert read_phase_file(tmp_path / "x.json", EvaluatedExperiment, made_by="evaluate") == first
    assert json.loads((tmp_path / "x.json").read_text())["experiment_note"] == {"kept": [1, None, "x"]}


@pytest.mark.parametrize("score", ["NaN", "Infinity", "-Infinity", "1.01", "-0.01"])
def test_a_score_is_a_number_from_0_to_1(score: str) -> None:
    with pytest.raises(ValidationError):
        Result.model_validate_json(f'{{"result": "pass", "score": {score}}}')


@pytest.mark.parametrize("result", ["error", "skipped"])
def test_what_was_not_judged_has_no_score(result: str) -> None:
    with pytest.raises(ValidationError, match="cannot have a score"):
        Result.model_validate({"result": result, "score": 0.0})


@pytest.mark.parametrize("result", ["pass", "fail"])
def test_what_was_judged_has_a_score(result: str) -> None:
    with pytest.raises(ValidationError, match="needs a score"):
        Result.model_validate({"result": result})


def test_an_error_text_cannot_be_stored_as_an_answer() -> None:
    step = {
        "input": "x",
        "status": "error",
        "error": {"kind": "timeout", "message": "no answer in 30 s"},
        "turns": [{"type": "human", "content": "x"}, {"type": "agent", "content": "ERROR: timeout"}],
    }
    with pytest.raises(ValidationError, match="cannot hold an answer"):
        ExecutedStep.model_validate(step)


@pytest.mark.parametrize("step", [{"status": "error"}, {"status": "ok", "error": {"kind": "x", "message": "y"}}])
def test_a_status_and_its_error_go_together(step: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="if, and only if"):
        ExecutedStep.model_validate({"input": "x", **step})


@pytest.mark.parametrize(
    ("document", "message", "hint"),
    [
        ({"scenarios": [], "default_treshold": 1}, "unknown key 'default_treshold' at the top", "'default_threshold'"),
        ({"scenarios": [{"name": "a", "steps": [{"input": "x", "metric": []}]}]}, "scenarios[0].steps[0]", "'metrics'"),
        (
            {"scenarios": [{"name": "a", "steps": [{"input": "x", "metrics": [{"metric_name": "A", "limit": 1}]}]}]},
            "unknown key 'limit' at scenarios[0].steps[0].metrics[0]",
            "Known keys here: metric_name, threshold",
        ),
        ({"scenarios": [{"name": "a", "steps": [{"inputs": "x"}]}]}, "scenarios[0].steps[0].input: Field required", ""),
        ({"scenarios": [], "default_threshold": 1.5}, "default_threshold: Input should be less than", ""),
        ({"scenarios": [], "schema_version": 99}, "schema_version 99 is newer", "Use the Testbench that wrote"),
        ([], "the document:", ""),
    ],
)
def test_a_mistake_in_an_experiment_is_told_with_its_place(document: Any, message: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_experiment(document, "experiment.yaml")
    assert caught.value.message.startswith("experiment.yaml: ")
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_reference_may_carry_keys_of_the_user() -> None:
    steps = [{"input": "x", "reference": {"response": "y", "graded_by": "Ada"}}]
    experiment = parse_experiment({"scenarios": [{"name": "a", "steps": steps}]}, "e.json")
    assert experiment.scenarios[0].steps[0].reference is not None
    assert experiment.scenarios[0].steps[0].reference.model_extra == {"graded_by": "Ada"}


def test_a_file_cannot_ask_for_attempts_without_end() -> None:
    with pytest.raises(ValidationError, match="100000"):
        ExecutedScenario.model_validate({"id": "s", "name": "s", "steps": [], "repetition": 1_000_000_000})


def test_the_default_threshold_is_one_number() -> None:
    assert Experiment.model_fields["default_threshold"].default == defaults.THRESHOLD


@pytest.mark.parametrize("name", ["experiment", "executed_experiment", "evaluated_experiment"])
def test_the_schema_in_docs_is_that_of_the_models(name: str) -> None:
    """`make schema` writes them anew."""
    assert json.loads((DOCS / f"{name}.schema.json").read_text()) == build_json_schemas()[name]


def test_each_phase_reads_what_the_one_before_wrote() -> None:
    assert issubclass(ExecutedExperiment, Experiment)
    assert issubclass(EvaluatedExperiment, ExecutedExperiment)
    assert issubclass(EvaluatedStep, ExecutedStep)
