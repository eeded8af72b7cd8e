"""What it costs to reduce a large run: time, and peak memory of the whole process.

    python benchmarks/reduce.py [ITEMS [SHARDS]]          100,000 items in 1,000 shards unless said otherwise

Each step is a process of its own. Prints figures and asserts nothing.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

PROVIDERS = ("gpt", "claude", "gemini", "mistral")
REPETITIONS = 5
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def make(folder: Path, items: int, shards: int) -> None:
    """A plan and the parts of all its shards, one for each; conversations of one step with two evaluations."""
    from testbench.arena.evaluation.results import ItemResult
    from testbench.arena.plan.model import Item, Plan, PlannedScenarioFile, SystemUnderTest
    from testbench.schema.ids import assign_ids, content_id
    from testbench.schema.models import (
        EvaluatedScenario,
        EvaluatedStep,
        Evaluation,
        Metric,
        Result,
        Scenario,
        Step,
        Turn,
    )

    metrics = (
        Metric(metric_name="builtin.contains", threshold=0.5),
        Metric(metric_name="builtin.rouge", threshold=0.3),
    )
    amount = items // (len(PROVIDERS) * REPETITIONS)
    given = [
        Scenario(name=f"scenario {number}", steps=(Step(input=f"What about number {number}? " * 4, metrics=metrics),))
        for number in range(amount)
    ]
    planned = assign_ids(given)
    systems = tuple(SystemUnderTest(group="default", name=name, kind="provider") for name in PROVIDERS)
    made = [
        (one, system, repetition) for repetition in range(1, REPETITIONS + 1) for one in planned for system in systems
    ]
    plan = Plan(
        job="large",
        namespace="arena",
        type="evaluation",
        source_revision="sha256:1",
        digest=f"sha256:{'0' * 64}",
        scenarios=tuple(
            PlannedScenarioFile(path=f"{one.id}.yaml", id=one.id, scenario=scenario)
            for one, scenario in zip(planned, given, strict=True)
        ),
        systems=systems,
        items=tuple(
            Item(
                key=content_id("itm", one.id, system.label, repetition),
                position=position,
                scenario_path=f"{one.id}.yaml",
                scenario_id=one.id,
                scenario_name=one.name,
                system=system,
                repetition=repetition,
            )
            for position, (one, system, repetition) in enumerate(made)
        ),
    )
    (folder / "plan.json").write_bytes(plan.model_dump_json().encode())
    for index in range(shards):
        lines = []
        for item in plan.items[index::shards]:
            one = made[item.position][0]
            turns = (
                Turn(content=one.steps[0].input, type="human"),
                Turn(content="An answer of some length. " * 8, type="agent"),
            )
            judged = tuple(
                Evaluation(metric=metric, result=Result(result="pass", score=0.9, reason="It is so."))
                for metric in metrics
            )
            step = dict(one.steps[0]) | {"status": "ok", "turns": turns, "evaluations": judged}
            whole = dict(one) | {"provider": item.system.label, "repetition": item.repetition}
            scenario = EvaluatedScenario.model_validate(whole | {"steps": (EvaluatedStep.model_validate(step),)})
            result = ItemResult(
                key=item.key, plan_digest=plan.digest, shard=index, worker="w", finished_at=NOW, scenario=scenario
            )
            lines.append(result.model_dump_json(exclude_none=True))
        (folder / f"part-{index}.jsonl").write_text("\n".join(lines) + "\n")


def reduce_parts(folder: Path, items: int, shards: int) -> None:
    """Parts to results by item."""
    from testbench.arena.evaluation.results import reduce_parts
    from testbench.arena.plan.model import Plan

    plan = Plan.model_validate_json((folder / "plan.json").read_bytes())
    found = reduce_parts(plan, _parts(folder, shards))
    if not found.complete:
        sys.exit(f"incomplete: {found.faults}")


def reduce_whole(folder: Path, items: int, shards: int) -> None:
    """Parts to results, experiment, verdict, rows, JSON and conclusion."""
    from testbench.arena.conclusion import build_termination_message
    from testbench.arena.evaluation.results import build_experiment, reduce_parts
    from testbench.arena.evaluation.rows import build_rows, conclude_evaluation
    from testbench.arena.plan.model import Plan
    from testbench.gating.decision import reach_verdict
    from testbench.results.verdict import Policy
    from testbench.schema.models import EvaluationRecord

    plan = Plan.model_validate_json((folder / "plan.json").read_bytes())
    found = reduce_parts(plan, _parts(folder, shards))
    experiment = build_experiment(plan, found, EvaluationRecord(testbench_version="0", started_at=NOW, wall_seconds=1))
    verdict = reach_verdict(experiment, Policy())
    said = build_termination_message(conclude_evaluation(verdict, found, [], list(build_rows(plan, experiment))))
    content = experiment.model_dump_json()
    print(f"  results.json {len(content) / 2**20:.0f} MiB, termination message {len(said)} bytes")


def _parts(folder: Path, shards: int) -> Iterator[bytes]:
    return ((folder / f"part-{index}.jsonl").read_bytes() for index in range(shards))


def measured(step: Callable[[Path, int, int], None], folder: Path, items: int, shards: int) -> None:
    def work() -> None:
        begun, cpu = time.monotonic(), time.process_time()
        step(folder, items, shards)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        wall, busy = time.monotonic() - begun, time.process_time() - cpu
        print(f"{step.__name__:12} {wall:6.1f} s  {busy:6.1f} s CPU  {peak:6.0f} MiB")

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(process.exitcode)


def main() -> None:
    items, shards = (*map(int, sys.argv[1:]), *(100_000, 1_000)[len(sys.argv) - 1 :])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for step in (make, reduce_parts, reduce_whole):
            measured(step, folder, items, shards)
            if step is make:
                size = sum(path.stat().st_size for path in folder.glob("part-*"))
                plan = (folder / "plan.json").stat().st_size
                print(f"  {shards} parts {size / 2**20:.0f} MiB, plan {plan / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
