"""How many workers of an indexed Job run, and how far they have come: numbers only.

The Job controller starts an index as soon as it may; what is decided here is how many at once. Their number doubles
while everything that was asked for is at work, and is never taken back: lowering it would end pods that are working.
At the end Kubernetes itself runs no more pods than there are indexes left.
"""

from __future__ import annotations

from collections.abc import Iterator

from testbench.arena.manifest.job_status import Progress
from testbench.arena.operator.observed import KubeJob


def indexes(ranges: str) -> Iterator[range]:
    """The ranges of a text such as `1,3-5`. What is no range is left out: it is only ever counted."""
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        if first.isdigit() and (last or first).isdigit():
            yield range(int(first), int(last or first) + 1)


def amount(ranges: str) -> int:
    """How many indexes a text such as `1,3-5` names."""
    return sum(map(len, indexes(ranges)))


def remaining(job: KubeJob) -> int:
    """How many of its indexes have not ended."""
    return job.completions - amount(job.completed_indexes) - amount(job.failed_indexes)


def next_parallelism(job: KubeJob, most: int) -> int:
    """What the Job's parallelism should be now; never less than it is."""
    settled = job.active == job.ready == job.parallelism
    wanted = min(job.parallelism * 2, most, remaining(job)) if settled else job.parallelism
    return max(job.parallelism, wanted)


def items_in(ranges: str, items: int, shards: int) -> int:
    """How many of `items`, dealt one by one to `shards`, are in the shards that the text names."""
    each, more = divmod(items, shards)
    return sum(
        each * len(part) + max(0, min(part.stop, more) - part.start)
        for part in (range(part.start, min(part.stop, shards)) for part in indexes(ranges))
    )


def progress(items: int, job: KubeJob | None) -> Progress:
    """Items of finished and of failed shards; what is in flight is pending until its shard is finished."""
    if job is None:
        return Progress(total=items, pending=items)
    completed = items_in(job.completed_indexes, items, job.completions)
    failed = items_in(job.failed_indexes, items, job.completions)
    return Progress(total=items, completed=completed, failed=failed, pending=max(0, items - completed - failed))
