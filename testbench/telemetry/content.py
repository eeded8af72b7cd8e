"""What of a conversation may leave the machine over OTLP, and in which shape.

Inputs, references, answers and a judge's reasons are content: `TESTBENCH_TRACE_CONTENT=false` keeps all of it out of
spans, data points and events. Addresses never carry a password or a query.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

TRACE_CONTENT: Final = "TESTBENCH_TRACE_CONTENT"
ATTRIBUTE_LENGTH: Final = 4096
"""Characters of one attribute. Collectors refuse or cut long ones, and one refused attribute costs its whole batch."""


def content_allowed(environ: Mapping[str, str]) -> bool:
    """Whether content may be sent; a value that is no clear yes is a no."""
    return environ.get(TRACE_CONTENT, "").strip().lower() in ("", "true", "1", "yes", "on")


def attribute_text(text: str, limit: int = ATTRIBUTE_LENGTH) -> str:
    """`text` as protobuf can carry it (valid Unicode), cut to `limit` characters."""
    valid = text.encode("utf-8", errors="replace").decode("utf-8")
    return valid if len(valid) <= limit else valid[: limit - 1] + "…"
