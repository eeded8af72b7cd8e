"""Files between the phases: whole or not at all, and every fault told with its place."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from testbench.errors import InputError, StoreError
from testbench.schema.files import read_experiment, read_phase_file, write_bytes, write_model
from testbench.schema.models import ExecutedExperiment, Experiment


def test_a_writer_that_dies_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.json"
    write_bytes(target, b"old")

    def disk_full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(StoreError, match="No space left on device"):
        write_bytes(target, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]
    assert target.read_bytes() == b"old"


def test_a_folder_that_cannot_be_made_is_an_error_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file, not a folder")
    with pytest.raises(StoreError, match="cannot be written"):
        write_bytes(tmp_path / "data" / "out.json", b"x")


def test_a_new_file_can_be_read_by_others(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_bytes(tmp_path / "out.json", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "out.json").stat().st_mode & 0o777 == 0o644


def test_a_missing_file_names_the_phase_that_writes_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file") as caught:
        read_phase_file(tmp_path / "x.json", Experiment, made_by="setup")
    assert "testbench setup" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "EOF while parsing"),
        (b'{"scenarios": [', "EOF while parsing"),
        (b"\xff\xfe", "Invalid JSON"),
        (b"null", "the document"),
        (b'{"scenarios": [{"name": "a", "steps": [{"input": 3}]}]}', "scenarios[0].steps[0].input"),
        (b'{"schema_version": 2, "scenarios": []}', "schema_version 2 is newer"),
    ],
)
def test_a_broken_file_is_told_by_path_and_place(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "experiment.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_phase_file(path, ExecutedExperiment, made_by="run")
    assert caught.value.message.startswith(f"{path}: ")
    assert message in caught.value.message
    assert "\n" not in caught.value.message


def test_an_experiment_reads_the_same_from_yaml_and_json(tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_text(
        "scenarios:\n- name: day\n  steps:\n  - {input: when, custom_values: {day: 2026-01-02}}\n"
    )
    steps = [{"input": "when", "custom_values": {"day": "2026-01-02"}}]
    (tmp_path / "e.json").write_text(json.dumps({"scenarios": [{"name": "day", "steps": steps}]}))
    assert read_experiment(tmp_path / "e.yaml") == read_experiment(tmp_path / "e.json")


def grown(first: str, further: str) -> str:
    """A few lines of YAML, each of which stands for nine of the one before."""
    lines = [f"a0: &a0 {first}"]
    lines += [f"a{n}: &a{n} {further.format(', '.join([f'*a{n - 1}'] * 9))}" for n in range(1, 9)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("e.yaml", "scenarios: [", "not valid YAML"),
        ("e.yaml", "scenarios: []\nscenarios: []", "given twice"),
        ("e.yaml", "scenarios: []\n---\nscenarios: []", "2 documents"),
        ("e.yaml", grown("{k: 1, l: 1}", "{{<<: [{}]}}"), "more than"),
        ("e.yaml", grown("[1, 1]", "[{}]"), "more than"),
        ("e.yaml", "!!python/object/apply:os.system ['true']", "not valid YAML"),
        ("e.json", "{", "not valid JSON"),
        ("e.json", "[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_document_is_an_input_error(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        read_experiment(tmp_path / name)


def test_an_experiment_written_scenario_by_scenario_reads_as_if_written_whole(tmp_path: Path) -> None:
    steps = [{"input": 'a\n  "scenarios": []', "custom_values": {"scenarios": []}}, {"input": "b"}]
    for scenarios in ([], [{"name": '\n  "scenarios": []', "steps": steps}, {"name": "b", "steps": steps}]):
        experiment = Experiment.model_validate({"scenarios": scenarios})
        write_model(tmp_path / "out.json", experiment)
        whole = experiment.model_dump_json(indent=2, exclude_none=True)
        assert (tmp_path / "out.json").read_text() == f"{whole}\n"
