"""A data generation's reducer: whether there are enough distinct items, another round is needed, or never will be.

answers of all shards -> distinct items -> a further round | dataset generation.json -> conclusion, summary.json
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from testbench.arena.conclusion import (
    MISSING_ITEMS,
    MISSING_SHARDS,
    SUCCEEDED,
    Conclusion,
    Counts,
    summarize_usage,
)
from testbench.arena.datagen.generation import (
    Generation,
    find_unaccounted,
    make_generation,
    read_answers,
    read_done,
    write_round,
)
from testbench.arena.datagen.items import (
    FailedRequest,
    RoundPlan,
    encode_dataset,
)
from testbench.arena.datagen.rounds import (
    INSUFFICIENT_UNIQUE,
    Generated,
    RoundResult,
    decide_next,
    format_count,
    plan_next_round,
    reduce_rounds,
)
from testbench.arena.manifest.job_status import SUMMARY_ERRORS, SUMMARY_SCORE, SUMMARY_VERDICT
from testbench.arena.plan.model import PlanModel
from testbench.arena.runs.context import JobContext
from testbench.arena.runs.records import write_outputs
from testbench.schema.models import Usage
from testbench.schema.shards import all_shards

logger = logging.getLogger(__name__)


REPORT_FILE: Final = "generation.json"
GENERATION_FAILED: Final = "GenerationFailed"


class GenerationReport(PlanModel):
    """How a dataset came about, for people: what was asked, what failed and why, and what it cost."""

    plan_digest: str
    rounds: int
    requests: int
    seeds: int
    seeds_used: int
    exact_duplicates: int
    near_duplicates: int
    failed: tuple[FailedRequest, ...]
    usage: Usage


@dataclass(frozen=True)
class _GenerationParts:
    """What the shards left: `missing` did not finish, `lost` are keys of requests without an answer and a failure."""

    rounds: Sequence[RoundPlan]
    failures: Sequence[FailedRequest]
    missing: set[int]
    lost: set[str]
    generated: Generated


async def reduce_datagen(context: JobContext) -> Conclusion | None:
    """Return the end of the run, with the dataset in the store; None where a further round was decided instead.

    Raises:
        InputError: the source or the material cannot be used.
        StoreError: what the shards wrote cannot be read.
    """
    generation = make_generation(context)
    count = generation.settings.count
    found = await asyncio.to_thread(_read, generation)
    generated = found.generated
    if found.missing or found.lost:
        return _conclude_incomplete(count, generated, found.missing, found.lost)
    if decide_next(count, generated.result) == "again":
        write_round(
            context.store, plan_next_round(found.rounds, count, generated, generation.seeds, generation.providers)
        )
        wanted = format_count(count - generated.result.distinct, "item")
        logger.info("%s of %s missing after round %s: asking for more", wanted, f"{count:,}", context.round)
        return None
    conclusion = conclude_generation(count, generated.result, generated.usage)
    return await write_outputs(context.store, conclusion, _make_files(generation, found, conclusion))


def _read(generation: Generation) -> _GenerationParts:
    context = generation.context
    rounds = [generation.round(number) for number in range(1, context.round + 1)]
    requests = [request for planned in rounds for request in planned.requests]
    answered = read_answers(context.store, requests, generation.digest)
    failures: list[FailedRequest] = []
    missing: set[int] = set()
    lost: set[str] = set()
    for planned in rounds:
        for shard in all_shards(context.shard.count):
            done = read_done(context.store, planned.number, shard, generation.digest)
            if done is None:
                missing.add(shard.index)
            else:
                lost |= find_unaccounted(done, shard.of(planned.requests), answered)
                failures.extend(done.failed)
    return _GenerationParts(rounds, failures, missing, lost, reduce_rounds(rounds, answered, failures))


def _conclude_incomplete(count: int, generated: Generated, missing: set[int], lost: set[str]) -> Conclusion:
    """Not all that was planned was done: the run can be taken up again, so nothing is written that would end it."""
    if missing:
        reason, told = MISSING_SHARDS, f"{format_count(len(missing), 'shard')} did not finish."
    else:
        reason, told = MISSING_ITEMS, f"{format_count(len(lost), 'request')} without an answer and without a failure."
    made = min(generated.result.distinct, count)
    return Conclusion(
        phase="Failed",
        reason=reason,
        message=f"{told} {made:,} of {count:,} items so far; a run that is taken up again keeps them.",
        counts=Counts(total=count, errors=count),
    )


def _make_files(generation: Generation, found: _GenerationParts, conclusion: Conclusion) -> Iterator[tuple[str, bytes]]:
    """Yield the dataset, called partial where it is too small, and how it came about."""
    settings, generated, result = generation.settings, found.generated, found.generated.result
    requests = [request for planned in found.rounds for request in planned.requests]
    name = f"dataset{'' if conclusion.phase == 'Succeeded' else '.partial'}.{settings.format}"
    report = GenerationReport(
        plan_digest=generation.digest,
        rounds=result.rounds,
        requests=len(requests),
        seeds=len(generation.seeds),
        seeds_used=len({request.seed for request in requests}),
        exact_duplicates=result.exact,
        near_duplicates=result.near,
        failed=tuple(found.failures),
        usage=generated.usage,
    )
    if generated.items:
        yield name, encode_dataset(generated.items[: settings.count], settings.format)
    yield REPORT_FILE, report.model_dump_json(exclude_none=True, indent=2).encode() + b"\n"


def conclude_generation(count: int, result: RoundResult, usage: Usage | None = None) -> Conclusion:
    """Return the end of a generation: enough distinct items, or the real number and why there are no more.

    Nobody who answers is no sign that there is nothing more to say: it is a failure of another name.
    """
    made = min(result.distinct, count)
    enough = made == count
    silent = made == 0 or (result.asked > 0 and result.answered == 0)
    reason = SUCCEEDED if enough else GENERATION_FAILED if silent else INSUFFICIENT_UNIQUE
    message = (
        f"{made:,} of {count:,} items in {format_count(result.rounds, 'round')}; {result.exact:,} exact and"
        f" {result.near:,} near duplicates removed, {_format_failures(result.failures)}."
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
            **({} if usage is None else summarize_usage(usage)),
        },
    )


def _format_failures(failures: Mapping[str, int]) -> str:
    told = format_count(sum(failures.values()), "request") + " failed"
    kinds = ", ".join(
        f"{times:,} {kind}" for kind, times in sorted(failures.items(), key=lambda kind: (-kind[1], kind))
    )
    return f"{told} ({kinds})" if kinds else told
