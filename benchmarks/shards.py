"""Into how many shards should an ArenaJob be cut? A simulation: `.venv/bin/python benchmarks/shards.py`.

Items take a lognormal time, every third one, those of a slow provider, five times as long. They are dealt one by one to
the shards. A pod takes a while to start, works on its shard with so many items at once, and ends; the next shard needs
a new pod. Printed is the time until the last item is done, over that of a queue that every slot takes its next item
from and whose pods start once.
"""

from __future__ import annotations

import argparse
import heapq
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

SHARDS_PER_WORKER = (1, 2, 4, 8)


@dataclass(frozen=True)
class Scene:
    """Times are in seconds. With `begin` below `workers` their number doubles each time that all have started."""

    items_per_worker: int
    slots: int
    workers: int = 20
    begin: int = 20
    pod_start: float = 15.0
    median: float = 8.0
    lost_pods: float = 0.0
    """Proportion of shards whose pod dies half-way; its next one goes on from what was written."""


def durations(scene: Scene, dice: random.Random) -> list[float]:
    amount = scene.items_per_worker * scene.workers
    return [scene.median * dice.lognormvariate(0, 0.8) * (5 if number % 3 == 0 else 1) for number in range(amount)]


def dealt(items: Sequence[float], shards: int) -> list[Sequence[float]]:
    """As the plan does: each scenario begins with the next provider, so that no shard gets all of the slow one."""
    rows = [items[at : at + 3] for at in range(0, len(items), 3)]
    turned = [item for number, row in enumerate(rows) for item in (*row[number % 3 :], *row[: number % 3])]
    return [turned[index::shards] for index in range(shards)]


def worked_off(items: Sequence[float], slots: int) -> float:
    """The time in which so many slots do the items in their order."""
    free = [0.0] * slots
    for item in items:
        heapq.heappush(free, heapq.heappop(free) + item)
    return max(free)


def makespan(scene: Scene, shards: int, dice: random.Random) -> float:
    """The end of the last shard, with pods that start when a place is free and as the number of places grows."""
    places = opened(scene)
    heapq.heapify(places)
    ends = []
    for part in dealt(durations(scene, dice), shards):
        begun = heapq.heappop(places)
        lost = scene.pod_start + 10 if dice.random() < scene.lost_pods else 0
        ends.append(begun + scene.pod_start + worked_off(part, scene.slots) + lost)
        heapq.heappush(places, ends[-1])
    return max(ends)


def opened(scene: Scene) -> list[float]:
    """When each place for a pod opens."""
    times: list[float] = [0.0] * scene.begin
    while len(times) < scene.workers:
        times += [times[-1] + scene.pod_start] * min(len(times), scene.workers - len(times))
    return times


def ideal(scene: Scene, dice: random.Random) -> float:
    """One queue for all slots of all places; each pod starts once."""
    free = [time + scene.pod_start for time in opened(scene) for _ in range(scene.slots)]
    heapq.heapify(free)
    for item in durations(scene, dice):
        heapq.heappush(free, heapq.heappop(free) + item)
    return max(free)


def ratios(scene: Scene, times: int) -> list[float]:
    """Makespan over the ideal for each number of shards, the mean of several draws."""
    found = []
    for each in SHARDS_PER_WORKER:
        quotients = [
            makespan(scene, each * scene.workers, random.Random(seed)) / ideal(scene, random.Random(seed))
            for seed in range(times)
        ]
        found.append(statistics.fmean(quotients))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--times", type=int, default=20, help="Draws for each line.")
    times = parser.parse_args().times
    print(f"{'20 workers, pods start in 15 s':42}" + "".join(f"  S={each}W" for each in SHARDS_PER_WORKER))
    for begin, lost in ((20, 0.0), (2, 0.0), (20, 0.2)):
        for slots in (1, 4, 16):
            for items in (10, 100, 400):
                scene = Scene(items, slots, begin=begin, lost_pods=lost)
                name = f"from {begin:2}, {lost:4.0%} die, {slots:2} at once, {items:3} items each"
                print(f"{name:42}" + "".join(f"{ratio:6.2f}" for ratio in ratios(scene, times)), flush=True)


if __name__ == "__main__":
    main()
