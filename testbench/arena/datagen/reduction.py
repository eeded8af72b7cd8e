"""What all rounds so far came to, and what the next one asks.

    answered requests of all shards, in the order of the plan -> distinct items -> result -> next round

Pure; called by the reducer. The outcome depends on what was answered and on nothing else: not on who asked, nor when.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from testbench.arena.datagen.duplicates import distinct
from testbench.arena.datagen.items import AnsweredRequest, FailedRequest, GeneratedItem, RoundPlan, Seed
from testbench.arena.datagen.rounds import BATCH_SIZE, FIRST_YIELD, Deal, RoundResult, requests_of_round
from testbench.arena.datagen.writing import AVOIDED
from testbench.schema.models import Usage
from testbench.schema.summary import total_usage

CUT_OFF: Final = "truncated"
"""The kind of failure of an answer that was longer than the model may say at once."""


@dataclass(frozen=True)
class Generated:
    """The distinct items of all rounds, in the order in which they were asked for, and the numbers."""

    items: tuple[GeneratedItem, ...]
    result: RoundResult
    usage: Usage
    silent: frozenset[str]
    """Providers that were asked in the last round and answered nothing."""


def first_round(plan_digest: str, count: int, seeds: Sequence[Seed], providers: Sequence[str]) -> RoundPlan:
    """What is asked before anything is known."""
    requests = requests_of_round(1, count, FIRST_YIELD, seeds, providers)
    return RoundPlan(number=1, plan_digest=plan_digest, requests=requests, batch=BATCH_SIZE)


def next_round(
    rounds: Sequence[RoundPlan], count: int, generated: Generated, seeds: Sequence[Seed], providers: Sequence[str]
) -> RoundPlan:
    """What is asked after `rounds`: for what is missing, of nobody who is silent, and for questions unlike these."""
    last, result = rounds[-1], generated.result
    batch = max(1, last.batch // 2) if result.cut_off else last.batch
    requests = requests_of_round(
        last.number + 1,
        count - result.distinct,
        result.fresh if result.answered else FIRST_YIELD,
        seeds,
        [name for name in providers if name not in generated.silent] or providers,
        Deal(sum(len(one.requests) for one in rounds), batch),
    )
    seed_of = {request.key: request.seed for one in rounds for request in one.requests}
    known: defaultdict[int, list[str]] = defaultdict(list)
    for item in generated.items:
        known[seed_of[item.provenance.request]].append(item.user_input)
    avoided = {seed: tuple(known[seed][-AVOIDED:]) for seed in sorted({one.seed for one in requests}) if known[seed]}
    return RoundPlan(
        number=last.number + 1, plan_digest=last.plan_digest, requests=requests, batch=batch, avoided=avoided
    )


def reduce_rounds(
    rounds: Sequence[RoundPlan], answered: Mapping[str, AnsweredRequest], failed: Sequence[FailedRequest]
) -> Generated:
    """All items without duplicates; of two that are alike, the one that was asked for first is kept."""
    in_order = [answered[one.key] for planned in rounds for one in planned.requests if one.key in answered]
    found = distinct(item for one in in_order for item in one.items)
    last = rounds[-1]
    of_last = [one for one in last.requests if one.key in answered]
    unanswered = {one.key for one in last.requests} - answered.keys()
    cut_off = [one for one in failed if one.key in unanswered and one.kind == CUT_OFF]
    result = RoundResult(
        asked=sum(one.size for one in last.requests),
        answered=sum(one.size for one in of_last),
        gained=sum(item.provenance.round == last.number for item in found.items),
        distinct=len(found.items),
        rounds=last.number,
        exact=found.exact,
        near=found.near,
        failures=Counter(one.kind for one in failed if one.key not in answered),
        batch=last.batch,
        cut_off=bool(cut_off),
    )
    return Generated(
        items=found.items,
        result=result,
        usage=total_usage([*(one.usage for one in in_order), *(one.usage for one in failed)]),
        silent=frozenset(one.provider for one in last.requests)
        - {one.provider for one in of_last}
        - {one.provider for one in cut_off},
    )
