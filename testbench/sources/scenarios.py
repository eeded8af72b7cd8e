"""Steps into conversations, and a name for each that does not depend on where its rows stood.

Pure; called by `testbench.sources.dataset`. Ids are hashes over name and content (`testbench.schema.identity`): a row
that is added or moved must not rename the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from testbench.printable import printable
from testbench.schema.models import Scenario, Step
from testbench.sources.columns import PlacedStep

NAME_CHARACTERS = 60
_READ_FOR_NAME = 10 * NAME_CHARACTERS


def scenarios_of(steps: Iterable[PlacedStep]) -> tuple[Scenario, ...]:
    """Steps with the same scenario value are one conversation in their order, wherever they stood.

    Any other step is a conversation of its own, named by its input. Conversations come in the order of their first
    steps; a name that is taken gets ` (2)`.
    """
    conversations: dict[str | int, list[Step]] = {}
    for position, placed in enumerate(steps):
        conversations.setdefault(position if placed.scenario is None else placed.scenario, []).append(placed.step)
    names = _Names()
    return tuple(
        Scenario(name=names.unused(_name(key, members[0])), steps=tuple(members))
        for key, members in conversations.items()
    )


def _name(key: str | int, first: Step) -> str:
    return printable(key) if isinstance(key, str) else printable(first.input.lstrip()[:_READ_FOR_NAME], NAME_CHARACTERS)


class _Names:
    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._occurrences: Counter[str] = Counter()

    def unused(self, wanted: str) -> str:
        name = wanted
        while name in self._taken:
            self._occurrences[wanted] += 1
            name = f"{wanted} ({self._occurrences[wanted] + 1})"
        self._taken.add(name)
        return name
