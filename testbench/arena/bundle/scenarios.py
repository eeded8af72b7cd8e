"""Reads the scenarios of a bundle's files: experiments, single scenarios, and promptarena's scenario files.

    bundle + paths -> scenarios, each with its path; what is not supported, as warnings and as refusals

Refusals are collected over all files and shown together by `testbench.arena.plan.build`, so that a user sees the whole
list at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from testbench import defaults
from testbench.arena.bundle.arena_file import ArenaFile
from testbench.arena.bundle.assertions import NotSupportedError
from testbench.arena.bundle.bundle import Bundle, join_names, matches
from testbench.arena.bundle.promptarena import ArenaScenario, read_scenario
from testbench.arena.manifest.job import ScenarioFilter
from testbench.errors import InputError, NothingToDo
from testbench.schema.files import parse_experiment
from testbench.schema.models import Metric, Scenario
from testbench.schema.plain_data import SUFFIXES, read_documents

SCENARIO_KIND: Final = "Scenario"
PROMPTKIT: Final = "promptkit."
"""How the version of promptarena's documents begins, where they have one."""
OTHER_KINDS: Final = frozenset({"Arena", "Provider", "PromptConfig", "Persona", "Tool", "Eval"})
"""Of documents that a bundle has beside its scenarios."""
SHOWN: Final = 20
"""Refusals in one message."""
_HINT: Final = "A check that cannot be made would pass unseen: change or remove these."


@dataclass(frozen=True)
class FoundScenario:
    """A scenario and the file that it stands in."""

    path: str
    read: ArenaScenario

    @property
    def scenario(self) -> Scenario:
        return self.read.scenario


@dataclass
class ScenarioCollection:
    """Collects the scenarios of a bundle's files, with warnings and refusals."""

    scenarios: list[FoundScenario] = field(default_factory=list)
    judge_models: set[str] = field(default_factory=set)
    warnings: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    def read(self, bundle: Bundle, path: str, *, asked: bool, assertions: Iterable[Any] = ()) -> bool:
        """Add the scenarios of a file and return whether it has any. `asked`: the file was named, so it must have some.

        `assertions` are those of the arena file, for every scenario of promptarena's format.
        """
        documents = read_documents(bundle.files[path], path)
        before = len(self.scenarios) + len(self.refusals)
        for place, content in documents:
            if _is_promptarena(content):
                self._take_promptarena(path, place, content, assertions)
            elif (experiment := _to_experiment(content)) is not None:
                self._take_experiment(path, place, experiment)
            elif not asked and not _is_known_to_be_other(content):
                self.warnings.append(f"{place}: no scenario, left out")
        if not documents and not asked:
            self.warnings.append(f"{path}: empty, left out")
        found = len(self.scenarios) + len(self.refusals) > before
        if asked and not found:
            self.refusals.append(f"{path}: no scenario in this file")
        return found

    def _take_promptarena(self, path: str, place: str, content: Mapping[str, Any], assertions: Iterable[Any]) -> None:
        try:
            read = read_scenario(content, assertions)
        except NotSupportedError as error:
            self.refusals.append(f"{place}: {error}")
            return
        self.warnings.extend(f"{place}: not supported: {warning}" for warning in read.warnings)
        threshold = defaults.THRESHOLD
        played = read.played and replace(read.played, metrics=_add_threshold(read.played.metrics, threshold))
        judged = replace(read, scenario=add_thresholds(read.scenario, threshold), played=played)
        self.scenarios.append(FoundScenario(path, judged))

    def _take_experiment(self, path: str, place: str, document: Mapping[str, Any]) -> None:
        experiment = parse_experiment(document, place)
        if experiment.llm_as_a_judge_model:
            self.judge_models.add(experiment.llm_as_a_judge_model)
        for scenario in experiment.scenarios:
            if not scenario.steps:
                self.refusals.append(f"{place}: scenario {scenario.name!r} without steps")
                continue
            judged = add_thresholds(scenario, experiment.default_threshold)
            self.scenarios.append(FoundScenario(path, ArenaScenario(judged)))


def may_hold_scenarios(path: str) -> bool:
    """Return whether a file can hold scenarios, by its name."""
    return path.lower().endswith(SUFFIXES)


def add_thresholds(scenario: Scenario, threshold: float) -> Scenario:
    """Return the scenario with a threshold for every metric: files of one bundle may have different ones."""
    steps = tuple(
        step.model_copy(update={"metrics": _add_threshold(step.metrics, threshold)}) for step in scenario.steps
    )
    return scenario.model_copy(update={"steps": steps, "metrics": _add_threshold(scenario.metrics, threshold)})


def _add_threshold(metrics: tuple[Metric, ...], threshold: float) -> tuple[Metric, ...]:
    return tuple(
        metric if metric.threshold is not None else metric.model_copy(update={"threshold": threshold})
        for metric in metrics
    )


def _is_promptarena(content: Any) -> bool:
    if not isinstance(content, Mapping):
        return False
    return content.get("kind") == SCENARIO_KIND or ("kind" not in content and "turns" in content)


def _is_known_to_be_other(content: Any) -> bool:
    """Return whether a document is certainly something else: a part of the bundle, or a resource of Kubernetes."""
    if not isinstance(content, Mapping):
        return False
    version = content.get("apiVersion")
    ours = isinstance(version, str) and not version.startswith(PROMPTKIT)
    return content.get("kind") in OTHER_KINDS or ("kind" in content and ours)


def _to_experiment(content: Any) -> Mapping[str, Any] | None:
    """Return an experiment, or one made of a single scenario or a list of scenarios; None for other documents."""
    if isinstance(content, list) and content and all(isinstance(item, Mapping) and "steps" in item for item in content):
        return {"scenarios": content}
    if not isinstance(content, Mapping) or "kind" in content:
        return None
    if "steps" in content:
        return {"scenarios": [content]}
    return content if isinstance(content.get("scenarios"), list) else None


def select_scenarios(bundle: Bundle, arena: ArenaFile, only: ScenarioFilter | None) -> ScenarioCollection:
    """Return the scenarios in the order of their paths, and within a file in the order that they stand in.

    `include` replaces the arena file's list; `exclude` takes away from either.

    Raises:
        InputError: the filter finds nothing, or a scenario is not as it should be or asks for what is not supported.
        NothingToDo: there is no scenario at all.
    """
    chosen = only or ScenarioFilter()
    candidates = sorted(path for path in bundle.files if may_hold_scenarios(path) and path != arena.path)
    collected = ScenarioCollection()
    if chosen.include:
        paths = _find_included(chosen, candidates)
    else:
        paths = candidates if arena.scenarios is None else sorted(arena.scenarios)
    kept = [path for path in paths if not any(matches(path, pattern) for pattern in chosen.exclude)]
    if paths and not kept:
        raise InputError("scenarios: nothing is left after exclude", hint=f"Before it: {join_names(paths)}.")
    for pattern in chosen.exclude:
        if not any(matches(path, pattern) for path in paths):
            collected.warnings.append(f"scenarios.exclude: {pattern!r} matches nothing")
    listed = arena.scenarios is not None and not chosen.include
    for path in kept:
        collected.read(bundle, path, asked=listed, assertions=arena.assertions)
    if collected.refusals:
        raise InputError(f"not supported: {_join_refusals(collected.refusals)}", hint=_HINT)
    _refuse_patterns_without_a_scenario(chosen, kept, collected)
    if not collected.scenarios:
        raise NothingToDo(
            f"{bundle.origin}: no scenario in this bundle", hint="docs/experiment.schema.json describes one."
        )
    return collected


def _find_included(chosen: ScenarioFilter, candidates: list[str]) -> list[str]:
    for pattern in chosen.include:
        if not any(matches(path, pattern) for path in candidates):
            raise InputError(
                f"scenarios.include: {pattern!r} matches nothing", hint=f"Files: {join_names(candidates)}."
            )
    return [path for path in candidates if any(matches(path, pattern) for pattern in chosen.include)]


def _refuse_patterns_without_a_scenario(chosen: ScenarioFilter, kept: list[str], collected: ScenarioCollection) -> None:
    """Refuse a pattern whose files hold no scenario: a misspelt one would never fail."""
    holding = {found.path for found in collected.scenarios}
    for pattern in chosen.include:
        files = [path for path in kept if matches(path, pattern)]
        if files and not holding & set(files):
            raise InputError(f"scenarios.include: {pattern!r} finds no scenario", hint=f"Files: {join_names(files)}.")


def _join_refusals(refusals: list[str]) -> str:
    more = len(refusals) - SHOWN
    return "; ".join(refusals[:SHOWN]) + (f"; and {more} more" if more > 0 else "")
