"""The chain of evidence: whatever fails or is killed in between, no later phase takes an earlier result for this one's.

The phases are called as their users call them, in one folder, in any order.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from testbench import evaluate, gate, run, setup, visualize
from testbench.cli.phase import main
from testbench.schema.chain import Mark, write_mark
from tests.support.servers.loopback import nobody_listens
from tests.support.servers.scripted_agent import ScriptedAgent

EXPERIMENT = Path("data/datasets/experiment.json")
EXECUTED = Path("data/experiments/executed_experiment.json")
EVALUATED = Path("data/experiments/evaluated_experiment.json")
REPORT = Path("data/results/evaluation_report.html")
ROW = {"user_input": "sunny", "metrics": "builtin.contains"}
ATTEMPTS = (
    *("setup right", "setup wrong", "setup missing", "setup killed"),
    *("run", "run down", "run killed", "run mistyped"),
    *("evaluate", "evaluate refused", "evaluate killed", "evaluate mistyped"),
)
COMPLETE = ("setup right", "run", "evaluate")


@pytest.fixture(scope="module")
def addresses() -> Iterator[tuple[str, str]]:
    """An agent's, and one at which nobody listens."""
    with ScriptedAgent() as agent, nobody_listens() as nobody:
        yield agent.url, nobody


@dataclass
class Phases:
    """The phases in the current folder, and what a verdict may say after them."""

    agent: str
    nobody: str
    expected: str | None = None
    """Of the last setup: whether the agent's answer is right or wrong for it; None while there is no such result."""
    answered: str | None = None
    """The digest of the experiment that the last run has sent."""
    judged: str | None = None
    """The digest of the answers that the last evaluation has judged."""

    def attempt(self, name: str) -> int:
        """Call a phase, or leave what a process leaves that is killed in it; its exit code."""
        phase, _, how = name.partition(" ")
        code = getattr(self, f"_{phase}")(how)
        assert isinstance(code, int)
        return code

    def allowed(self) -> int | None:
        """The exit code that the gate owes to the last complete chain; None where there is none."""
        whole = self.answered == digest(EXPERIMENT) and self.judged == digest(EXECUTED)
        if not whole or self.expected is None:
            return None
        return 0 if self.expected == "right" else 1

    def _setup(self, how: str) -> int:
        if how == "killed":
            code = killed("setup", EXPERIMENT)
        else:
            for name, reference in (("right", "sunny"), ("wrong", "rain")):
                Path(f"{name}.json").write_text(json.dumps([ROW | {"reference": reference}]))
            code = main(setup.command, [f"{how}.json"])
        self.expected = how if code == 0 else None
        return code

    def _run(self, how: str) -> int:
        code = killed("run", EXECUTED) if how == "killed" else main(run.command, self._arguments(how))
        self.answered = digest(EXPERIMENT) if code == 0 else None
        return code

    def _evaluate(self, how: str) -> int:
        more = {"refused": ["--max-cost", "1", "--prices", "none.yaml"], "mistyped": ["--contcurrency", "1"]}
        code = killed("evaluate", EVALUATED) if how == "killed" else main(evaluate.command, more.get(how, []))
        self.judged = digest(EXECUTED) if code == 0 else None
        return code

    def _arguments(self, how: str) -> list[str]:
        return {"": [self.agent], "down": [self.nobody], "mistyped": [self.agent, "--retires", "1"]}[how]


def killed(phase: str, output: Path) -> int:
    """What a process leaves that was killed in a phase: its mark, and the output as it was."""
    write_mark(output, Mark(phase=phase))
    return -9


def digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None


@settings(max_examples=int(os.environ.get("CHAIN_EXAMPLES", "40")))
@given(attempts=st.lists(st.sampled_from(ATTEMPTS), max_size=8), mended=st.booleans())
@example(attempts=["run down"], mended=False)
@example(attempts=["run down", "evaluate"], mended=False)
@example(attempts=["setup wrong"], mended=False)
@example(attempts=["setup wrong", "run"], mended=False)
@example(attempts=["setup missing", "run", "evaluate"], mended=True)
def test_no_sequence_of_phases_ends_in_a_verdict_that_the_last_complete_chain_does_not_support(
    addresses: tuple[str, str], attempts: list[str], mended: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        phases = Phases(*addresses)
        for attempt in (*COMPLETE, *attempts, *(COMPLETE if mended else ())):
            phases.attempt(attempt)
        code = main(gate.command, [])
        allowed = phases.allowed()
        assert (code == allowed) if allowed is not None else (code not in (0, 1))
        assert (main(visualize.command, ["w", "e", "1"]) == 0) == (allowed is not None)
