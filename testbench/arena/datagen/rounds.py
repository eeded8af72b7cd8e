"""How many items are still to be asked for, of whom and about what; and when it is enough, or never will be.

Pure; called by the workers for their requests of a round, and by the reducer between rounds. Removing duplicates
shrinks what a model writes, so a round asks for more than is missing, and the next one knows how much came of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from testbench.arena.conclusion import SUCCEEDED, Conclusion, Counts
from testbench.arena.datagen.items import BatchRequest, Seed
from testbench.arena.job_status import SUMMARY_ERRORS, SUMMARY_SCORE, SUMMARY_VERDICT
from testbench.schema.identity import content_id

BATCH_SIZE: Final = 10
"""Items of one request: few enough for an answer that is not cut off."""
FIRST_YIELD: Final = 0.8
"""What the first round assumes to be left of what it asks for."""
LEAST_YIELD: Final = 0.05
"""A round of which less is left brings nothing new any more."""
MOST_ROUNDS: Final = 10

INSUFFICIENT_UNIQUE: Final = "InsufficientUnique"
GENERATION_FAILED: Final = "GenerationFailed"

Next = Literal["done", "again", "exhausted"]


@dataclass(frozen=True)
class RoundResult:
    """What all rounds so far came to.

    The last round asked for `asked` items, of which `gained` are new; `failed` requests are those of all rounds.
    """

    asked: int
    gained: int
    distinct: int
    failed: int
    rounds: int

    @property
    def yielded(self) -> float:
        """The part of what the last round asked for that was new."""
        return self.gained / self.asked if self.asked else 0.0


def requests_of_round(
    number: int, missing: int, expected_yield: float, seeds: Sequence[Seed], providers: Sequence[str]
) -> tuple[BatchRequest, ...]:
    """The requests of round `number` (from 1): seeds and providers take turns, each round starting one further on."""
    wanted = math.ceil(missing / min(1.0, max(expected_yield, LEAST_YIELD)))
    requests = []
    for position in range(math.ceil(wanted / BATCH_SIZE)):
        turn = position + number - 1
        seed, provider = turn % len(seeds), providers[(turn // len(seeds)) % len(providers)]
        size = min(BATCH_SIZE, wanted - position * BATCH_SIZE)
        key = content_id("req", number, position, size, provider, seeds[seed].model_dump(mode="json"))
        requests.append(BatchRequest(key=key, round=number, seed=seed, size=size, provider=provider))
    return tuple(requests)


def what_next(count: int, result: RoundResult) -> Next:
    """Whether there is enough, another round makes sense, or the model has nothing new to say."""
    if result.distinct >= count:
        return "done"
    if result.rounds >= MOST_ROUNDS or result.yielded < LEAST_YIELD:
        return "exhausted"
    return "again"


def conclude_generation(count: int, result: RoundResult, exact: int, near: int) -> Conclusion:
    """The end of a generation: enough distinct items, or the real number and why there are no more."""
    made = min(result.distinct, count)
    enough = made == count
    reason = SUCCEEDED if enough else GENERATION_FAILED if made == 0 else INSUFFICIENT_UNIQUE
    removed = f"{exact} exact and {near} near duplicates removed, {result.failed} requests failed"
    message = f"{made} of {count} items in {result.rounds} rounds; {removed}."
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
            "exactDuplicates": str(exact),
            "nearDuplicates": str(near),
        },
    )
