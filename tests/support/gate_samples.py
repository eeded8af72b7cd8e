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

METRIC = "builtin.exact_match"
RESULTS: dict[str, dict[str, Any]] = {
    "pass": {"result": "pass", "score": 1.0},
    "fail": {"result": "fail", "score": 0.2},
    "error": {"result": "error", "error": {"kind": "timeout", "message": "no answer"}},
    "skipped": {"result": "skipped", "reason": "missing: reference"},
}
ORDER = {"fail": 0, "nothing": 0, "error": 0, "pass": 1}


def step(*results: str, gating: bool = True, status: str = "ok") -> dict[str, Any]:
    """A step with one evaluation for each result."""
    metric = {"metric_name": "builtin.exact_match", "threshold": 0.9, "gating": gating}
    agent = [{"type": "agent", "content": "hello"}] if status == "ok" else []
    error = {"error": {"kind": "timeout", "message": "no answer"}} if status == "error" else {}
    return {
        "input": "hi",
        "id": "stp_1",
        "status": status,
        "turns": [{"type": "human", "content": "hi"}, *agent],
        "metrics": [metric] * len(results),
        "evaluations": [{"metric": metric, "result": deepcopy(RESULTS[result])} for result in results],
    } | error


def experiment(*steps: dict[str, Any], scenario_results: tuple[str, ...] = ()) -> EvaluatedExperiment:
    """An experiment of one scenario with these steps."""
    metric = {"metric_name": "AgentGoalAccuracy"}
    whole = [{"metric": metric, "result": RESULTS[result]} for result in scenario_results]
    scenario = {
        "name": "s",
        "id": "scn_1",
        "steps": [each | {"id": f"stp_{number}"} for number, each in enumerate(steps, start=1)],
        "metrics": [metric] * len(whole),
        "evaluations": whole,
    }
    return EvaluatedExperiment.model_validate({"id": "exp_1", "scenarios": [scenario] if steps else []})


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
