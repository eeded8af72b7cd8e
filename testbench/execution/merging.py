"""The shards of a run put together again: the same file as one process would have written.

    files -> shards 1 to n of one run, each once -> trials in the order in which they were dealt -> the whole experiment

Used by the phase merge for what run wrote and for what evaluate made of it. It refuses whatever is not provably
the whole of one run: a verdict on a part must never pass for one on all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import TypeVar

from testbench import __version__
from testbench.errors import InputError, NothingToDo
from testbench.results.summary import sum_usage
from testbench.schema.ids import experiment_id
from testbench.schema.models import (
    EvaluatedExperiment,
    EvaluationRecord,
    ExecutedExperiment,
    ExecutedScenario,
    Experiment,
    Model,
    RunRecord,
    Scenario,
    Step,
)
from testbench.schema.shards import Shard, all_shards

ModelT = TypeVar("ModelT", bound=Model)

HINT = "Give every shard of one run once, as `run --shard` or `evaluate` wrote it."


@dataclass(frozen=True)
class ShardFile:
    """A file, and what it holds."""

    path: Path
    experiment: ExecutedExperiment


@dataclass(frozen=True)
class _Part:
    """A file that says which shard of which run it is."""

    path: Path
    shard: Shard
    run: RunRecord
    experiment: ExecutedExperiment


def merge(files: Sequence[ShardFile]) -> ExecutedExperiment:
    """Return the experiment of which these are all the shards, as one run would have left it; evaluated if they are.

    The time is that during which any shard was at work. A shard that has no scenario may stand there as run wrote it
    among files that evaluate wrote: there was nothing in it to evaluate.

    Raises:
        InputError: a shard is missing, there twice or of another run, or something is not as run deals it.
        NothingToDo: no shard has a scenario.
    """
    parts = _order_parts([_read_part(file) for file in files])
    _check_one_run(parts)
    dealt = _restore_order(parts)
    if not dealt:
        raise NothingToDo("no shard has a scenario", hint="Check the dataset, or the --limit of setup.")
    _check_repetitions(dealt, parts[0].run.repeats)
    once = len(dealt) // parts[0].run.repeats
    scenarios = tuple(chain.from_iterable(dealt[place::once] for place in range(once)))
    first = next(part.experiment for part in parts if part.experiment.scenarios)
    whole = first.model_copy(update={"run": _merge_records([part.run for part in parts]), "scenarios": scenarios})
    if isinstance(whole, EvaluatedExperiment):
        return whole.model_copy(update={"evaluation": _merge_evaluations(parts)})
    _check_asked(whole, dealt[:once], parts[0])
    return whole


def _read_part(file: ShardFile) -> _Part:
    run = file.experiment.run
    if run is None or run.shard is None or run.identity is None:
        raise InputError(f"{file.path}: is not a shard of a run", hint=HINT)
    try:
        return _Part(file.path, Shard.parse(run.shard), run, file.experiment)
    except InputError as error:
        raise InputError(f"{file.path}: {error.message}", hint=HINT) from error


def _order_parts(parts: Sequence[_Part]) -> list[_Part]:
    """Return the parts from the first to the last, each once."""
    found: dict[int, _Part] = {}
    for part in parts:
        if part.shard.count != parts[0].shard.count:
            said = f"{part.path} is shard {part.shard}, and {parts[0].path} is shard {parts[0].shard}"
            raise InputError(f"{said}: not of one division", hint=HINT)
        if part.shard.index in found:
            raise InputError(
                f"shard {part.shard} is there twice: {found[part.shard.index].path}, {part.path}", hint=HINT
            )
        found[part.shard.index] = part
    missing = [str(shard) for shard in all_shards(parts[0].shard.count) if shard.index not in found]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise InputError(f"missing shards: {', '.join(missing[:5])}{more}", hint=HINT)
    return [found[index] for index in sorted(found)]


def _check_one_run(parts: Sequence[_Part]) -> None:
    """The same in all files; of what an empty shard cannot know, in all that know it."""
    agent = [part for part in parts if part.run.agent_version is not None]
    judged = [part for part in parts if part.experiment.scenarios]
    for what, among, value in (
        ("experiment", parts, lambda part: part.experiment.id),
        ("run", parts, lambda part: part.run.identity),
        ("number of repeats", parts, lambda part: part.run.repeats),
        ("version of the agent", agent, lambda part: part.run.agent_version),
        ("phase", judged, lambda part: "evaluate" if isinstance(part.experiment, EvaluatedExperiment) else "run"),
        ("judge", judged, _get_judge),
    ):
        _check_agreement(what, among, value)


def _check_agreement(what: str, parts: Sequence[_Part], value: Callable[[_Part], object]) -> None:
    for part in parts:
        if value(part) != value(parts[0]):
            raise InputError(
                f"{part.path} is of another {what} than {parts[0].path}: {value(part)}, not {value(parts[0])}",
                hint=HINT,
            )


def _restore_order(parts: Sequence[_Part]) -> list[ExecutedScenario]:
    """Everything in the order in which run deals it: the first to the first shard, the second to the second..."""
    hands = [sorted(part.experiment.scenarios, key=lambda scenario: scenario.repetition) for part in parts]
    total = sum(map(len, hands))
    for part, hand in zip(parts, hands, strict=True):
        due = len(part.shard.of(range(total)))
        if len(hand) != due:
            said = f"{part.path}: holds {len(hand)} scenarios, and shard {part.shard} of {total} has {due}"
            raise InputError(said, hint=HINT)
    return [hands[place % len(hands)][place // len(hands)] for place in range(total)]


def _check_repetitions(dealt: Sequence[ExecutedScenario], repeats: int) -> None:
    """The same scenarios in the same order in each repetition, and none twice."""
    once = len(dealt) // repeats
    names = [scenario.id for scenario in dealt[:once]]
    alike = all(
        (scenario.id, scenario.repetition) == (names[place % once], place // once + 1)
        for place, scenario in enumerate(dealt)
    )
    if len(dealt) % repeats or len(set(names)) != once or not all(names) or not alike:
        raise InputError(f"the shards do not hold {repeats} repetitions of the same scenarios", hint=HINT)


def _check_asked(whole: ExecutedExperiment, scenarios: Sequence[ExecutedScenario], part: _Part) -> None:
    """What was asked is the experiment with that id. After evaluate, which completes the metrics, nobody can tell."""
    if part.run.testbench_version == __version__:  # another version may have had other fields to make the id of
        steps = [[_reduce_to(Step, step) for step in scenario.steps] for scenario in scenarios]
        asked = [_reduce_to(Scenario, scenario, steps=own) for scenario, own in zip(scenarios, steps, strict=True)]
        if experiment_id(_reduce_to(Experiment, whole, scenarios=asked)) != whole.id:
            raise InputError(f"the shards are not the whole of experiment {whole.id}", hint=HINT)


def _reduce_to(model: type[ModelT], source: Model, **other: object) -> ModelT:
    """Return what `model` knows of a richer one, with the keys that are the user's own."""
    fields = {name: getattr(source, name) for name in model.model_fields}
    return model.model_validate(fields | dict(source.model_extra or {}) | other)


def _merge_records(runs: Sequence[RunRecord]) -> RunRecord:
    seen = next((run for run in runs if run.agent_name or run.protocol_version), runs[0])
    started_at, seconds = _measure_work((run.started_at, run.wall_seconds) for run in runs)
    return seen.model_copy(update={"shard": None, "started_at": started_at, "wall_seconds": seconds})


def _merge_evaluations(parts: Sequence[_Part]) -> EvaluationRecord | None:
    """Return what the shards' records have in common; that they were evaluated one by one stays out of it."""
    records = [record for part in parts if (record := _get_evaluation(part)) is not None]
    if not records:
        return None
    started_at, seconds = _measure_work((record.started_at, record.wall_seconds) for record in records)
    return EvaluationRecord(
        judge_model=records[0].judge_model,
        testbench_version=records[0].testbench_version,
        started_at=started_at,
        wall_seconds=seconds,
        judge_usage=sum_usage(record.judge_usage for record in records),
    )


def _get_evaluation(part: _Part) -> EvaluationRecord | None:
    return part.experiment.evaluation if isinstance(part.experiment, EvaluatedExperiment) else None


def _get_judge(part: _Part) -> str | None:
    record = _get_evaluation(part)
    return record.judge_model if record is not None else None


def _measure_work(spans: Iterable[tuple[datetime, float]]) -> tuple[datetime, float]:
    """Return when the first began, and for how many seconds at least one of them was under way."""
    ordered = sorted(spans)
    began = until = ordered[0][0]
    seconds = 0.0
    for start, length in ordered:
        end = start + timedelta(seconds=length)
        seconds += max(0.0, (end - max(start, until)).total_seconds())
        until = max(until, end)
    return began, seconds
