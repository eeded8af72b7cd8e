"""An evaluation that was interrupted goes on: what is judged is kept, what failed or changed is judged again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from testbench.cli.phase import main
from testbench.evaluate import command
from testbench.results.summary import walk_evaluations
from testbench.schema.models import EvaluatedExperiment, ExecutedExperiment
from tests.support.metric_samples import experiment, metric, scenario, step
from tests.support.servers.scripted_judge import ScriptedJudge

ROOT = Path(__file__).parents[1]
SCENARIOS = 12
ARGUMENTS = ["--input", "in.json", "--output", "out.json", "--model", "m", "--no-cache", "--concurrency", "1"]


@pytest.fixture(autouse=True)
def work_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answers(criteria: str = "polite") -> ExecutedExperiment:
    rubric = metric("builtin.judge", 0.5, criteria=criteria)
    return experiment(*(scenario(step(f"Answer {n}.", metrics=(rubric,)), name=f"s{n}") for n in range(SCENARIOS)))


def write(executed: ExecutedExperiment) -> None:
    Path("in.json").write_text(executed.model_dump_json(exclude_none=True))


def interrupted_after(
    judge: ScriptedJudge, requests: int, stop: signal.Signals, first: int = 200
) -> subprocess.CompletedProcess[str]:
    """Start the script, let so many requests through, and stop it while the next one hangs."""
    judge.statuses(first, *[200] * (requests - 1))
    judge.hang_next(10_000)
    script = [sys.executable, str(ROOT / "testbench" / "evaluate.py"), *ARGUMENTS]
    process = subprocess.Popen(
        script, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    judge.wait_requests(requests + 1)
    process.send_signal(stop)
    out, err = process.communicate(timeout=30)
    judge._faults.clear()
    judge.release()
    return subprocess.CompletedProcess(script, process.returncode, out, err)


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_what_was_judged_is_not_judged_again(polite: ScriptedJudge, stop: signal.Signals, code: int) -> None:
    write(answers())
    stopped = interrupted_after(polite, 5, stop)
    assert stopped.returncode == code
    assert not Path("out.json").exists()
    if code > 0:
        assert f"Take it up again with: python {ROOT}/testbench/evaluate.py" in stopped.stderr
    before = len(polite.chats)
    assert main(command, ARGUMENTS) == 0
    again = len(polite.chats) - before
    assert SCENARIOS - 5 <= again <= SCENARIOS - 3  # two scenarios are in flight for each request
    found = EvaluatedExperiment.model_validate_json(Path("out.json").read_text())
    assert [one.name for one in found.scenarios] == [f"s{n}" for n in range(SCENARIOS)]
    assert {item.status for item in walk_evaluations(found)} == {"pass"}
    assert sorted(path.name for path in Path().iterdir()) == ["in.json", "out.json"]


def test_what_failed_is_judged_again(polite: ScriptedJudge) -> None:
    write(answers())
    interrupted_after(polite, 6, signal.SIGTERM, first=400)
    assert main(command, ARGUMENTS) == 0
    found = EvaluatedExperiment.model_validate_json(Path("out.json").read_text())
    assert {item.status for item in walk_evaluations(found)} == {"pass"}


def test_another_evaluation_does_not_go_on_with_it(polite: ScriptedJudge) -> None:
    write(answers())
    interrupted_after(polite, 5, signal.SIGTERM)
    write(answers("rude"))
    before = len(polite.chats)
    assert main(command, ARGUMENTS) == 0
    assert len(polite.chats) - before == SCENARIOS


def test_fresh_judges_all_again(polite: ScriptedJudge) -> None:
    write(answers())
    interrupted_after(polite, 5, signal.SIGTERM)
    before = len(polite.chats)
    assert main(command, [*ARGUMENTS, "--fresh"]) == 0
    assert len(polite.chats) - before == SCENARIOS


def test_a_file_without_ids_is_judged_from_the_beginning(polite: ScriptedJudge) -> None:
    executed = answers()
    write(
        executed.model_copy(
            update={"scenarios": tuple(one.model_copy(update={"id": ""}) for one in executed.scenarios)}
        )
    )
    assert main(command, ARGUMENTS) == 0
    found = EvaluatedExperiment.model_validate_json(Path("out.json").read_text())
    assert len(found.scenarios) == SCENARIOS
