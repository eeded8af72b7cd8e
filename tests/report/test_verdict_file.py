"""The verdict that the gate wrote, as the report reads it: only one on the same experiment is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbench.errors import InputError
from testbench.gating.decision import reach_verdict
from testbench.report.view import read_verdict
from testbench.results.verdict import Policy
from testbench.schema.files import write_model
from tests.support.report_factory import experiment


def test_a_verdict_on_another_experiment_is_refused(tmp_path: Path) -> None:
    made = experiment(5)
    path = tmp_path / "verdict.json"
    write_model(path, reach_verdict(made, Policy()))
    assert read_verdict(path, made) == reach_verdict(made, Policy())
    with pytest.raises(InputError, match="exp_other"):
        read_verdict(path, made.model_copy(update={"id": "exp_other"}))


@pytest.mark.parametrize("content", ["", "{}", '{"verdict": "splendid"}'])
def test_a_verdict_that_cannot_be_read_is_no_verdict(tmp_path: Path, content: str) -> None:
    path = tmp_path / "verdict.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"verdict\.json"):
        read_verdict(path, experiment(3))


def test_a_verdict_that_is_missing_names_the_gate(tmp_path: Path) -> None:
    with pytest.raises(InputError) as found:
        read_verdict(tmp_path / "verdict.json", experiment(3))
    assert "testbench gate" in found.value.hint
