"""A plan for people: what meets whom, how often, and how many calls that makes. Printed by the arena's commands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from testbench.arena.plan.model import Plan, PlannedScenarioFile
from testbench.safe_text import printable
from testbench.schema.models import Metric

ROWS: Final = 50
NAME_CHARACTERS: Final = 48


@dataclass(frozen=True)
class Calls:
    """How much a plan asks for, if nothing has to be repeated. `most` counts played parts up to their last turn."""

    messages: int
    most: int
    player_messages: int
    evaluations: int


def count_calls(plan: Plan) -> Calls:
    """Messages to those under test, messages to the players of users, and evaluations."""
    by_id = {planned.id: planned for planned in plan.scenarios}
    messages = most = players = evaluations = 0
    for item in plan.items:
        planned = by_id[item.scenario_id]
        played, longest = _count_played(planned)
        steps = len(planned.scenario.steps)
        messages += steps + played
        most += steps + longest
        if item.system.user is not None:
            players += played if planned.self_play is not None else steps
        evaluations += sum(1 for _ in list_metrics(planned, played))
    return Calls(messages, most, players, evaluations)


def list_metrics(planned: PlannedScenarioFile, played: int | None = None) -> Iterator[Metric]:
    """Yield every metric of a scenario as often as it judges, with `played` steps of its played part."""
    turns = _count_played(planned)[0] if played is None else played
    for step in planned.scenario.steps:
        yield from step.metrics
    yield from planned.scenario.metrics
    if planned.self_play is not None:
        for _ in range(turns):
            yield from planned.self_play.metrics


def _count_played(planned: PlannedScenarioFile) -> tuple[int, int]:
    part = planned.self_play
    return (0, 0) if part is None else (part.turns, part.max_turns or part.turns)


def format_plan(plan: Plan, generation: str = "") -> str:
    """Return the plan as a page of text: who is tested, the matrix, the calls, and what is not supported.

    `generation` says what is asked where data is generated, and comes instead of the matrix and the calls.
    """
    lines = [f"{plan.namespace}/{plan.job}: {plan.type}", f"source {_shorten(plan.source_revision)}"]
    if plan.judge or plan.judge_model:
        lines.append(printable(f"judge {plan.judge}" if plan.judge else f"judge model {plan.judge_model}"))
    if generation:
        lines += ["", generation, ""]
    else:
        calls = count_calls(plan)
        lines += ["", *_format_matrix(plan)] if plan.items else ["", "no items: data is generated"]
        lines += ["", f"{len(plan.items):,} items, {_format_messages(calls)}, {calls.evaluations:,} evaluations"]
    lines += [f"warning: {printable(warning)}" for warning in plan.warnings]
    lines.append(f"digest {plan.digest}")
    return "\n".join(lines)


def _format_matrix(plan: Plan) -> list[str]:
    """Scenarios down, those under test across, and how often they meet."""
    times = Counter((item.scenario_id, item.system.label) for item in plan.items)
    labels = [system.label for system in plan.systems]
    head = ["scenario", *(str(number) for number in range(1, len(labels) + 1))]
    rows = [
        [
            printable(f"{planned.path}: {planned.scenario.name}", NAME_CHARACTERS),
            *(str(times[planned.id, label] or "-") for label in labels),
        ]
        for planned in plan.scenarios[:ROWS]
    ]
    who = [f"{number}  {printable(label)}" for number, label in enumerate(labels, start=1)]
    more = len(plan.scenarios) - ROWS
    return [
        "under test:",
        *who,
        "",
        *_format_columns([head, *rows]),
        *([f"and {more:,} scenarios more"] if more > 0 else []),
    ]


def _format_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _format_messages(calls: Calls) -> str:
    text = f"{calls.messages:,} messages"
    if calls.most > calls.messages:
        text += f" (at most {calls.most:,})"
    return text + (f", {calls.player_messages:,} by players" if calls.player_messages else "")


def _shorten(revision: str) -> str:
    name, colon, digest = revision.partition(":")
    return f"{name}{colon}{digest[:16]}"
