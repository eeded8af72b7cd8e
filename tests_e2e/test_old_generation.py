"""Agents on the SDK of generation 0.3, which cannot be installed beside ours: a real one in its own environment."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from testbench.schema.models import ExecutedExperiment, ExecutedStep
from tests_e2e.conftest import ROOT, Bench

EXPERIMENT = "data/datasets/experiment.json"
EXECUTED = "data/experiments/executed_experiment.json"
SDK = "a2a-sdk[http-server]==0.3.*"
READY = "ready at "


def uv() -> str:
    found = shutil.which("uv") or str(ROOT / ".tools/uv/bin/uv")
    assert shutil.which(found), "this test needs uv: `make install` brings it"
    return found


@pytest.fixture(scope="module")
def old_agent() -> Iterator[str]:
    """The address of the agent."""
    server = str(ROOT / "tests_e2e/old_generation_server.py")
    alone = ["--isolated", "--no-project", "--python", sys.executable, "--with", SDK, "--with", "uvicorn"]
    command = [uv(), "run", "--quiet", *alone, "python", server]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as agent:
        try:
            assert agent.stdout is not None
            line = agent.stdout.readline()
            assert line.startswith(READY), line
            yield line.removeprefix(READY).strip()
        finally:
            agent.terminate()


def conversations(bench: Bench, url: str, *asked: tuple[str, ...]) -> list[tuple[ExecutedStep, ...]]:
    """What became of each conversation."""
    scenarios = [
        {"name": f"scenario {number}", "steps": [{"input": text} for text in texts]}
        for number, texts in enumerate(asked, start=1)
    ]
    path = bench.folder / EXPERIMENT
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"scenarios": scenarios}))
    ended = bench.run("run", url)
    assert ended.code == 0, ended
    executed = ExecutedExperiment.model_validate(bench.read(EXECUTED))
    assert executed.run is not None
    record = executed.run
    assert (record.agent_name, record.agent_version, record.protocol_version) == ("old agent", "3", "0.3.0")
    return [scenario.steps for scenario in executed.scenarios]


def test_every_way_in_which_an_old_agent_answers_is_understood(bench: Bench, old_agent: str) -> None:
    remembered, said, chunks, tools, polled, failed, other = conversations(
        bench, old_agent, ("one", "two"), ("message hi",), ("chunks",), ("tool",), ("poll",), ("fail",), ("three",)
    )
    assert [step.answer for step in remembered] == ["one", "one | two"], "a task a step, one context for all of them"
    assert remembered[0].context_id == remembered[1].context_id is not None
    assert remembered[0].task_id != remembered[1].task_id
    assert [step.answer for step in said] == ["said: message hi"]
    assert [step.answer for step in chunks] == ["It is sunny in Berlin."]
    assert [step.answer for step in tools] == ["tool"]
    calls = [call for turn in tools[0].turns for call in turn.tool_calls or ()]
    assert [(call.name, call.args) for call in calls] == [("get_weather", {"city": "Berlin"})]
    assert [step.answer for step in polled] == ["poll"]
    assert failed[0].error is not None
    assert (failed[0].error.kind, failed[0].error.message) == ("failed", "no ticket")
    assert [step.answer for step in other] == ["three"], "no other conversation's words"


def test_an_old_agent_that_asks_back_goes_on_with_the_same_task(bench: Bench, old_agent: str) -> None:
    ((asked, answered),) = conversations(bench, old_agent, ("ask", "Berlin"))
    assert asked.answer == "which city?"
    assert answered.answer == "ask | Berlin"
    assert asked.task_id == answered.task_id is not None
