"""Which of RAGAS's metrics without a judge can take long, and on what: their texts are measured before they begin."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from testbench.metrics.effort import CHARACTERS, LINEAR, check_product

_WORD: Final = re.compile(r"[a-z0-9]+")
TABLE: Final = 1e7
"""Cells of the table that rouge-score fills for ROUGE-L: 20,000 characters each, a second and 100 MB."""
SPANS: Final = 4e10
"""Product of two lengths for looking up every quoted span: 200,000 characters each, half a second."""

_BOUNDS: Final[Mapping[str, tuple[str, str, float]]] = {
    "NonLLMStringSimilarity": ("response", "reference", CHARACTERS),
    "NonLLMContextPrecisionWithReference": ("retrieved_contexts", "reference_contexts", CHARACTERS),
    "NonLLMContextRecall": ("retrieved_contexts", "reference_contexts", CHARACTERS),
    "QuotedSpansAlignment": ("response", "retrieved_contexts", SPANS),
    "BleuScore": ("response", "reference", LINEAR),
    "CHRFScore": ("response", "reference", LINEAR),
    "RougeScore": ("response", "reference", LINEAR),
}
"""The two arguments that are compared, and the largest product of their lengths."""


def check_effort(name: str, metric: Any, arguments: Mapping[str, Any]) -> None:
    """See that a metric comes to an end in reasonable time.

    Raises:
        TooLongError: it would not.
    """
    if name not in _BOUNDS:
        return
    one, other, most = _BOUNDS[name]
    left, right = _text(arguments[one]), _text(arguments[other])
    check_product(len(left), len(right), most)
    if getattr(metric, "rouge_type", None) == "rougeL":
        check_product(_words(left), _words(right), TABLE, "words")


def _text(value: str | list[str]) -> str:
    return value if isinstance(value, str) else "".join(value)


def _words(text: str) -> int:
    """As rouge-score counts them."""
    return len(_WORD.findall(text.lower()))
