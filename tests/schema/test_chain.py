"""What the files of a chain say of each other, apart from the phases that write them (`tests/test_chain.py`)."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from testbench.errors import InputError
from testbench.schema.chain import (
    Mark,
    check_input,
    leave_mark,
    made_of,
    mark_path,
    mark_unfinished,
    read_input,
    read_mark,
    relocate,
)
from testbench.schema.files import write_model
from testbench.schema.models import ExecutedExperiment, MadeOf, RunRecord

BEGUN = datetime(2026, 11, 28, 12, 3, tzinfo=UTC)


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    path = tmp_path / "datasets/experiment.json"
    path.parent.mkdir()
    path.write_text('{"scenarios": []}')
    return path


@pytest.fixture
def executed(experiment: Path) -> Path:
    path = experiment.parent.parent / "experiments/executed.json"
    run = RunRecord(
        agent_url="http://agent",
        workflow_name="w",
        testbench_version="1",
        started_at=BEGUN,
        wall_seconds=1,
        made_of=(made_of(experiment, path),),
    )
    write_model(path, ExecutedExperiment(run=run, scenarios=()))
    return path


def read(path: Path, *, accept_stale: bool = False) -> str:
    return read_input(path, ExecutedExperiment, made_by="run", accept_stale=accept_stale)[1]


def test_a_chain_that_holds_needs_no_word(executed: Path) -> None:
    assert read(executed) == ""


def test_an_experiment_that_is_another_one_by_now_is_named(executed: Path, experiment: Path) -> None:
    experiment.write_text('{"scenarios": [ ]}')
    with pytest.raises(InputError) as raised:
        read(executed)
    assert str(executed) in raised.value.message
    assert str(experiment) in raised.value.message
    assert "Call run, then evaluate again." in raised.value.hint
    assert "taken on purpose although" in read(executed, accept_stale=True)


def test_a_file_that_was_carried_elsewhere_is_judged_for_itself(executed: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "mail/today/executed.json"
    elsewhere.parent.mkdir(parents=True)
    elsewhere.write_bytes(executed.read_bytes())
    assert "is judged for itself" in read(elsewhere)


def test_the_mark_of_a_source_counts_and_both_runs_are_named(executed: Path, experiment: Path) -> None:
    leave_mark(experiment, "setup", "testbench setup other.csv", "other.csv: no such file")
    with pytest.raises(InputError) as raised:
        read(executed)
    assert "other.csv: no such file" in raised.value.message
    assert "what lies there is of the run of 2026-11-28 12:03:00 UTC" in raised.value.message
    assert raised.value.hint.endswith("Repeat what failed: testbench setup other.csv")


def test_a_file_that_was_never_made_says_why(tmp_path: Path) -> None:
    leave_mark(tmp_path / "executed.json", "run", "testbench run http://agent", "nobody listens")
    with pytest.raises(InputError, match="nobody listens"):
        read(tmp_path / "executed.json")


def test_a_mark_is_there_while_the_work_goes_on_and_gone_after_it(tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    with mark_unfinished(output, "run", "testbench run", str):
        assert read_mark(output) is not None
    assert read_mark(output) is None


def test_a_mark_that_cannot_be_read_is_a_mark(tmp_path: Path) -> None:
    mark_path(tmp_path / "out.json").write_bytes(b"")
    assert read_mark(tmp_path / "out.json") == Mark()


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt("stopped")])
def test_what_ended_the_work_is_kept_without_control_characters(tmp_path: Path, error: BaseException) -> None:
    output = tmp_path / "out.json"
    with pytest.raises(type(error)), mark_unfinished(output, "run", "testbench run", lambda e: f"\x1b[31m{e}"):
        raise error
    mark = read_mark(output)
    assert mark is not None
    assert str(error) in mark.reason
    assert "\x1b" not in mark.reason


def test_sources_are_named_from_the_folder_of_the_new_file(tmp_path: Path) -> None:
    sources = (MadeOf(path="../datasets/experiment.json", digest="sha256:0"),)
    moved = relocate(sources, tmp_path / "a/b/part.json", tmp_path / "whole.json")
    assert [source.path for source in moved] == ["a/datasets/experiment.json"]


def test_a_file_of_another_program_in_the_usual_place_honours_the_marks_of_the_usual_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    document = ExecutedExperiment(scenarios=())
    usual = Path("data/experiments/executed_experiment.json")
    assert check_input(usual, document) == ""
    leave_mark(Path("data/datasets/experiment.json"), "setup", "testbench setup x", "x: no such file")
    with pytest.raises(InputError, match="no such file"):
        check_input(usual, document)
