"""How many items are still to be asked for, of whom and about what; and when it is enough, or never will be.

Pure; called by the workers for their requests of a round, and by the reducer between rounds. Removing duplicates
shrinks what a model writes, so a round asks for more than is missing, and the next one knows how much came of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from testbench.arena.conclusion import SUCCEEDED, Conclusion, Counts
from testbench.arena.datagen.items import BatchRequest, Seed
from testbench.arena.manifest.job_status import SUMMARY_ERRORS, SUMMARY_SCORE, SUMMARY_VERDICT
from testbench.arena.plan.model import Plan
from testbench.schema.ids import content_id
from testbench.schema.models import Usage

MOST_ITEMS: Final = 100_000
"""Of one job: as many as a plan has at most."""
BATCH_SIZE: Final = 10
"""Items of one request: few enough for an answer that is not cut off."""
SMALL_BATCH: Final = 3
"""Items of one request where there is more material than requests: rather more of it than more about each piece."""
FIRST_YIELD: Final = 0.8
"""What the first round assumes to be left of what it asks for."""
LEAST_YIELD: Final = 0.05
"""A round of which less is left brings nothing new any more."""
MOST_OVER: Final = 4.0
"""A round asks for at most so many times of what is missing; the next one knows better."""
LEAST_ROUND: Final = 20
"""Items that a further round asks for: of fewer, nothing new says little about the model."""
MOST_ROUNDS: Final = 10

INSUFFICIENT_UNIQUE: Final = "InsufficientUnique"
GENERATION_FAILED: Final = "GenerationFailed"

Next = Literal["done", "again", "exhausted"]


@dataclass(frozen=True)
class Deal:
    """Where a round goes on with the seeds, and how many items one request asks for at most."""

    first_turn: int = 0
    batch: int = BATCH_SIZE


@dataclass(frozen=True)
class RoundResult:
    """What all rounds so far came to.

    The last round asked for `asked` items, of which `answered` are those of requests that were answered, and `gained`
    are new; `cut_off` where an answer was too long for a request of `batch` items. `exact` and `near` duplicates and
    `failures`, requests by the kind of their failure, are of all rounds.
    """

    asked: int
    answered: int
    gained: int
    distinct: int
    rounds: int
    exact: int = 0
    near: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    batch: int = BATCH_SIZE
    cut_off: bool = False

    @property
    def fresh(self) -> float:
        """The part of what the model was able to say in the last round that was new."""
        return self.gained / self.answered if self.answered else 0.0

    @property
    def failed(self) -> int:
        """Requests that were not answered."""
        return sum(self.failures.values())


def requests_of_round(
    number: int,
    missing: int,
    expected_yield: float,
    seeds: Sequence[Seed],
    providers: Sequence[str],
    deal: Deal = Deal(),
) -> tuple[BatchRequest, ...]:
    """The requests of round `number` (from 1).

    Every seed has its turn before any has two, and meets every provider before it meets one again.
    """
    wanted = math.ceil(missing / min(1.0, max(expected_yield, 1 / MOST_OVER)))
    if number > 1:
        wanted = max(wanted, LEAST_ROUND)
    batch = min(deal.batch, max(SMALL_BATCH, math.ceil(wanted / len(seeds))))
    requests = []
    for position in range(math.ceil(wanted / batch)):
        cycle, seed = divmod(deal.first_turn + position, len(seeds))
        provider = providers[(seed + cycle) % len(providers)]
        size = min(batch, wanted - position * batch)
        key = content_id("req", number, position, size, provider, seeds[seed].model_dump(mode="json"))
        requests.append(BatchRequest(key=key, round=number, seed=seed, size=size, provider=provider))
    return tuple(requests)


def writers_of(plan: Plan) -> tuple[str, ...]:
    """Who takes turns at writing: everybody who would be under test."""
    return tuple(dict.fromkeys(system.name for system in plan.systems))


def what_next(count: int, result: RoundResult) -> Next:
    """Whether there is enough, another round makes sense, or the model has nothing new to say, or says nothing."""
    if result.distinct >= count:
        return "done"
    if result.rounds >= MOST_ROUNDS:
        return "exhausted"
    can_be_shorter = result.cut_off and result.batch > 1
    return "again" if can_be_shorter or result.fresh >= LEAST_YIELD else "exhausted"


def conclude_generation(count: int, result: RoundResult, usage: Usage | None = None) -> Conclusion:
    """The end of a generation: enough distinct items, or the real number and why there are no more.

    Nobody who answers is no sign that there is nothing more to say: it is a failure of another name.
    """
    made = min(result.distinct, count)
    enough = made == count
    silent = made == 0 or (result.asked > 0 and result.answered == 0)
    reason = SUCCEEDED if enough else GENERATION_FAILED if silent else INSUFFICIENT_UNIQUE
    message = (
        f"{made:,} of {count:,} items in {counted(result.rounds, 'round')}; {result.exact:,} exact and"
        f" {result.near:,} near duplicates removed, {_failed(result.failures)}."
    )
    return Conclusion(
        phase="Succeeded" if enough else "Failed",
        reason=reason,
        message=message,
        counts=Counts(total=count, passed=made, errors=count - made),
        summary={
            SUMMARY_VERDICT: "pass" if enough else "error",
            SUMMARY_SCORE: f"{made}/{count}",
            SUMMARY_ERRORS: str(result.failed),
            "rounds": str(result.rounds),
            "exactDuplicates": str(result.exact),
            "nearDuplicates": str(result.near),
            **_spent(usage),
        },
    )


def counted(number: int, thing: str) -> str:
    """`1 round`, `2 rounds`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _failed(failures: Mapping[str, int]) -> str:
    told = counted(sum(failures.values()), "request") + " failed"
    kinds = ", ".join(
        f"{times:,} {kind}" for kind, times in sorted(failures.items(), key=lambda kind: (-kind[1], kind))
    )
    return f"{told} ({kinds})" if kinds else told


def _spent(usage: Usage | None) -> dict[str, str]:
    if usage is None:
        return {}
    numbers = {
        "inputTokens": None if usage.input_tokens is None else str(usage.input_tokens),
        "outputTokens": None if usage.output_tokens is None else str(usage.output_tokens),
        "totalCostUSD": None if usage.cost_usd is None else f"{usage.cost_usd:.6f}",
    }
    return {name: value for name, value in numbers.items() if value is not None}
