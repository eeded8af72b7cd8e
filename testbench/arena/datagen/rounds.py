"""The rounds of a data generation: what each asks, what all so far came to, and whether another one makes sense.

    seeds -> requests of a round -> (answers of all shards) -> distinct items -> result -> next round

Pure; called by the workers for their requests of a round, by the reducer between rounds, and by the command `plan` for
an estimate. Removing duplicates shrinks what a model writes, so a round asks for more than is missing, and the next one
knows how much came of it. The outcome depends on what was answered and on nothing else: not on who asked, nor when.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from testbench.arena.bundle.arena_file import load_arena_file
from testbench.arena.bundle.bundle import Bundle, join_names
from testbench.arena.datagen.items import (
    AVOIDED,
    SYSTEM,
    AnsweredRequest,
    Batch,
    BatchRequest,
    FailedRequest,
    GeneratedItem,
    RoundPlan,
    Seed,
    write_prompt,
)
from testbench.arena.datagen.seeds import make_seeds
from testbench.arena.manifest.job import ArenaJob, DataGenSettings
from testbench.arena.plan.model import Plan
from testbench.results.summary import sum_usage
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


def make_requests(
    number: int,
    missing: int,
    expected_yield: float,
    seeds: Sequence[Seed],
    providers: Sequence[str],
    deal: Deal = Deal(),
) -> tuple[BatchRequest, ...]:
    """Return the requests of round `number` (from 1).

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


def list_writers(plan: Plan) -> tuple[str, ...]:
    """Return who takes turns at writing: everybody who would be under test."""
    return tuple(dict.fromkeys(system.name for system in plan.systems))


def decide_next(count: int, result: RoundResult) -> Next:
    """Return whether there is enough, another round makes sense, or the model has nothing new to say."""
    if result.distinct >= count:
        return "done"
    if result.rounds >= MOST_ROUNDS:
        return "exhausted"
    can_be_shorter = result.cut_off and result.batch > 1
    return "again" if can_be_shorter or result.fresh >= LEAST_YIELD else "exhausted"


def format_count(number: int, thing: str) -> str:
    """`1 round`, `2 rounds`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


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


def drop_duplicates(items: Iterable[GeneratedItem]) -> Distinct:
    """Keep the first of every group of items that ask the same."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=ALIKE, num_perm=PERMUTATIONS, weights=(0.2, 0.8))
    kept: list[GeneratedItem] = []
    kept_texts: list[str] = []  # their shingles take a hundred times as much
    seen: set[str] = set()
    exact = near = 0
    for item in items:
        text = normalize(item.user_input)
        if text in seen:
            exact += 1
            continue
        seen.add(text)
        shingles = make_shingles(text)
        sketch = MinHash(num_perm=PERMUTATIONS)
        sketch.update_batch([shingle.encode() for shingle in shingles])
        if any(
            compute_similarity(shingles, make_shingles(kept_texts[position])) >= ALIKE
            for position in index.query(sketch)
        ):
            near += 1
            continue
        index.insert(len(kept), sketch, check_duplication=False)
        kept.append(item)
        kept_texts.append(text)
    return Distinct(tuple(kept), exact, near)


def normalize(text: str) -> str:
    """Letters and digits of any script in lower case, single spaces between: `What's  UP?` and `whats up` are equal."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = (character if character.isalnum() else " " if character.isspace() else "" for character in folded)
    words = "".join(kept).split()
    return " ".join(words) if words else folded.strip()


def make_shingles(text: str) -> frozenset[str]:
    """Return every run of five characters; a shorter text is its own only shingle."""
    return frozenset(text[start : start + SHINGLE] for start in range(max(1, len(text) - SHINGLE + 1)))


def compute_similarity(one: frozenset[str], other: frozenset[str]) -> float:
    """Return the Jaccard index: shared shingles of all shingles."""
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


def plan_first_round(plan_digest: str, count: int, seeds: Sequence[Seed], providers: Sequence[str]) -> RoundPlan:
    """Return what is asked before anything is known."""
    requests = make_requests(1, count, FIRST_YIELD, seeds, providers)
    return RoundPlan(number=1, plan_digest=plan_digest, requests=requests, batch=BATCH_SIZE)


def plan_next_round(
    rounds: Sequence[RoundPlan], count: int, generated: Generated, seeds: Sequence[Seed], providers: Sequence[str]
) -> RoundPlan:
    """Return what is asked after `rounds`: what is missing, of nobody who is silent, and unlike what there is."""
    last, result = rounds[-1], generated.result
    batch = max(1, last.batch // 2) if result.cut_off else last.batch
    requests = make_requests(
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
    """Return all items without duplicates; of two that are alike, the one that was asked for first is kept."""
    in_order = [answered[one.key] for planned in rounds for one in planned.requests if one.key in answered]
    found = drop_duplicates(item for one in in_order for item in one.items)
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


CHARACTERS_OF_A_TOKEN: Final = 4
"""In Latin script, about."""
A_QUESTION: Final = "x" * 60
"""As long as one usually is: requests show the model what it has already written."""


@dataclass(frozen=True)
class GenerationEstimate:
    """The first round; further ones depend on what comes of it. `input_tokens` are about so many."""

    items: int
    format: str
    writers: tuple[str, ...]
    prompts: int
    passages: int
    requests: int
    input_tokens: int


def estimate_generation(job: ArenaJob, bundle: Bundle, plan: Plan) -> GenerationEstimate:
    """Return how much a job asks for, if nothing has to be asked again.

    Raises:
        InputError: there is nothing to generate from.
    """
    settings = job.spec.data_gen or DataGenSettings()
    seeds, writers = make_seeds(bundle, load_arena_file(job, bundle)), list_writers(plan)
    requests = plan_first_round(plan.digest, settings.count, seeds, writers).requests
    characters = len(requests) * (len(SYSTEM) + len(json.dumps(Batch.model_json_schema())))
    known: Counter[int] = Counter()
    for request in requests:
        characters += len(write_prompt(request, seeds[request.seed], [A_QUESTION] * min(AVOIDED, known[request.seed])))
        known[request.seed] += request.size
    return GenerationEstimate(
        items=settings.count,
        format=settings.format,
        writers=writers,
        prompts=len({seed.prompt_path for seed in seeds}),
        passages=len({seed.document_path for seed in seeds} - {None}),
        requests=len(requests),
        input_tokens=characters // CHARACTERS_OF_A_TOKEN,
    )


def format_estimate(estimate: GenerationEstimate) -> str:
    """Return the estimate as lines of text."""
    material = format_count(estimate.prompts, "prompt")
    if estimate.passages:
        material += f" with {format_count(estimate.passages, 'passage')} of documents"
    return "\n".join(
        [
            f"{format_count(estimate.items, 'item')} as {estimate.format}, from {material}",
            f"written by {join_names(estimate.writers)}",
            f"first round: {format_count(estimate.requests, 'request')}, about {estimate.input_tokens:,} tokens"
            " to read; duplicates are made up for in further rounds",
        ]
    )
