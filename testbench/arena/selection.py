"""Which scenarios of a bundle a job means: its filter, else the arena file's list, else all that there are.

Called by `testbench.arena.planning`. A filter that finds nothing is an error and never "all of them".
"""

from __future__ import annotations

from typing import Final

from testbench.arena.arena_file import ArenaFile
from testbench.arena.bundle import Bundle, named
from testbench.arena.manifest import ScenarioFilter
from testbench.arena.path_patterns import matches
from testbench.arena.scenario_files import Reading, may_hold_scenarios
from testbench.errors import InputError, NothingToDo

SHOWN: Final = 20


def selected_scenarios(bundle: Bundle, arena: ArenaFile, only: ScenarioFilter | None) -> Reading:
    """The scenarios in the order of their paths, and within a file in the order that they stand in.

    `include` replaces the arena file's list; `exclude` takes away from either.

    Raises:
        InputError: the filter finds nothing, or a scenario is not as it should be or asks for what is not supported.
        NothingToDo: there is no scenario at all.
    """
    chosen = only or ScenarioFilter()
    candidates = sorted(path for path in bundle.files if may_hold_scenarios(path) and path != arena.path)
    reading = Reading()
    if chosen.include:
        paths = _included(chosen, candidates)
    else:
        paths = candidates if arena.scenarios is None else sorted(arena.scenarios)
    kept = [path for path in paths if not any(matches(path, pattern) for pattern in chosen.exclude)]
    if paths and not kept:
        raise InputError("scenarios: nothing is left after exclude", hint=f"Before it: {named(paths)}.")
    for pattern in chosen.exclude:
        if not any(matches(path, pattern) for path in paths):
            reading.warnings.append(f"scenarios.exclude: {pattern!r} matches nothing")
    listed = arena.scenarios is not None and not chosen.include
    for path in kept:
        reading.read(bundle, path, asked=listed, assertions=arena.assertions)
    if reading.refusals:
        raise InputError(f"not supported: {_listed(reading.refusals)}", hint=_HINT)
    _refuse_patterns_without_a_scenario(chosen, kept, reading)
    if not reading.scenarios:
        raise NothingToDo(
            f"{bundle.origin}: no scenario in this bundle", hint="docs/experiment.schema.json describes one."
        )
    return reading


_HINT: Final = "A check that cannot be made would pass unseen: change or remove these."


def _included(chosen: ScenarioFilter, candidates: list[str]) -> list[str]:
    for pattern in chosen.include:
        if not any(matches(path, pattern) for path in candidates):
            raise InputError(f"scenarios.include: {pattern!r} matches nothing", hint=f"Files: {named(candidates)}.")
    return [path for path in candidates if any(matches(path, pattern) for pattern in chosen.include)]


def _refuse_patterns_without_a_scenario(chosen: ScenarioFilter, kept: list[str], reading: Reading) -> None:
    """Files that a pattern finds and that hold no scenario are as good as none: a misspelt one would never fail."""
    holding = {found.path for found in reading.scenarios}
    for pattern in chosen.include:
        files = [path for path in kept if matches(path, pattern)]
        if files and not holding & set(files):
            raise InputError(f"scenarios.include: {pattern!r} finds no scenario", hint=f"Files: {named(files)}.")


def _listed(refusals: list[str]) -> str:
    more = len(refusals) - SHOWN
    return "; ".join(refusals[:SHOWN]) + (f"; and {more} more" if more > 0 else "")
