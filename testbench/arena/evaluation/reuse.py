"""A run that keeps what an earlier one has answered and judged, and does the rest again.

    earlier run's parts -> results without errors -> dealt to the new run's shards, before any of them begins

Called by `cli.py run --retry-errors`. The earlier run stays as it is: no file is written over, and what it concluded
can still be read.
"""

from __future__ import annotations

from collections.abc import Iterator

from testbench.arena.evaluation.results import reduce
from testbench.arena.evaluation.rows import row_of
from testbench.arena.plan.model import Plan
from testbench.arena.runs.context import RunFolder, part_name
from testbench.arena.runs.parts import checksum, counted_parts, done_markers
from testbench.arena.stores import write_once
from testbench.schema.shards import all_shards


def take_over(earlier: RunFolder, run_id: str, new: RunFolder, plan: Plan, shards: int) -> int:
    """How many results of the earlier run, whose name is `run_id`, are those of the new one.

    A result is kept if nothing in it is an error, whatever its score. A part that was changed after its shard was done
    is not read, and a run that has begun already keeps what it took.

    Raises:
        StoreError: the parts cannot be read, or not be written.
    """
    results = reduce(plan, _intact(earlier, plan)).results
    kept = {
        item.key: results[item.key]
        for item in plan.items
        if item.key in results and row_of(item, results[item.key].scenario).status != "error"
    }
    for shard in all_shards(shards):
        own = [kept[item.key] for item in shard.of(plan.items) if item.key in kept]
        if own:
            lines = [result.model_dump_json(exclude_none=True).encode() + b"\n" for result in own]
            write_once(new, part_name(shard.index, f"of-{run_id}", 1), b"".join(lines))
    return len(kept)


def _intact(earlier: RunFolder, plan: Plan) -> Iterator[bytes]:
    """The parts that are what their workers wrote, as far as a marker says so."""
    markers = done_markers(earlier, plan)
    digests = {name: digest for marker in markers.values() for name, digest in marker.parts.items()}
    for name, content in counted_parts(earlier, markers):
        if name not in digests or digests[name] == checksum(content):
            yield content
