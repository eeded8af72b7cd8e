"""The setup phase from its command line: what it writes, what it says, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from testbench.cli.phase import main
from testbench.samples.locate import sample_path
from testbench.schema.files import read_phase_file
from testbench.schema.models import Experiment, Metric
from testbench.setup import command
from tests.support.servers.s3_store import S3Store
from tests.support.servers.static_files import StaticFiles
from tests.support.setup_phase import file_of, json_of, steps_of

ROOT = Path(__file__).parents[1]
CSV = "user_input,scenario,metrics\nfirst,a,\nsecond,,Faithfulness=0.5\nthird,a,\n"


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(path: str = "data/datasets/experiment.json") -> Experiment:
    return read_phase_file(Path(path), Experiment, made_by="setup")


def test_a_dataset_becomes_an_experiment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file_of(tmp_path, "rows.csv", CSV)
    code = main(
        command,
        [
            "rows.csv",
            "--metric",
            "ExactMatch=0.7",
            "--metric",
            "AnswerRelevancy",
            "--model",
            "judge",
            "--default-threshold",
            "0.6",
        ],
    )
    said = capsys.readouterr()
    assert (code, said.out) == (
        0,
        "setup: done (exit 0): 2 scenarios with 3 steps and 1 to 2 metrics each -> data/datasets/experiment.json\n",
    )
    assert "warning" not in said.err
    experiment = written()
    assert (experiment.llm_as_a_judge_model, experiment.default_threshold) == ("judge", 0.6)
    assert [(scenario.name, [step.input for step in scenario.steps]) for scenario in experiment.scenarios] == [
        ("a", ["first", "third"]),
        ("second", ["second"]),
    ]
    first, _, second = steps_of(experiment)
    assert first.metrics == (Metric(metric_name="ExactMatch", threshold=0.7), Metric(metric_name="AnswerRelevancy"))
    assert second.metrics == (Metric(metric_name="Faithfulness", threshold=0.5),)


def test_json_says_what_was_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file_of(tmp_path, "rows.csv", CSV)
    assert main(command, ["rows.csv", "--json", "--limit", "2", "--output", "out/e.json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "phase": "setup",
        "exit_code": 0,
        "scenarios": 2,
        "steps": 2,
        "metrics": ["Faithfulness"],
        "output": "out/e.json",
    }
    assert len(steps_of(written("out/e.json"))) == 2


@pytest.mark.parametrize("name", ["weather.csv", "weather.json", "weather.parquet", "experiment.yaml"])
def test_the_samples_are_datasets(name: str) -> None:
    assert main(command, [str(sample_path(name))]) == 0
    assert steps_of(written())


def test_the_same_dataset_gives_the_same_bytes(tmp_path: Path) -> None:
    file_of(tmp_path, "rows.csv", CSV)
    for output in ("one.json", "two.json"):
        assert main(command, ["rows.csv", "--output", output]) == 0
    assert Path("one.json").read_bytes() == Path("two.json").read_bytes()


def test_settings_come_from_the_environment_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file_of(tmp_path, "rows.csv", CSV.replace("scenario", "thread"))
    file_of(tmp_path, "m.yaml", "- StringPresence")
    for name, value in {
        "METRIC": "ExactMatch AnswerRelevancy=0.5",
        "METRICS": "m.yaml",
        "SCENARIO_COLUMN": "thread",
        "LIMIT": "1",
    }.items():
        monkeypatch.setenv(f"TESTBENCH_SETUP_{name}", value)
    assert main(command, ["rows.csv"]) == 0
    (only,) = steps_of(written())
    assert [metric.metric_name for metric in only.metrics] == ["ExactMatch", "AnswerRelevancy", "StringPresence"]
    assert written().scenarios[0].name == "a"


def test_a_dataset_from_the_web_and_one_from_an_object_store(
    files: StaticFiles, s3: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    assert main(command, [files.add("rows.csv", CSV), "--output", "web.json"]) == 0
    assert main(command, [s3.put("datasets", "rows.csv", CSV.encode()), "--output", "store.json"]) == 0
    assert Path("web.json").read_bytes() == Path("store.json").read_bytes()


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="the system has no /dev/fd")
def test_a_dataset_from_a_pipe() -> None:
    receiving, sending = os.pipe()
    os.write(sending, b"user_input\nfirst\n")
    os.close(sending)
    assert main(command, [f"/dev/fd/{receiving}"]) == 0
    os.close(receiving)
    assert len(steps_of(written())) == 1


def test_no_metric_anywhere_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file_of(tmp_path, "rows.csv", "user_input\nfirst\n")
    assert main(command, ["rows.csv"]) == 0
    said = capsys.readouterr()
    assert "warning: no step and no scenario names a metric" in said.err
    assert said.out.startswith("setup: done (exit 0): 1 scenario with 1 step and 0 metrics each -> ")


def test_steps_without_a_metric_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file_of(tmp_path, "rows.csv", CSV)
    assert main(command, ["rows.csv"]) == 0
    assert "warning: 2 of 3 steps name no metric" in capsys.readouterr().err


def test_metrics_of_a_whole_scenario_are_metrics(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenario = {
        "name": "x",
        "steps": [{"input": "a"}],
        "metrics": [{"metric_name": "AgentGoalAccuracyWithoutReference"}],
    }
    json_of(tmp_path, {"scenarios": [scenario]}, "e.json")
    assert main(command, ["e.json", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["metrics"] == ["AgentGoalAccuracyWithoutReference"]
    assert "1 of 1 steps name no metric" in said.err


def test_a_column_that_is_nearly_one_of_ours_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file_of(tmp_path, "rows.csv", "user_input,refrence\nfirst,x\n")
    assert main(command, ["rows.csv"]) == 0
    assert "'refrence' is kept as a custom value; is 'reference' what is meant?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "arguments", "code", "error"),
    [
        ("user_input\n", [], 4, "rows.csv: no rows"),
        ("", [], 4, "rows.csv: is empty"),
        ("question\nfirst\n", [], 2, "rows.csv: no column 'user_input' (or 'input'); there is: question"),
        ("user_input,own\nfirst\n", [], 2, "rows.csv: row 1 (line 2): has 1 cells"),
        ("user_input\nfirst\n", ["--scenario-column", "thread"], 2, "no column 'thread'; there is: user_input"),
        ("user_input\nfirst\n", ["--metric", "A=2"], 2, "--metric: not a metric: threshold"),
        ("user_input\nfirst\n", ["--metrics", "none.yaml"], 2, "none.yaml: no such file"),
        ("user_input\nfirst\n", ["--default-threshold", "2"], 2, "'--default-threshold': 2.0 is not in the range"),
        ("user_input\nfirst\n", ["--limit", "0"], 2, "'--limit': 0 is not in the range"),
    ],
)
def test_bad_input_ends_with_an_error_a_hint_and_the_file_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, arguments: list[str], code: int, error: str
) -> None:
    file_of(tmp_path, "rows.csv", content)
    file_of(tmp_path, "experiment.json", "what was there")
    assert main(command, ["rows.csv", "--output", "experiment.json", *arguments]) == code
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == [line for line in lines if error in line]
    assert [line for line in lines if line.startswith("hint: ") and len(line) > len("hint: ")]
    assert lines[-1].startswith("setup: ")
    assert f"(exit {code})" in lines[-1]
    names = ["experiment.json", "experiment.json.unfinished", "rows.csv"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert Path("experiment.json").read_text() == "what was there"


def test_a_dataset_that_is_not_there_is_bad_input_and_a_server_that_is_down_is_not(
    files: StaticFiles, nobody: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [main(command, [place]) for place in ("none.csv", ".", files.url("none.csv"), f"{nobody}/rows.csv")] == [
        2,
        2,
        2,
        3,
    ]
    assert capsys.readouterr().err.count("\nhint: ") == 4
    assert not Path("data").exists()


def test_a_download_that_breaks_off_leaves_nothing_behind(
    files: StaticFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    assert main(command, [files.add_cut("rows.csv", CSV, sent=30)]) == 3
    assert main(command, [files.add("broken.csv", "user_input,own\nx\n")]) == 2
    assert not list(folder.iterdir())
    assert not Path("data").exists()


def test_no_room_for_a_download_is_an_error(
    files: StaticFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "is not there"))
    assert main(command, [files.add("rows.csv", CSV)]) == 3
    assert "TMPDIR" in capsys.readouterr().err


def test_a_dataset_cannot_drive_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file_of(tmp_path, "rows.csv", "user_input,\x1b[31mred\x1b[0m\nfirst\n")
    assert main(command, ["rows.csv"]) == 2
    file_of(tmp_path, "rows.csv", "\x1b[31mquestion\nfirst\n")
    assert main(command, ["rows.csv"]) == 2
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("dataset", "unused"), [("rows.csv", {"pandas", "pyarrow", "obstore", "httpx"}), ("rows.json", {"pyarrow"})]
)
def test_only_what_a_dataset_needs_is_imported(tmp_path: Path, dataset: str, unused: set[str]) -> None:
    file_of(tmp_path, "rows.csv", "user_input\nfirst\n")
    json_of(tmp_path, [{"user_input": "first"}])
    code = (
        "import sys; from testbench.cli.phase import main; from testbench.setup import command\n"
        f"assert main(command, [{dataset!r}]) == 0\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    )
    environment: dict[str, Any] = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert not set(done.stdout.split()) & (unused | {"ragas", "a2a", "langchain_core", "openai"})
