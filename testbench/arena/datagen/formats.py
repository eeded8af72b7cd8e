"""The dataset in the formats of the manifest, each readable by `setup.py` as it is."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from testbench.arena.datagen.items import GeneratedItem
from testbench.arena.manifest import DataFormat

COLUMNS: Final = ("user_input", "reference", "retrieved_contexts", "provenance")


def dataset_bytes(items: Sequence[GeneratedItem], format_: DataFormat) -> bytes:
    """All items as one file in UTF-8. A list or an object in a CSV cell is JSON."""
    return _WRITERS[format_]([item.model_dump(mode="json") for item in items])


def _json(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return json.dumps(rows, ensure_ascii=False, indent=2).encode() + b"\n"


def _jsonl(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow(
            [row[name] if isinstance(row[name], str) else json.dumps(row[name], ensure_ascii=False) for name in COLUMNS]
        )
    return text.getvalue().encode()


_WRITERS: Final[Mapping[DataFormat, Callable[[Sequence[Mapping[str, Any]]], bytes]]] = {
    "json": _json,
    "jsonl": _jsonl,
    "csv": _csv,
}
