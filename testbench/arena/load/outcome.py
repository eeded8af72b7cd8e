"""The files of a load test: its results, its limits as JUnit, and its seconds as CSV; and how a worker ended.

Written by the executor's reducer, `LoadEnd` by its workers. Pure.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import datetime
from typing import Final
from xml.etree import ElementTree as ET  # writes XML, parses none  # nosec B405

from pydantic import Field

from testbench.arena.conclusion import SUCCEEDED, Conclusion
from testbench.arena.load.generator import Stopped
from testbench.arena.load.levels import LevelQuality
from testbench.arena.load.limits import LIMIT_MISSED, LimitResult
from testbench.arena.load.measures import Measures
from testbench.arena.plan.model import PlanModel
from testbench.safe_text import printable
from testbench.schema.models import ExecutedScenario

BEGUN_FILE: Final = "begun.json"
"""Of a worker that sends: a second one of the same shard finds it, and does not double the load."""
END_FILE: Final = "end.json"
TOGETHER_S: Final = 1.0
"""How far apart the starts of workers may be that should have begun at the same time."""
STOPS_FIRST: Final[tuple[Stopped, ...]] = ("cancelled", "unpriced", "budget")


class LoadBegin(PlanModel):
    """Who sends a worker's part of the test; written before the first request."""

    worker: str


class LoadEnd(PlanModel):
    """How one worker's part of the test went; beside the parts with its samples."""

    started_at: datetime = Field(description="The start from which all its times are counted.")
    stopped_by: Stopped
    samples: int


class KeptScenario(PlanModel):
    """A conversation that is to be judged, with the number of its arrival."""

    arrival: int
    scenario: ExecutedScenario


class LoadResults(PlanModel):
    """`results.json` of a load test. Missing workers make every number one of a part of the load."""

    job: str
    run_id: str
    plan_digest: str
    workers: int
    missing_workers: tuple[int, ...] = ()
    started_at: datetime | None = None
    stopped_by: Stopped = "duration"
    reason: str
    message: str
    limits: tuple[LimitResult, ...]
    pass_rate: float | None = Field(description="Of the conversations that were judged; absent where none was.")
    levels: tuple[LevelQuality, ...]
    measures: Measures


def stopped_by(ends: Sequence[LoadEnd]) -> Stopped:
    """What ended the test: the gravest of what the workers say."""
    said = {end.stopped_by for end in ends}
    return next((stop for stop in STOPS_FIRST if stop in said), "duration")


def began_together(ends: Sequence[LoadEnd]) -> bool:
    """Whether all workers count from the same start."""
    starts = [end.started_at for end in ends]
    return not starts or (max(starts) - min(starts)).total_seconds() <= TOGETHER_S


def series_csv(measures: Measures) -> bytes:
    """One line for each second; a number that was not measured is an empty cell."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("second", "due", "answered", "errors", "p50_ms", "p95_ms"))
    for one in measures.series:
        writer.writerow((one.second, one.due, one.answered, one.errors, one.p50_ms, one.p95_ms))
    return text.getvalue().encode()


def limits_junit(job: str, conclusion: Conclusion, limits: Sequence[LimitResult]) -> bytes:
    """A case for each limit, and one for the test as such, which fails where its numbers are not to be believed."""
    name = printable(job)
    root = ET.Element("testsuites", name=name)
    suite = ET.SubElement(root, "testsuite", name="load test")
    whole = ET.SubElement(suite, "testcase", name="the load was as planned", classname=f"{name}.load", time="0")
    if conclusion.reason not in (SUCCEEDED, LIMIT_MISSED):
        ET.SubElement(whole, "error", message=printable(conclusion.message), type=conclusion.reason)
    for limit in limits:
        title = f"{limit.metric} {limit.operator} {limit.limit:g}"
        case = ET.SubElement(suite, "testcase", name=title, classname=f"{name}.load", time="0")
        if limit.measured is None:
            ET.SubElement(case, "error", message=limit.sentence, type="not_measured")
        elif not limit.kept:
            ET.SubElement(case, "failure", message=limit.sentence, type="limit")
    for element in (suite, root):
        element.set("tests", str(1 + len(limits)))
        element.set("failures", str(sum(1 for _ in element.iter("failure"))))
        element.set("errors", str(sum(1 for _ in element.iter("error"))))
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"
