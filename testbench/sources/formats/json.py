"""JSON and JSON Lines into rows, and documents (JSON or YAML) that hold rows or an experiment.

A JSON array and JSON Lines are read row by row. A document that is an object, and YAML, is read as a whole: it is an
experiment if it has `scenarios`, and rows if they are under `data` or `rows`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Final, TextIO

from testbench.errors import InputError
from testbench.schema.files import parse_document
from testbench.schema.json_stream import JsonStream, JsonSyntaxError
from testbench.sources.formats.dataset_format import (
    BYTE_ORDER_MARK,
    CellError,
    DatasetFile,
    DatasetFormat,
    ExperimentDocument,
    Row,
    Table,
    row_fault,
)
from testbench.sources.values import to_plain_data

ROW_KEYS: Final = ("data", "rows")

_HEAD_BYTES: Final = 1 << 16
_ROW_HINT: Final = 'Every row is an object, e.g. {"user_input": "…", "reference": "…"}.'


# --- a document ------------------------------------------------------------------------------------------------------


def read_json(file: DatasetFile) -> Table | ExperimentDocument:
    """Return the rows in `file`, or the experiment that it holds.

    Raises:
        InputError: it cannot be parsed, or holds neither; also from the rows.
    """
    if _first_character(file.content) == b"[":
        return Table(file.origin, _number_rows(read_array(file.text(), file.origin), file.origin))
    return read_document(file, as_yaml=False)


def read_document(file: DatasetFile, *, as_yaml: bool) -> Table | ExperimentDocument:
    """Return the rows, or the experiment, in a document that is read as a whole.

    Raises:
        InputError: it cannot be parsed, or holds neither; also from the rows.
    """
    content = file.content.read().removeprefix(BYTE_ORDER_MARK)
    try:
        document = to_plain_data(parse_document(content, file.origin, as_yaml=as_yaml), 1)
    except CellError as error:
        raise InputError(f"{file.origin}: {error.message}", hint=error.hint) from error
    if isinstance(document, dict) and "scenarios" in document:
        return document
    return _find_rows(document, file.origin)


def read_array(text: TextIO, origin: str) -> Iterator[tuple[Any, int]]:
    """Yield every element of the array in `text`, with the line where it begins; never all of it is in memory.

    Raises:
        InputError: it is not valid JSON, or not one array; with the line.
    """
    stream = JsonStream(text)
    try:
        yield from stream.read_items()
        stream.check_end()
    except JsonSyntaxError as error:
        raise InputError(
            f"{origin}: line {error.line}: not valid JSON: {error}", hint="Check that the file is complete."
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{origin}: is not UTF-8 text after line {stream.line}", hint="Save it as UTF-8.") from error


def _first_character(content: BinaryIO) -> bytes:
    head = content.read(_HEAD_BYTES).removeprefix(BYTE_ORDER_MARK).lstrip()
    content.seek(0)
    return head[:1]


def _find_rows(document: Any, origin: str) -> Table:
    if isinstance(document, dict):
        document = next((document[key] for key in ROW_KEYS if isinstance(document.get(key), list)), document)
    if not isinstance(document, list):
        there = ", ".join(map(str, document)) if isinstance(document, dict) else type(document).__name__
        raise InputError(
            f"{origin}: holds neither rows nor an experiment; there is: {there}",
            hint="Write an array of rows, {data: [rows]}, or an experiment with 'scenarios'.",
        )
    return Table(origin, _number_rows(((item, None) for item in document), origin))


# --- lines -----------------------------------------------------------------------------------------------------------


def read_json_lines(file: DatasetFile) -> Table:
    """Return the rows in `file`, one object a line.

    Raises:
        InputError: from the rows: a line is not an object.
    """
    return Table(file.origin, _read_lines(file))


def _read_lines(file: DatasetFile) -> Iterator[Row]:
    number = 0
    for line, content in enumerate(file.content, start=1):
        content = content.removeprefix(BYTE_ORDER_MARK).strip() if line == 1 else content.strip()
        if not content:
            continue
        number += 1
        try:
            value = json.loads(content)
        except (ValueError, RecursionError) as error:
            broken = CellError(f"not valid JSON: {error}", hint="JSON Lines has one whole object a line.")
            raise row_fault(file.origin, Row(number, {}, line), broken) from error
        yield _to_row(number, value, line, file.origin)


def _are_json_lines(start: bytes) -> bool:
    """Return whether the first line is an object of its own, and something follows."""
    first, _, rest = start.partition(b"\n")
    if first[:1] != b"{" or not rest.strip():
        return False
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return False
    return True


# --- rows ------------------------------------------------------------------------------------------------------------


def _number_rows(values: Iterable[tuple[Any, int | None]], origin: str) -> Iterator[Row]:
    for number, (value, line) in enumerate(values, start=1):
        yield _to_row(number, value, line, origin)


def _to_row(number: int, value: Any, line: int | None, origin: str) -> Row:
    if not isinstance(value, dict):
        wrong = CellError(f"is not an object but {_describe_kind(value)}", hint=_ROW_HINT)
        raise row_fault(origin, Row(number, {}, line), wrong)
    return Row(number, {str(key): cell for key, cell in value.items()}, line)


def _describe_kind(value: Any) -> str:
    return {list: "a list", str: "a text", type(None): "null"}.get(type(value), "a number or truth value")


JSON_LINES: Final = DatasetFormat(
    name="JSON Lines",
    read=read_json_lines,
    suffixes=(".jsonl", ".ndjson"),
    media_types=(
        "application/jsonl",
        "application/jsonlines",
        "application/x-jsonlines",
        "application/x-ndjson",
        "application/ndjson",
        "text/jsonl",
    ),
    recognize=_are_json_lines,
)
JSON: Final = DatasetFormat(
    name="JSON",
    read=read_json,
    suffixes=(".json",),
    media_types=("application/json", "text/json"),
    recognize=lambda start: start[:1] in (b"[", b"{"),
    variants=(JSON_LINES,),
)
