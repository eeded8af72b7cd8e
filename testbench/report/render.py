"""From an evaluated experiment and its verdict to one HTML file that needs nothing but a browser.

    scenarios --> opened rows, compressed while they come ----------------> page
    experiment + verdict + labels (+ baseline) -> ReportView -> index ------^

The data travels inside the page, compressed, as base64 in script elements that no browser executes. The index holds
what the table needs of all rows, column by column; the opened rows follow in pieces of `PIECE_ROWS`, so that the page
is usable before they are unpacked. `render_report` is for an experiment that is in memory (the arena's reducer);
`ReportBuilder` for one that is read scenario by scenario (`visualize.py`).
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

from testbench.report.page import render_page
from testbench.report.report_rows import ReportRow, TraceLinks, build_details, encode
from testbench.report.view import Labels, ReportView, build_view
from testbench.results.comparison import Baseline
from testbench.results.verdict import Verdict
from testbench.schema.models import EvaluatedExperiment, EvaluatedScenario

SCRIPTS: Final = (
    "inflate.js",
    "dom.js",
    "store.js",
    "diff.js",
    "evaluation.js",
    "conversation.js",
    "detail.js",
    "query.js",
    "table.js",
    "charts.js",
    "page.js",
)
STYLES: Final = ("base.css", "summary.css", "steps.css", "detail.css", "print.css")

PIECE_ROWS: Final = 200
STATIC_ROWS: Final = 50
"""Rows that the page shows where no script runs."""

VERDICT_CODES: Final = {"pass": "p", "fail": "f", "error": "e", "unjudged": "u"}
RESULT_CODES: Final = {"pass": "p", "fail": "f", "error": "e", "skipped": "s"}
CHANGE_CODES: Final = {"better": "b", "worse": "w", "changed": "c", "same": "=", "new": "n"}
NOT_ASKED: Final = "-"


def render_report(
    experiment: EvaluatedExperiment,
    verdict: Verdict,
    labels: Labels,
    *,
    baseline: Baseline | None = None,
    links: TraceLinks | None = None,
) -> bytes:
    """Return the whole report on an experiment as one HTML file.

    Raises:
        StoreError: Chart.js is not installed.
    """
    builder = ReportBuilder(labels, baseline=baseline, links=links)
    for scenario in experiment.scenarios:
        builder.add(scenario)
    return builder.build(experiment, verdict)


class ReportBuilder:
    """Takes the scenarios one by one, so that none has to stay in memory with its texts, and then makes the page."""

    def __init__(self, labels: Labels, *, baseline: Baseline | None = None, links: TraceLinks | None = None) -> None:
        self._labels = labels
        self._baseline = baseline
        self._links = links or TraceLinks()
        self._packer = Packer()

    def add(self, scenario: EvaluatedScenario) -> None:
        """Take the next scenario, in the order of the experiment."""
        for detail in build_details(scenario, self._baseline, self._links):
            self._packer.add(detail)

    def build(self, experiment: EvaluatedExperiment, verdict: Verdict) -> bytes:
        """Return the page; of the experiment's scenarios, those that were added, no texts are needed any more.

        Raises:
            StoreError: Chart.js is not installed.
        """
        view = build_view(experiment, verdict, self._labels, self._baseline)
        values = {
            "view": view,
            "index": pack_index(view),
            "pieces": self._packer.pieces(),
            "first": list(zip(view.rows, self._packer.first, strict=False)),
            "more": max(0, len(view.rows) - len(self._packer.first)),
        }
        return render_page("report.html.j2", SCRIPTS, STYLES, values)


# --- the data inside the page ----------------------------------------------------------------------------------------


class Packer:
    """Takes the opened rows one by one and keeps them compressed; of the first ones also the plain data.

    A thread compresses, which leaves the interpreter to whoever reads the next rows.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="compress")
        self._pieces: list[Future[str]] = []
        self._lines: list[bytes] = []
        self.first: list[Mapping[str, Any]] = []
        """What the page shows of its first rows where no script runs."""

    def add(self, detail: Mapping[str, Any]) -> None:
        """Take the next row, in the order of the table."""
        if len(self.first) < STATIC_ROWS:
            self.first.append(detail)
        self._lines.append(encode(detail))
        if len(self._lines) == PIECE_ROWS:
            self._flush()

    def pieces(self) -> tuple[str, ...]:
        """Return all pieces: each is a JSON list of up to `PIECE_ROWS` rows, deflated, in base64."""
        self._flush()
        self._thread.shutdown()
        return tuple(piece.result() for piece in self._pieces)

    def _flush(self) -> None:
        if self._lines:
            self._pieces.append(self._thread.submit(_pack, b"[" + b",".join(self._lines) + b"]"))
            self._lines.clear()


def pack_index(view: ReportView) -> str:
    """Return what the browser needs of all rows at once, packed like a piece."""
    return _pack(encode(build_index(view)))


def build_index(view: ReportView) -> dict[str, Any]:
    """Return the table as columns; every column has one entry for each row."""
    rows = view.rows
    return {
        "pieceRows": PIECE_ROWS,
        "defaultThreshold": view.default_threshold,
        "compared": view.comparison is not None,
        "metrics": [_build_metric_entry(view, number) for number in range(len(view.metrics))],
        "scenarios": view.scenarios,
        "ids": [row.id for row in rows],
        "scenario": [row.scenario for row in rows],
        "position": [row.position for row in rows],
        "title": [row.title for row in rows],
        "verdict": "".join(VERDICT_CODES[row.verdict] for row in rows),
        "latency": [None if row.latency_ms is None else round(row.latency_ms, 1) for row in rows],
        "change": "".join(CHANGE_CODES[row.change.kind] if row.change else NOT_ASKED for row in rows),
        "delta": [_round_delta(row) for row in rows],
        "quarantine": "".join("q" if row.quarantine else NOT_ASKED for row in rows),
        "repetition": [row.repetition for row in rows],
        "label": [row.label for row in rows],
    }


def _build_metric_entry(view: ReportView, number: int) -> dict[str, Any]:
    metric = view.metrics[number]
    spread = metric.spread
    return {
        "name": metric.name,
        "gating": metric.gating,
        "thresholds": metric.thresholds,
        "scored": metric.scored,
        "total": metric.total,
        "mean": spread and spread.mean,
        "low": spread and spread.interval.low,
        "high": spread and spread.interval.high,
        "histogram": spread and spread.histogram,
        **_build_metric_column(metric.name, view.rows),
    }


def _build_metric_column(name: str, rows: Sequence[ReportRow]) -> dict[str, Any]:
    cells = [row.cells.get(name) for row in rows]
    return {
        "results": "".join(RESULT_CODES[cell.result] if cell else NOT_ASKED for cell in cells),
        "scores": [cell.score if cell else None for cell in cells],
    }


def _round_delta(row: ReportRow) -> float | None:
    return None if row.change is None or row.change.delta is None else round(row.change.delta, 4)


def _pack(content: bytes) -> str:
    compressor = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return base64.b64encode(compressor.compress(content) + compressor.flush()).decode("ascii")


def unpack(packed: str) -> Any:
    """Return the data of one packed piece, as a browser reads it."""
    return json.loads(zlib.decompress(base64.b64decode(packed), -zlib.MAX_WBITS))
