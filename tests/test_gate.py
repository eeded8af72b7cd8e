"""The gate's files: a verdict of an earlier run is never left to be taken for this one's."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbench.command import main
from testbench.gate import command
from testbench.schema.files import write_model
from tests.test_verdict import experiment, step


def test_an_old_verdict_does_not_outlive_an_input_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    evaluated = tmp_path / "evaluated.json"
    write_model(evaluated, experiment(step("pass")))
    assert main(command, ["--input", str(evaluated)]) == 0
    assert {path.name for path in (tmp_path / "data/results").iterdir()} == {"verdict.json", "junit.xml"}
    evaluated.write_text("garbage")
    assert main(command, ["--input", str(evaluated)]) == 2
    assert list((tmp_path / "data/results").iterdir()) == []
