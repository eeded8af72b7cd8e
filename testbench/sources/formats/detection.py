"""Which format a dataset is in: by its first bytes where they are certain, else by media type, then by suffix.

Query strings play no part, since names come from a URL's path. Where neither says anything, the first characters
decide. Called by `testbench.sources.dataset`.
"""

from __future__ import annotations

import json
from enum import Enum
from pathlib import PurePosixPath
from typing import BinaryIO

from testbench.errors import InputError, NothingToDo
from testbench.sources.columns import INPUTS
from testbench.sources.dataset_file import DatasetFile


class Format(Enum):
    """A format that Testbench reads."""

    CSV = "CSV"
    EXCEL = "Excel"
    JSON = "JSON"
    JSON_LINES = "JSON Lines"
    PARQUET = "Parquet"
    YAML = "YAML"


SUFFIXES = {
    ".csv": Format.CSV,
    ".tsv": Format.CSV,
    ".xlsx": Format.EXCEL,
    ".json": Format.JSON,
    ".jsonl": Format.JSON_LINES,
    ".ndjson": Format.JSON_LINES,
    ".parquet": Format.PARQUET,
    ".pq": Format.PARQUET,
    ".yaml": Format.YAML,
    ".yml": Format.YAML,
}
MEDIA_TYPES = {
    "text/csv": Format.CSV,
    "application/csv": Format.CSV,
    "text/tab-separated-values": Format.CSV,
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": Format.EXCEL,
    "application/json": Format.JSON,
    "text/json": Format.JSON,
    "application/jsonl": Format.JSON_LINES,
    "application/jsonlines": Format.JSON_LINES,
    "application/x-jsonlines": Format.JSON_LINES,
    "application/x-ndjson": Format.JSON_LINES,
    "application/ndjson": Format.JSON_LINES,
    "text/jsonl": Format.JSON_LINES,
    "application/vnd.apache.parquet": Format.PARQUET,
    "application/parquet": Format.PARQUET,
    "application/x-parquet": Format.PARQUET,
    "application/yaml": Format.YAML,
    "application/x-yaml": Format.YAML,
    "text/yaml": Format.YAML,
    "text/x-yaml": Format.YAML,
}

_PARQUET_MAGIC = b"PAR1"
_HEAD_BYTES = 1 << 20
_BOM = b"\xef\xbb\xbf"
_HINT = f"Known are {', '.join(sorted(SUFFIXES))}, and the media types of these formats."


def format_of(file: DatasetFile) -> Format:
    """The format of `file`, which is read from its beginning and wound back.

    Raises:
        InputError: it is in none that is known.
        NothingToDo: it is empty.
    """
    head = _head(file.content)
    start = head.removeprefix(_BOM).lstrip()
    if not start:
        raise NothingToDo(f"{file.origin}: is empty", hint="Give a dataset with at least one row.")
    if head.startswith(_PARQUET_MAGIC):
        return Format.PARQUET
    if start[:1] == b"<":
        raise InputError(
            f"{file.origin}: is an HTML or XML page and no dataset",
            hint="Open the address in a browser: it may want a login, or be a page about the file.",
        )
    found = _declared(file) or _guessed(start)
    if found is None:
        raise InputError(f"{file.origin}: its format is not known{_said(file)}", hint=_HINT)
    if found is Format.JSON and _is_json_lines(start):
        return Format.JSON_LINES
    return found


def _declared(file: DatasetFile) -> Format | None:
    media_type = _bare(file.media_type)
    if media_type.endswith("+json"):
        return Format.JSON
    suffixes = (PurePosixPath(name).suffix.lower() for name in file.names)
    return MEDIA_TYPES.get(media_type) or next((SUFFIXES[suffix] for suffix in suffixes if suffix in SUFFIXES), None)


def _guessed(start: bytes) -> Format | None:
    if start[:1] in (b"[", b"{"):
        return Format.JSON
    first_line = start.partition(b"\n")[0]
    if first_line.startswith((b"scenarios:", b"---", b"schema_version:", b"llm_as_a_judge_model:")):
        return Format.YAML
    names = [name.strip(b' "\r') for separator in (b",", b";", b"\t") for name in first_line.split(separator)]
    return Format.CSV if any(name.encode() in names for name in INPUTS) else None


def _is_json_lines(start: bytes) -> bool:
    """Whether the first line is an object of its own, and something follows."""
    first, _, rest = start.partition(b"\n")
    if first[:1] != b"{" or not rest.strip():
        return False
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return False
    return True


def _head(content: BinaryIO) -> bytes:
    head = content.read(_HEAD_BYTES)
    content.seek(0)
    return head


def _bare(media_type: str | None) -> str:
    return (media_type or "").partition(";")[0].strip().lower()


def _said(file: DatasetFile) -> str:
    media_type = _bare(file.media_type)
    return f" (the sender calls it {media_type!r})" if media_type else ""
