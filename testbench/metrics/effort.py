"""Bounds for comparisons whose effort grows faster than their texts; a metric asks before it begins.

A thread alone does not help against these: nothing can stop it, and the libraries' C code lets nobody else go on until
it is done. So the texts are measured first, and what would keep a processor busy for long is an error that says so.
"""

from __future__ import annotations

from typing import Final

CHARACTERS: Final = 1e9
"""Product of two lengths for edit distances: 30,000 characters each, a tenth of a second (RapidFuzz 3.14)."""
TOKENS: Final = 4e9
"""The same for the longest common sequence of two lists of tokens (RapidFuzz)."""
CALLS: Final = 1e5
"""Product of the numbers of two lists of tool calls, where each is compared with each in Python: a second."""
LINEAR: Final = 1e12
"""Product of two lengths for what grows with their sum: a million characters each, some seconds."""


class TooLongError(Exception):
    """The texts are too long to be compared in reasonable time: nothing is known of them."""


def check_product(left: int, right: int, most: float, unit: str = "characters") -> None:
    """See that two lengths can be compared.

    Raises:
        TooLongError: their product is above `most`.
    """
    if left * right > most:
        raise TooLongError(f"{left:,} and {right:,} {unit} are too many to be compared; see docs/metrics.md")
