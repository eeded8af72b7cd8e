"""From whatever a file format hands out to plain JSON data: what is missing, what is text, what is a list.

Pure. `testbench.sources.columns` applies these to cells; a value that cannot be what is asked of it is a `CellError`.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from testbench.sources.formats.dataset_format import CellError
from testbench.sources.list_text import looks_like_list, looks_like_object, read_literal

MAX_DEPTH: Final = 64


def to_plain_data(value: Any, depth: int = 0) -> Any:
    """Return `value` as JSON data. NaN, NaT and a blank text at the top are None, which means: missing.

    Dates become ISO 8601, durations seconds, infinities text, bytes text (base64 where they are not UTF-8), numpy's
    types what they stand for.

    Raises:
        CellError: it is nested deeper than `MAX_DEPTH`, or holds text that is not Unicode.
    """
    if isinstance(value, str):
        return _check_unicode(value) if depth or value.strip() else None
    if value is None or isinstance(value, bool | int):
        return value
    if depth > MAX_DEPTH:
        raise CellError(f"nested deeper than {MAX_DEPTH}", hint="Flatten the value.")
    if isinstance(value, list | tuple):
        return [to_plain_data(item, depth + 1) for item in value]
    if isinstance(value, Mapping):
        return {_check_unicode(str(key)): to_plain_data(item, depth + 1) for key, item in value.items()}
    return _plain_scalar(value, depth)


def _plain_scalar(value: Any, depth: int) -> Any:
    if hasattr(value, "tolist"):  # numpy's scalars and arrays
        return to_plain_data(value.tolist(), depth + 1)
    if value != value:  # NaN, NaT and Decimal("NaN") are all unlike themselves
        return None
    match value:
        case float() | Decimal() if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        case float():
            return value
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case bytes():
            return _decode_bytes(value)
        case UUID():
            return str(value)
    raise CellError(f"a value of type {type(value).__name__} is not JSON data", hint="Store it as text or number.")


def _check_unicode(text: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise CellError("the text holds half a character (a lone surrogate)", hint="Write it as UTF-8.") from error
    return text


def _decode_bytes(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return base64.b64encode(content).decode()


def to_text(value: Any) -> str:
    """Return a text; numbers and truth values as JSON writes them.

    Raises:
        CellError: it is a list or an object.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, list | dict):
        raise CellError(
            f"a text is expected, not {_describe_kind(value)}",
            hint="A conversation is written as several rows with the same value in the column 'scenario'.",
        )
    return json.dumps(value)


def to_items(value: Any) -> list[Any]:
    """Return the items of a list, or of a text that holds one; anything else is a list of one."""
    if isinstance(value, str):
        if not looks_like_list(value):
            return [value]
        value = to_plain_data(read_literal(value))
    return value if isinstance(value, list) else [value]


def to_texts(value: Any) -> tuple[str, ...]:
    """Return a list of texts; empty and missing items are left out."""
    items = [item for item in to_items(value) if item is not None and item != ""]
    for item in items:
        if isinstance(item, list | dict):
            raise CellError(
                f"the list holds {_describe_kind(item)} where texts are expected",
                hint='Write e.g. ["first", "second"].',
            )
    return tuple(to_text(item) for item in items)


def to_data(text: str) -> Any:
    """Return a cell of a column that is the user's own: the list or object that it holds, else the text that it is."""
    if looks_like_list(text) or looks_like_object(text):
        try:
            return to_plain_data(read_literal(text), 1)
        except CellError:
            return text
    return text


def _describe_kind(value: Any) -> str:
    return "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else "a value"
