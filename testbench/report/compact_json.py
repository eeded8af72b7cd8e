"""JSON as bytes, quickly: twenty thousand opened rows are fifty megabytes of it.

pydantic's serializer is several times faster than the standard library's; only text that no encoding can hold (half a
surrogate) has to go the long way round, as an escape. Called by `testbench.report.rows` and `testbench.report.embed`.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic_core import to_json


def encode(value: Any) -> bytes:
    """Plain data without NaN and infinities as JSON in UTF-8."""
    try:
        return to_json(value, inf_nan_mode="null", fallback=str)
    except ValueError:
        return json.dumps(value, default=str, allow_nan=False, separators=(",", ":")).encode("ascii")


def text_of(value: Any) -> str:
    """The same as text for people, in which NaN and infinities keep their names."""
    try:
        return to_json(value, inf_nan_mode="constants", fallback=str).decode()
    except ValueError:
        return json.dumps(value, ensure_ascii=False, default=str, separators=(",", ":"))
