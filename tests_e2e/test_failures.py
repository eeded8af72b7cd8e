"""What goes wrong goes wrong aloud: the exit code of the table, one `error:`, one `hint:`, and no half-written file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from testbench.samples.locate import sample_path
from tests_e2e.conftest import Bench, Ended

EXPERIMENT = "data/datasets/experiment.json"
EXECUTED = "data/experiments/executed_experiment.json"
EVALUATED = "data/experiments/evaluated_experiment.json"


def told(ended: Ended, code: int) -> str:
    """Check the form of a failure and return what its error says."""
    assert ended.code == code, ended
    lines = ended.err.splitlines()
    (error,) = (line for line in lines if line.startswith("error: "))
    (hint,) = (line for line in lines if line.startswith("hint: "))
    assert len(hint) > len("hint: ")
    assert f"(exit {code})" in lines[-1]
    assert "Traceback" not in ended.err + ended.out
    return error


def with_metric(bench: Bench, *metrics: str) -> None:
    ended = bench.run("setup", str(sample_path("weather.csv")), "--limit=2", *(f"--metric={name}" for name in metrics))
    assert ended.code == 0, ended


def test_agent_down(bench: Bench, nobody: str) -> None:
    with_metric(bench, "builtin.tool_calls")
    before = bench.files()
    assert nobody.split("//")[1].rstrip("/") in told(bench.run("run", nobody), 3)
    assert bench.files() == before


def test_judge_down(bench: Bench, weather_agent: str, nobody: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_metric(bench, "Faithfulness")
    assert bench.run("run", weather_agent).code == 0
    monkeypatch.setenv("OPENAI_API_BASE", f"{nobody}/v1")
    ended = bench.run("evaluate", "--model", "judge")
    assert ended.code == 3, ended
    gate = bench.run("gate")
    assert gate.code in (2, 3), "no file, or one without a score: never a verdict"


def test_otlp_down(bench: Bench, weather_agent: str, nobody: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_metric(bench, "builtin.tool_calls")
    assert bench.run("run", weather_agent).code == 0
    assert bench.run("evaluate").code == 0
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", nobody)
    assert nobody.split("//")[1].rstrip("/") in told(bench.run("publish", "w", "e", "1", "--timeout=3"), 3)


def test_empty_dataset(bench: Bench) -> None:
    (bench.folder / "empty.csv").write_text("user_input,reference\n")
    told(bench.run("setup", "empty.csv"), 4)
    assert bench.files() == {"empty.csv"}


def test_dataset_without_user_input(bench: Bench) -> None:
    (bench.folder / "d.csv").write_text("user_imput,reference\nhi,ho\n")
    assert "user_input" in told(bench.run("setup", "d.csv"), 2)
    assert bench.files() == {"d.csv"}


def test_unknown_metric_is_found_before_anything_is_sent(bench: Bench) -> None:
    ended = bench.run("setup", str(sample_path("weather.csv")), "--metric=builtin.tool_cals")
    assert "builtin.tool_cals" in told(ended, 2)
    assert "builtin.tool_calls" in ended.err, "the nearest name is in the hint"
    assert bench.files() == set()


def test_unknown_metric_in_an_executed_file(bench: Bench, weather_agent: str) -> None:
    with_metric(bench, "builtin.tool_calls")
    assert bench.run("run", weather_agent).code == 0
    executed = bench.folder / EXECUTED
    executed.write_text(executed.read_text().replace("builtin.tool_calls", "builtin.tool_cals"))
    before = bench.files()
    ended = bench.run("evaluate")
    assert "builtin.tool_cals" in told(ended, 2)
    assert "builtin.tool_calls" in ended.err, "the nearest name is in the hint"
    assert bench.files() == before | {f"{EVALUATED}.unfinished"}


@pytest.mark.parametrize(
    ("name", "arguments", "path"),
    [
        ("run", ["http://127.0.0.1:1/"], EXPERIMENT),
        ("evaluate", [], EXECUTED),
        ("publish", ["w", "e", "1"], EVALUATED),
        ("visualize", ["w", "e", "1"], EVALUATED),
        ("gate", [], EVALUATED),
    ],
)
@pytest.mark.parametrize("content", [None, b"", b'{"scenarios": [', b"\x00\xff"])
def test_unreadable_json_between_the_phases(
    bench: Bench, name: str, arguments: list[str], path: str, content: bytes | None
) -> None:
    if content is not None:
        target = bench.folder / path
        target.parent.mkdir(parents=True)
        target.write_bytes(content)
    before = bench.files()
    assert path in told(bench.run(name, *arguments), 2)
    marked = name == "evaluate" and content is not None  # beside its output, whose folder is there then
    assert bench.files() == before | ({f"{EVALUATED}.unfinished"} if marked else set())


def test_no_metric_at_all_is_nothing_to_do(bench: Bench, weather_agent: str) -> None:
    with_metric(bench)
    assert bench.run("run", weather_agent).code == 0
    told(bench.run("evaluate"), 4)


def test_an_experiment_without_scenarios_is_nothing_to_do(bench: Bench, weather_agent: str) -> None:
    target = bench.folder / EXPERIMENT
    target.parent.mkdir(parents=True)
    target.write_text('{"scenarios": []}')
    told(bench.run("run", weather_agent), 4)


def test_an_old_answer_is_not_taken_for_a_new_one(bench: Bench, weather_agent: str, nobody: str) -> None:
    """After a run that could not be done, the next phase must not go on with the answers of another experiment."""
    with_metric(bench, "builtin.tool_calls")
    assert bench.run("run", weather_agent).code == 0
    shutil.copy(sample_path("experiment.yaml"), bench.folder / "other.yaml")
    assert bench.run("setup", "other.yaml").code == 0
    assert bench.run("run", nobody).code == 3
    assert bench.run("evaluate").code == 2
    assert not Path(bench.folder / EVALUATED).exists()
