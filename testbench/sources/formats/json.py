"""JSON and JSON Lines into rows, and documents (JSON or YAML) that hold rows or an experiment.

A JSON array and JSON Lines are read row by row. A document that is an object, and YAML, is read as a whole: it is an
experiment if it has `scenarios`, and rows if they are under `data` or `rows`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from testbench.errors import InputError
from testbench.schema.files import parse_document
from testbench.sources.dataset_file import DatasetFile
from testbench.sources.formats.detection import Format
from testbench.sources.formats.table import CellError, Row, Table, row_fault
from testbench.sources.json_array import elements
from testbench.sources.values import plain

ROW_KEYS = ("data", "rows")
MAX_VALUES = 20_000_000
"""Values that a document may hold once its YAML aliases are written out: an untrusted file must not fill the memory."""

_BOM = b"\xef\xbb\xbf"
_HEAD_BYTES = 1 << 16
_ROW_HINT = 'Every row is an object, e.g. {"user_input": "…", "reference": "…"}.'


def json_content(file: DatasetFile, kind: Format) -> Table | dict[str, Any]:
    """The rows in `file`, or the document of the experiment that it holds.

    Raises:
        InputError: it cannot be parsed, or holds neither; also from the rows.
    """
    if kind is Format.JSON_LINES:
        return Table(file.origin, _line_rows(file))
    if kind is Format.JSON and _first_mark(file.content) == b"[":
        return Table(file.origin, _numbered(elements(file.text(), file.origin), file.origin))
    document = _document(file, kind)
    if isinstance(document, dict) and "scenarios" in document:
        return document
    return _table_of(document, file.origin)


def _first_mark(content: BinaryIO) -> bytes:
    head = content.read(_HEAD_BYTES).removeprefix(_BOM).lstrip()
    content.seek(0)
    return head[:1]


def _document(file: DatasetFile, kind: Format) -> Any:
    content = file.content.read().removeprefix(_BOM)
    document = parse_document(content, file.origin, as_yaml=kind is Format.YAML)
    if kind is Format.YAML:
        _refuse_too_large(document, file.origin)
    try:
        return plain(document, 1)
    except CellError as error:
        raise InputError(f"{file.origin}: {error.message}", hint=error.hint) from error


def _table_of(document: Any, origin: str) -> Table:
    if isinstance(document, dict):
        document = next((document[key] for key in ROW_KEYS if isinstance(document.get(key), list)), document)
    if not isinstance(document, list):
        there = ", ".join(map(str, document)) if isinstance(document, dict) else type(document).__name__
        raise InputError(
            f"{origin}: holds neither rows nor an experiment; there is: {there}",
            hint="Write an array of rows, {data: [rows]}, or an experiment with 'scenarios'.",
        )
    return Table(origin, _numbered(((item, None) for item in document), origin))


def _line_rows(file: DatasetFile) -> Iterator[Row]:
    number = 0
    for line, content in enumerate(file.content, start=1):
        content = content.removeprefix(_BOM).strip() if line == 1 else content.strip()
        if not content:
            continue
        number += 1
        try:
            value = json.loads(content)
        except (ValueError, RecursionError) as error:
            broken = CellError(f"no valid JSON: {error}", hint="JSON Lines has one whole object a line.")
            raise row_fault(file.origin, Row(number, {}, line), broken) from error
        yield _row(number, value, line, file.origin)


def _numbered(values: Iterable[tuple[Any, int | None]], origin: str) -> Iterator[Row]:
    for number, (value, line) in enumerate(values, start=1):
        yield _row(number, value, line, origin)


def _row(number: int, value: Any, line: int | None, origin: str) -> Row:
    if not isinstance(value, dict):
        wrong = CellError(f"is no object but {_kind(value)}", hint=_ROW_HINT)
        raise row_fault(origin, Row(number, {}, line), wrong)
    return Row(number, {str(key): cell for key, cell in value.items()}, line)


def _kind(value: Any) -> str:
    return {list: "a list", str: "a text", type(None): "null"}.get(type(value), "a number or truth value")


def _refuse_too_large(document: Any, origin: str) -> None:
    if _count(document, {}) > MAX_VALUES:
        raise InputError(
            f"{origin}: holds more than {MAX_VALUES} values once its aliases are written out",
            hint="Split the dataset, or use fewer aliases.",
        )


def _count(value: Any, known: dict[int, int]) -> int:
    if not isinstance(value, list | dict):
        return 1
    if id(value) not in known:
        known[id(value)] = MAX_VALUES + 1  # stays so for a value that holds itself
        known[id(value)] = 1 + sum(
            _count(item, known) for item in (value.values() if isinstance(value, dict) else value)
        )
    return known[id(value)]
