"""Names that stay the same on every machine: ids made of content, so that resume, baseline and JUnit can pair by them.

Used by `testbench.execution` to give every scenario and step its id before anything is sent. A step is the question in
its place in the conversation together with what is expected; metrics, thresholds and the judge are left out, so that a
changed threshold does not make it another step.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from pydantic import BaseModel

from testbench.schema.models import ExecutedScenario, Experiment, PlannedScenario, PlannedStep, Scenario, Step


class ScenarioKey(NamedTuple):
    """One conversation of a run. Ids stay the same over repetitions and over systems under test, so an id is not it."""

    id: str
    repetition: int = 1
    provider: str | None = None


def key_of(scenario: ExecutedScenario) -> ScenarioKey:
    """Return what names a conversation among all of its file."""
    return ScenarioKey(scenario.id, scenario.repetition, scenario.provider)


def fields_given(model: BaseModel) -> dict[str, Any]:
    """Return the fields that were set, to make a further model of: each remembers those that it was made of.

    With all of their defaults 100,000 steps take 200 MiB more.
    """
    return {name: getattr(model, name) for name in model.model_fields_set}


def content_id(prefix: str, *content: Any) -> str:
    """Return `<prefix>_` and the first 16 hex digits of the SHA-256 over the canonical JSON of `content`."""
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return f"{prefix}_{hashlib.sha256(canonical.encode(errors='surrogatepass')).hexdigest()[:16]}"


def experiment_id(experiment: Experiment) -> str:
    """Return the id of all that an experiment asks for, metrics and thresholds included."""
    return content_id("exp", experiment.model_dump(mode="json", exclude_none=True))


def assign_ids(scenarios: Iterable[Scenario]) -> tuple[PlannedScenario, ...]:
    """Give every scenario and step its id; equal ones are told apart by an occurrence number."""
    seen: Counter[str] = Counter()
    return tuple(_plan_scenario(scenario, seen) for scenario in scenarios)


def _plan_scenario(scenario: Scenario, seen: Counter[str]) -> PlannedScenario:
    contents = [_content(step) for step in scenario.steps]
    scenario_id = _distinct("scn", seen, scenario.name, contents)
    asked: list[str] = []
    steps = []
    for step, content in zip(scenario.steps, contents, strict=True):
        step_id = _distinct("stp", seen, scenario.name, tuple(asked), content)
        steps.append(PlannedStep.model_validate(fields_given(step) | {"id": step_id}))
        asked.append(step.input)
    return PlannedScenario.model_validate(fields_given(scenario) | {"id": scenario_id, "steps": tuple(steps)})


def _distinct(prefix: str, seen: Counter[str], *content: Any) -> str:
    first = content_id(prefix, *content)
    seen[first] += 1
    return first if seen[first] == 1 else content_id(prefix, *content, seen[first])


def _content(step: Step) -> dict[str, Any]:
    return step.model_dump(mode="json", include={"input", "reference", "custom_values"}, exclude_none=True)
