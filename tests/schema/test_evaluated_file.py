"""The file read one conversation at a time says the same as the file read at once, and fails in the same words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from testbench.errors import InputError
from testbench.gating.decision import reach_verdict
from testbench.results.summary import summarize
from testbench.results.verdict import Policy
from testbench.schema import json_stream
from testbench.schema.evaluated_file import EvaluatedFile, without_texts
from testbench.schema.files import read_phase_file
from testbench.schema.models import EvaluatedExperiment
from tests.support.report_factory import experiment


def read(path: Path) -> EvaluatedExperiment:
    file = EvaluatedFile(path)
    scenarios = tuple(file.scenarios())
    return file.frame(scenarios)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@example(indent=None, piece=12, reverse=False).via("a piece that ends within a number")
@given(indent=st.sampled_from([None, 0, 2]), piece=st.integers(1, 3000), reverse=st.booleans())
def test_pieces_of_any_size_and_any_layout_give_the_same(
    tmp_path: Path, indent: int | None, piece: int, reverse: bool
) -> None:
    made = experiment(5)
    document = made.model_dump(mode="json", exclude_none=True)
    path = tmp_path / "evaluated.json"
    members = list(document.items())[:: -1 if reverse else 1]
    path.write_text(json.dumps(dict(members), indent=indent), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "PIECE_CHARACTERS", piece)
        assert read(path) == made


def test_an_experiment_without_scenarios_reads(tmp_path: Path) -> None:
    path = tmp_path / "evaluated.json"
    path.write_text('{"scenarios": []}')
    assert read(path) == EvaluatedExperiment(scenarios=())


def broken(change: Any) -> str:
    document = experiment(3).model_dump(mode="json", exclude_none=True)
    change(document)
    return json.dumps(document)


FAULTS = {
    "empty": "",
    "no object": "[]",
    "half": broken(lambda document: None)[:-200],
    "text after the end": broken(lambda document: None) + "x",
    "no scenarios": broken(lambda document: document.pop("scenarios")),
    "scenarios is null": broken(lambda document: document.update(scenarios=None)),
    "scenarios is an object": broken(lambda document: document.update(scenarios={})),
    "a scenario is text": broken(lambda document: document["scenarios"].append("x")),
    "steps is text": broken(lambda document: document["scenarios"][0].update(steps="x")),
    "metrics is text": broken(lambda document: document["scenarios"][0]["steps"][0].update(metrics="x")),
    "a metric without a name": broken(lambda document: document["scenarios"][0]["steps"][0].update(metrics=[{}])),
    "a score of 2": broken(
        lambda document: document["scenarios"][0]["steps"][0].update(
            evaluations=[{"metric": {"metric_name": "m"}, "result": {"result": "pass", "score": 2}}]
        )
    ),
    "a newer version": broken(lambda document: document.update(schema_version=99)),
    "a bad threshold": broken(lambda document: document.update(default_threshold="high")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_in_the_words_of_every_other_phase(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "evaluated.json"
    path.write_text(FAULTS[fault], encoding="utf-8")
    with pytest.raises(InputError) as expected:
        read_phase_file(path, EvaluatedExperiment, made_by="evaluate")
    with pytest.raises(InputError) as found:
        read(path)
    assert (found.value.message, found.value.hint) == (expected.value.message, expected.value.hint)


def test_scenarios_given_twice_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "evaluated.json"
    path.write_text('{"scenarios": [], "scenarios": []}')
    with pytest.raises(InputError, match="twice"):
        read(path)


def test_a_missing_file_names_the_phase_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(InputError) as found:
        read(tmp_path / "nothing.json")
    assert "testbench evaluate" in found.value.hint


def test_what_is_kept_in_memory_counts_and_decides_the_same() -> None:
    made = experiment(200)
    kept = made.model_copy(update={"scenarios": tuple(map(without_texts, made.scenarios))})
    assert summarize(kept) == summarize(made)
    assert reach_verdict(kept, Policy(min_pass_rate=0.7, max_error_rate=0.1)) == reach_verdict(
        made, Policy(min_pass_rate=0.7, max_error_rate=0.1)
    )
    kept_text = kept.model_dump_json()
    assert "Shall I reserve seats" not in kept_text
    assert "the verdict you asked for" not in kept_text


def test_a_long_reason_of_a_judge_is_not_kept() -> None:
    scenario = experiment(1).scenarios[0]
    step = scenario.steps[0]
    evaluation = step.evaluations[0]
    long = evaluation.model_copy(update={"result": evaluation.result.model_copy(update={"reason": "because " * 1000})})
    wordy = scenario.model_copy(update={"steps": (step.model_copy(update={"evaluations": (long,)}),)})
    (kept,) = without_texts(wordy).steps[0].evaluations
    assert (kept.result.reason, kept.result.score) == (None, evaluation.result.score)
