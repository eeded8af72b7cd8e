"""What all rounds so far came to, and what the next one asks.

    answered requests of all shards, in the order of the plan -> distinct items -> result -> next round

Pure; called by the reducer. The outcome depends on what was answered and on nothing else: not on who asked, nor when.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from testbench.arena.datagen.items import AnsweredRequest, FailedRequest, GeneratedItem, RoundPlan, Seed
from testbench.arena.datagen.rounds import BATCH_SIZE, FIRST_YIELD, Deal, RoundResult, requests_of_round
from testbench.arena.datagen.writing import AVOIDED
from testbench.results.summary import sum_usage
from testbench.schema.models import Usage

SHINGLE: Final = 5
"""Characters of a shingle."""
ALIKE: Final = 0.8
"""Jaccard similarity of the shingles of two questions from which on they are near duplicates."""
PERMUTATIONS: Final = 128


@dataclass(frozen=True)
class Distinct:
    """The items that are left, in their order, and how many of each kind were taken out."""

    items: tuple[GeneratedItem, ...]
    exact: int
    near: int


def distinct(items: Iterable[GeneratedItem]) -> Distinct:
    """Keep the first of every group of items that ask the same."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=ALIKE, num_perm=PERMUTATIONS, weights=(0.2, 0.8))
    kept: list[GeneratedItem] = []
    kept_texts: list[str] = []  # their shingles take a hundred times as much
    seen: set[str] = set()
    exact = near = 0
    for item in items:
        text = normalised(item.user_input)
        if text in seen:
            exact += 1
            continue
        seen.add(text)
        shingles = shingles_of(text)
        sketch = MinHash(num_perm=PERMUTATIONS)
        sketch.update_batch([shingle.encode() for shingle in shingles])
        if any(similarity(shingles, shingles_of(kept_texts[position])) >= ALIKE for position in index.query(sketch)):
            near += 1
            continue
        index.insert(len(kept), sketch, check_duplication=False)
        kept.append(item)
        kept_texts.append(text)
    return Distinct(tuple(kept), exact, near)


def normalised(text: str) -> str:
    """Letters and digits of any script in lower case, single spaces between: `What's  UP?` and `whats up` are equal."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = (character if character.isalnum() else " " if character.isspace() else "" for character in folded)
    words = "".join(kept).split()
    return " ".join(words) if words else folded.strip()


def shingles_of(text: str) -> frozenset[str]:
    """Every run of five characters; a shorter text is its own only shingle."""
    return frozenset(text[start : start + SHINGLE] for start in range(max(1, len(text) - SHINGLE + 1)))


def similarity(one: frozenset[str], other: frozenset[str]) -> float:
    """The Jaccard index: shared shingles of all shingles."""
    return len(one & other) / len(one | other)


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
        usage=sum_usage([*(one.usage for one in in_order), *(one.usage for one in failed)]),
        silent=frozenset(one.provider for one in last.requests)
        - {one.provider for one in of_last}
        - {one.provider for one in cut_off},
    )
