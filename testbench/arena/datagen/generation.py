"""A data generation, and its files in the folder of its run: what each round asks, each answer, and who is done.

    rounds/<number>.json                              what a round asks, from the second one on
    shards/<index>/round-<number>/<key>.json          one answered request
    shards/<index>/round-<number>/done-<count>.json   all requests of one of so many shards were asked

Called by the workers and the reducer. Files are created once, and a name is made of the request alone: an answer that
is there is not asked for again, whichever worker got it. What cannot be read as what it should be stops the work.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

from pydantic import ValidationError

from testbench.arena.bundle.arena_file import load_arena_file
from testbench.arena.datagen.items import (
    AnsweredRequest,
    BatchRequest,
    RoundDone,
    RoundPlan,
    Seed,
)
from testbench.arena.datagen.rounds import (
    MOST_ITEMS,
    list_writers,
    plan_first_round,
)
from testbench.arena.datagen.seeds import make_seeds
from testbench.arena.manifest.job import DataGenSettings
from testbench.arena.plan.model import PlanModel
from testbench.arena.runs.context import JobContext
from testbench.arena.stores import ResultStore, write_once
from testbench.errors import InputError, StoreError
from testbench.schema.shards import Shard

SHARDS: Final = "shards"
READERS: Final = 16
"""Files that are read at once: each takes a round trip of a bucket."""

RecordT = TypeVar("RecordT", bound=PlanModel)


@dataclass(frozen=True)
class Generation:
    """A job that generates data; `providers` take turns at writing it."""

    context: JobContext
    settings: DataGenSettings
    seeds: tuple[Seed, ...]
    providers: tuple[str, ...]

    @property
    def digest(self) -> str:
        return self.context.plan.digest

    def round(self, number: int) -> RoundPlan:
        """Return what a round asks: the first follows from the plan, the others were decided by the reducer before.

        Raises:
            StoreError: nobody decided it, or it cannot be read.
        """
        if number == 1:
            return plan_first_round(self.digest, self.settings.count, self.seeds, self.providers)
        found = read_round(self.context.store, number, self.digest)
        if found is None:
            hint = f"Reduce round {number - 1} first."
            raise StoreError(f"round {number} of {self.context.plan.job} is not decided yet", hint=hint)
        return found


def make_generation(context: JobContext) -> Generation:
    """Everything that is decided before anybody is asked.

    Raises:
        InputError: the bundle is not the plan's, holds nothing to generate from, or too many items are wanted.
    """
    settings = context.job.spec.data_gen or DataGenSettings()
    if settings.count > MOST_ITEMS:
        raise InputError(
            f"dataGen.count is {settings.count:,}", hint=f"At most {MOST_ITEMS:,}: make several jobs of it."
        )
    bundle = context.bundle
    if bundle.revision != context.plan.source_revision:
        hint = "Give the source that the plan was made with, or plan again."
        raise InputError(f"{bundle.origin}: is not the source of this plan", hint=hint)
    seeds = make_seeds(bundle, load_arena_file(context.job, bundle))
    return Generation(context, settings, seeds, list_writers(context.plan))


# --- files -----------------------------------------------------------------------------------------------------------


def write_round(store: ResultStore, planned: RoundPlan) -> None:
    """Say what a round asks.

    Raises:
        StoreError: it was not written, or another plan of this round is there.
    """
    write_once(store, _name_round(planned.number), _encode(planned))


def read_round(store: ResultStore, number: int, plan_digest: str) -> RoundPlan | None:
    """Return what a round asks, or None where nobody has said so.

    Raises:
        StoreError: it cannot be read.
    """
    planned = _read(store, _name_round(number), RoundPlan)
    if planned is not None and (planned.number, planned.plan_digest) != (number, plan_digest):
        raise _make_foreign_error(store, _name_round(number))
    return planned


def write_answer(store: ResultStore, index: int, answered: AnsweredRequest) -> None:
    """Keep an answer; of two that somebody got, the first one stays."""
    request = answered.request
    store.create(f"{_name_folder(index, request.round)}/{request.key}.json", _encode(answered))


def read_answers(
    store: ResultStore, requests: Iterable[BatchRequest], plan_digest: str
) -> Mapping[str, AnsweredRequest]:
    """Return the answers to these requests that any shard has, by key.

    Raises:
        StoreError: one is there and cannot be read, or answers something else.
    """
    asked = {request.key: request for request in requests}
    found: dict[str, str] = {}
    for name in store.names(SHARDS):
        key = name.rpartition("/")[2].removesuffix(".json")
        if key in asked:
            found.setdefault(key, name)

    def read(key: str) -> AnsweredRequest:
        answered = _read(store, found[key], AnsweredRequest)
        if answered is None or (answered.request, answered.plan_digest) != (asked[key], plan_digest):
            raise _make_foreign_error(store, found[key])
        return answered

    with ThreadPoolExecutor(READERS) as readers:
        return dict(zip(found, readers.map(read, found), strict=True))


def write_done(store: ResultStore, shard: Shard, done: RoundDone) -> None:
    """Say that a shard's part of a round is done; of two workers that say so the first one stays."""
    store.create(_name_done(done.round, shard), _encode(done))


def read_done(store: ResultStore, number: int, shard: Shard, plan_digest: str) -> RoundDone | None:
    """Return what a shard says at the end of a round, or None where it is not done.

    Raises:
        StoreError: it cannot be read.
    """
    done = _read(store, _name_done(number, shard), RoundDone)
    if done is not None and (done.round, done.plan_digest) != (number, plan_digest):
        raise _make_foreign_error(store, _name_done(number, shard))
    return done


def find_unaccounted(
    done: RoundDone, requests: Sequence[BatchRequest], answered: Mapping[str, AnsweredRequest]
) -> set[str]:
    """Keys of a shard's requests of which nobody knows what became of them."""
    known = {key for key in done.answered if key in answered} | {one.key for one in done.failed}
    return {request.key for request in requests} - known


def _name_round(number: int) -> str:
    return f"rounds/{number}.json"


def _name_folder(index: int, number: int) -> str:
    return f"{SHARDS}/{index}/round-{number}"


def _name_done(number: int, shard: Shard) -> str:
    return f"{_name_folder(shard.index, number)}/done-{shard.count}.json"


def _encode(record: PlanModel) -> bytes:
    return record.model_dump_json(exclude_none=True).encode() + b"\n"


def _read(store: ResultStore, name: str, model: type[RecordT]) -> RecordT | None:
    content = store.read(name)
    if content is None:
        return None
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        hint = "It was damaged, or written by another version: begin a new run."
        raise StoreError(f"{store.url(name)}: is not what it should be", hint=hint) from error


def _make_foreign_error(store: ResultStore, name: str) -> StoreError:
    return StoreError(f"{store.url(name)}: belongs to another plan", hint="Each run needs a folder of its own.")
