"""Log lines on stderr: plain for people, JSON lines for machines with `TESTBENCH_LOG_FORMAT=json`.

Configured once by `testbench.cli.phase`. What an agent, a judge or a dataset said is made printable before
it is written.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime

from testbench.safe_text import printable


class _PlainLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"{record.levelname.lower()}: {printable(record.getMessage())}"


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(
            {
                "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
                "level": record.levelname.lower(),
                "logger": record.name,
                "message": record.getMessage(),
            }
        )


def as_json() -> bool:
    """Whether a machine reads the lines."""
    return os.environ.get("TESTBENCH_LOG_FORMAT") == "json"


def configure() -> None:
    """Send our own log lines from INFO, and other libraries' from ERROR, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if as_json() else _PlainLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.ERROR)
    level = logging.getLevelNamesMapping().get(os.environ.get("TESTBENCH_LOG_LEVEL", "").upper(), logging.INFO)
    logging.getLogger("testbench").setLevel(level)
