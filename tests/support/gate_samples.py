"""Evaluated experiments for the gate's tests: scenarios whose results are given, in as few words as possible."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from testbench.gating.decision import reach_verdict
from testbench.results.comparison import to_baseline
from testbench.results.selection import apply_policy
from testbench.results.verdict import Policy, Verdict
from testbench.schema.models import EvaluatedExperiment
from tests.gating.test_verdict import step

METRIC = "builtin.exact_match"


def scenario(name: str, *results: str, **more: Any) -> dict[str, Any]:
    """A scenario with one step for each result; `more` are its other fields."""
    steps = [step(result) | {"id": f"stp_{name}_{n}", "input": f"{name} {n}"} for n, result in enumerate(results, 1)]
    return {"name": name, "id": f"scn_{name}", "steps": steps} | more


def quarantined(made: dict[str, Any]) -> dict[str, Any]:
    """The scenario with all of its steps in quarantine."""
    return made | {"steps": [each | {"quarantine": True} for each in made["steps"]]}


def attempts(name: str, *results: str, **more: Any) -> list[dict[str, Any]]:
    """A scenario of one step, run once for each result."""
    return [scenario(name, result, repetition=number, **more) for number, result in enumerate(results, 1)]


def scored(name: str, *scores: float, threshold: float = 0.5, **more: Any) -> dict[str, Any]:
    """A scenario with one step for each score."""
    made = scenario(name, *["pass"] * len(scores), **more)
    for each, score in zip(made["steps"], scores, strict=True):
        each["metrics"] = [{"metric_name": METRIC, "threshold": threshold}]
        result = {"result": "pass" if score >= threshold else "fail", "score": score}
        each["evaluations"] = [{"metric": each["metrics"][0], "result": result}]
    return made


def run_of(*scenarios: dict[str, Any], **more: Any) -> EvaluatedExperiment:
    return EvaluatedExperiment.model_validate({"id": "exp_1", "scenarios": deepcopy(list(scenarios))} | more)


def recorded(version: str = "1.0", day: int = 1, judge: str | None = None) -> dict[str, Any]:
    """The records of a run, for two runs that are told apart."""
    began = f"2026-11-{day:02d}T10:00:00Z"
    known = {"testbench_version": "0.1.0", "started_at": began, "wall_seconds": 1}
    agent = {"agent_url": "http://a", "agent_name": "agent", "agent_version": version, "workflow_name": "nightly"}
    return {"run": agent | known, "evaluation": {"judge_model": judge, **known}}


def verdict_on(scenarios: Sequence[dict[str, Any]], **policy: Any) -> Verdict:
    return reach_verdict(run_of(*scenarios), Policy(**policy))


def verdict_against(before: EvaluatedExperiment, now: EvaluatedExperiment, **policy: Any) -> Verdict:
    chosen = Policy(**policy)
    return reach_verdict(now, chosen, to_baseline(apply_policy(before, chosen), "earlier.json"))
