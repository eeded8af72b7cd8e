"""`gate.py` as its users call it: its files, its exit codes, and that nothing old or missing is taken for a pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from testbench.cli.phase import main
from testbench.gate import command
from testbench.results.verdict import Verdict
from testbench.schema.files import write_model
from testbench.schema.models import EvaluatedExperiment
from tests.support.gate_samples import METRIC, attempts, recorded, run_of, scenario, scored

if TYPE_CHECKING:
    from tests.support.servers.s3_store import S3Store


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def gate(experiment: EvaluatedExperiment, *arguments: str) -> int:
    write_model(Path("evaluated.json"), experiment)
    return main(command, ["--input", "evaluated.json", *arguments])


def written() -> Verdict:
    return Verdict.model_validate_json(Path("data/results/verdict.json").read_bytes())


def passes(number: int, *, fails: int = 0) -> list[dict[str, object]]:
    return [scenario(f"s{n}", "fail" if n < fails else "pass") for n in range(number)]


def test_an_old_verdict_does_not_outlive_an_input_that_cannot_be_read(folder: Path) -> None:
    assert gate(run_of(scenario("a", "pass")), "--summary", "data/results/summary.md") == 0
    results = folder / "data/results"
    assert {path.name for path in results.iterdir()} == {"verdict.json", "junit.xml", "summary.md"}
    (folder / "evaluated.json").write_text("garbage")
    assert main(command, ["--input", "evaluated.json", "--summary", "data/results/summary.md"]) == 2
    assert list(results.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("--output", "evaluated.json"),
        ("--junit", "./evaluated.json"),
        ("--summary", "before.json", "--baseline", "before.json"),
        ("--summary", "data/results/junit.xml"),
    ],
)
def test_no_file_is_written_over_another(
    folder: Path, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(Path("before.json"), run_of(*passes(3), **recorded(day=1)))
    assert gate(run_of(*passes(3), **recorded(day=2)), *arguments) == 2
    assert "are the same file" in capsys.readouterr().err
    assert {path.name for path in folder.iterdir()} == {"before.json", "evaluated.json"}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), 1),
        (("--min-pass-rate", "0.5"), 0),
        (("--threshold", f"{METRIC}=0.3"), 0),
        (("--threshold", f"{METRIC}=0.9", "--min-pass-rate", "0.1"), 1),
        (("--only", "smoke"), 0),
        (("--only", "other"), 1),
        (("--only", "smoke", "--only", "other"), 1),
        (("--only", "smok"), 2),
        (("--threshold", "builtin.exact=0.3"), 2),
        (("--threshold", METRIC), 2),
        (("--threshold", f"{METRIC}=0.9", "--threshold", f"{METRIC}=0.1"), 2),
        (("--threshold", f"{METRIC}=nan"), 2),
        (("--threshold", f"{METRIC}=1.2"), 2),
        (("--min-coverage", "1.1"), 2),
        (("--min-coverage", "1"), 1),
        (("--alpha", "0"), 2),
    ],
)
def test_options_and_exit_codes(folder: Path, arguments: tuple[str, ...], code: int) -> None:
    run = run_of(scored("a", 0.8, tags=["smoke"]), scored("b", 0.4, tags=["other"]))
    assert gate(run, *arguments) == code
    assert (folder / "data/results/verdict.json").exists() == (code != 2)


def test_the_screen_says_what_the_file_says(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gate(run_of(*attempts("a", "pass", "fail", tags=["smoke"])), "--min-pass-rate", "0.5") == 0
    shown = capsys.readouterr().out
    assert "  tag smoke: pass, 1 of 2 passed\n" in shown
    assert "  flaky 1/2: a: a 1\n" in shown
    alone = "evaluated.json is judged for itself: it does not say what it was made of"
    assert shown.splitlines()[-1] == f"gate: done (exit 0): {written().sentence} ({alone})"


def test_json_is_the_verdict_and_nothing_else(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gate(run_of(scenario("a", "fail")), "--json") == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["phase"], said["exit_code"], said["verdict"]) == ("gate", 1, "fail")
    assert Verdict.model_validate(said) == Verdict.model_validate({**written().model_dump(), "phase": "gate"})


def test_an_unchanged_agent_is_no_worse_than_its_baseline(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(Path("before.json"), run_of(*passes(20), **recorded(day=1)))
    assert gate(run_of(*passes(20), **recorded(day=2)), "--baseline", "before.json") == 0
    assert "Not worse than the baseline beyond chance: pass rate 100.0% before" in written().sentence
    assert "With these 20 steps once each, a drop of the pass rate under" in capsys.readouterr().out


def test_a_regression_fails_although_the_thresholds_hold(folder: Path) -> None:
    write_model(Path("before.json"), run_of(*passes(20), **recorded(day=1)))
    now = run_of(*passes(20, fails=8), **recorded(day=2))
    assert gate(now, "--min-pass-rate", "0.5") == 0
    assert gate(now, "--min-pass-rate", "0.5", "--baseline", "before.json") == 1
    verdict = written()
    assert verdict.sentence.startswith("FAIL: 12 of 20 steps passed (50% required). Worse than the baseline")
    assert verdict.baseline is not None
    assert [change.id for change in verdict.baseline.worse] == [f"stp_s{n}_1" for n in range(8)]
    assert gate(now, "--min-pass-rate", "0.5", "--baseline", "before.json", "--tolerance", "0.5") == 0


def test_a_baseline_in_an_object_store(folder: Path, s3: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    before = run_of(*passes(20), **recorded(day=1))
    address = s3.put("baselines", "main/evaluated.json", before.model_dump_json(exclude_none=True).encode())
    assert gate(run_of(*passes(20, fails=8), **recorded(day=2)), "--baseline", address, "--min-pass-rate", "0.5") == 1
    verdict = written()
    assert verdict.baseline is not None
    assert verdict.baseline.source == address


@pytest.mark.parametrize(
    "content", [None, "", "[]", '{"scenarios": 1}', "not json", '{"scenarios": [], "scenarios": []}']
)
def test_a_baseline_that_cannot_be_read_is_no_pass(
    folder: Path, content: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (folder / "before.json").write_text(content)
    assert gate(run_of(scenario("a", "pass")), "--baseline", "before.json") == 2
    error = capsys.readouterr().err
    assert "error: before.json: " in error
    assert "hint: --baseline takes" in error
    assert not (folder / "data/results/verdict.json").exists()


def test_a_baseline_that_is_not_in_the_store_is_no_pass(
    folder: Path, s3: S3Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    s3.put("baselines", "broken.json", b"{")
    assert gate(run_of(scenario("a", "pass")), "--baseline", "s3://baselines/none.json") == 2
    assert gate(run_of(scenario("a", "pass")), "--baseline", "s3://baselines/broken.json") == 2
    assert "error: s3://baselines/broken.json: " in capsys.readouterr().err


def test_a_store_that_is_down_is_no_pass(folder: Path, nobody: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", nobody)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert gate(run_of(scenario("a", "pass")), "--baseline", "s3://baselines/x.json") == 3
    assert not (folder / "data/results/verdict.json").exists()


def test_the_files_of_a_regression_all_say_fail(folder: Path) -> None:
    """Every step passes its threshold: only the baseline knows."""
    write_model(Path("before.json"), run_of(*(scored(f"s{n}", 0.9) for n in range(12)), **recorded(day=1)))
    now = run_of(*(scored(f"s{n}", 0.6) for n in range(12)), **recorded(day=2))
    assert gate(now, "--baseline", "before.json", "--summary", "summary.md") == 1
    assert written().verdict == "fail"
    assert 'failures="1"' in Path("data/results/junit.xml").read_text()
    assert Path("summary.md").read_text().startswith("## ❌ FAIL: ")


def test_the_run_itself_is_no_baseline(folder: Path) -> None:
    run = run_of(*passes(20), **recorded())
    assert gate(run, "--baseline", "evaluated.json") == 3
    verdict = written()
    assert verdict.sentence == "NO VERDICT: 20 of 20 steps passed, but the baseline is not comparable."
    assert verdict.baseline is not None
    assert verdict.baseline.obstacles == ("The baseline is this very run: a run is never worse than itself.",)
