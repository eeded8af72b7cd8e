"""How the data travels inside the page: compressed, as base64 in script elements that no browser executes.

The index holds what the table needs of all rows, column by column; the opened rows follow in pieces of `PIECE_ROWS`, so
that the page is usable before they are unpacked. Called by `visualize.py` (packing while it reads) and
`testbench.report.render`.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

from testbench.errors import StoreError
from testbench.report.rows import Row, encode
from testbench.report.view import ReportView

PIECE_ROWS = 200
STATIC_ROWS = 50
"""Rows that the page shows where no script runs."""

VERDICT_CODES = {"pass": "p", "fail": "f", "error": "e", "unjudged": "u"}
RESULT_CODES = {"pass": "p", "fail": "f", "error": "e", "skipped": "s"}
CHANGE_CODES = {"better": "b", "worse": "w", "changed": "c", "same": "=", "new": "n"}
NOT_ASKED = "-"


class Packer:
    """Takes the opened rows one by one and keeps them compressed; of the first ones also the plain data.

    A thread compresses, which leaves the interpreter to whoever reads the next rows.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="compress")
        self._pieces: list[Future[str]] = []
        self._lines: list[bytes] = []
        self.first: list[Mapping[str, Any]] = []

    def add(self, detail: Mapping[str, Any]) -> None:
        """The next row, in the order of the table."""
        if len(self.first) < STATIC_ROWS:
            self.first.append(detail)
        self._lines.append(encode(detail))
        if len(self._lines) == PIECE_ROWS:
            self._flush()

    def pieces(self) -> tuple[str, ...]:
        """All pieces: each is a JSON list of up to `PIECE_ROWS` rows, deflated, in base64."""
        self._flush()
        self._thread.shutdown()
        return tuple(piece.result() for piece in self._pieces)

    def _flush(self) -> None:
        if self._lines:
            self._pieces.append(self._thread.submit(_pack, b"[" + b",".join(self._lines) + b"]"))
            self._lines.clear()


def packed_index(view: ReportView) -> str:
    """What the browser needs of all rows at once, packed like a piece."""
    return _pack(encode(index(view)))


def index(view: ReportView) -> dict[str, Any]:
    """The table as columns; every column has one entry per row."""
    found = view.rows
    return {
        "pieceRows": PIECE_ROWS,
        "defaultThreshold": view.default_threshold,
        "compared": view.comparison is not None,
        "metrics": [_metric(view, number) for number in range(len(view.metrics))],
        "scenarios": view.scenarios,
        "ids": [row.id for row in found],
        "scenario": [row.scenario for row in found],
        "position": [row.position for row in found],
        "title": [row.title for row in found],
        "verdict": "".join(VERDICT_CODES[row.verdict] for row in found),
        "latency": [None if row.latency_ms is None else round(row.latency_ms, 1) for row in found],
        "change": "".join(CHANGE_CODES[row.change.kind] if row.change else NOT_ASKED for row in found),
        "delta": [_delta(row) for row in found],
        "quarantine": "".join("q" if row.quarantine else NOT_ASKED for row in found),
        "repetition": [row.repetition for row in found],
        "label": [row.label for row in found],
    }


def _metric(view: ReportView, number: int) -> dict[str, Any]:
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
        **_column(metric.name, view.rows),
    }


def _column(name: str, found: Sequence[Row]) -> dict[str, Any]:
    cells = [row.cells.get(name) for row in found]
    return {
        "results": "".join(RESULT_CODES[cell.result] if cell else NOT_ASKED for cell in cells),
        "scores": [cell.score if cell else None for cell in cells],
    }


def _delta(row: Row) -> float | None:
    return None if row.change is None or row.change.delta is None else round(row.change.delta, 4)


def _pack(content: bytes) -> str:
    compressor = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return base64.b64encode(compressor.compress(content) + compressor.flush()).decode("ascii")


def unpack(packed: str) -> Any:
    """The data of one packed piece again."""
    return json.loads(zlib.decompress(base64.b64decode(packed), -zlib.MAX_WBITS))


def static_rows(view: ReportView, packer: Packer) -> Iterator[tuple[Row, Mapping[str, Any]]]:
    """The first rows with what they show when opened, for a page without script."""
    return zip(view.rows, packer.first, strict=False)


DISTRIBUTION = "robotframework-dashboard"
FILE_NAME = "dependencies/chart.js"
BANNER = re.compile(r"/\*!\s+\* Chart\.js v(?P<major>\d+)\.\d+\.\d+\b")
MAJOR = 4
HINT = f"Install the locked packages again: uv sync (Chart.js is a file of {DISTRIBUTION})."


def chart_js() -> str:
    """The source of Chart.js 4, without the comment that points a debugger to a source map on the network.

    Raises:
        StoreError: the package is not installed, or carries no Chart.js 4.
    """
    source = _read()
    banner = BANNER.match(source)
    if banner is None or int(banner["major"]) != MAJOR:
        raise StoreError(f"{DISTRIBUTION} carries no Chart.js {MAJOR}", hint=HINT)
    return re.sub(r"^//# sourceMappingURL=.*$", "", source, flags=re.MULTILINE).rstrip() + "\n"


def _read() -> str:
    try:
        files = metadata.files(DISTRIBUTION) or []
    except metadata.PackageNotFoundError as error:
        raise StoreError(f"{DISTRIBUTION} is not installed", hint=HINT) from error
    for file in files:
        if file.as_posix().endswith(FILE_NAME):
            try:
                return Path(str(file.locate())).read_text(encoding="utf-8")
            except OSError as error:
                raise StoreError(f"{file.locate()}: cannot be read: {error.strerror}", hint=HINT) from error
    raise StoreError(f"{DISTRIBUTION} carries no {FILE_NAME}", hint=HINT)
