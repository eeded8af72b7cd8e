"""When two JSON values are the same: `1` and `1.0` are, `1` and `true` or `"1"` are not. Pure.

Used for tool-call arguments and for answers in JSON.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def same_number(left: float, right: float, tolerance: float) -> bool:
    """Whether two numbers differ by at most `tolerance` (absolute); a number that is not finite equals nothing."""
    if not (_is_finite(left) and _is_finite(right)):
        return False
    if left == right:
        return True
    try:
        return abs(left - right) <= tolerance
    except OverflowError:  # an integer that is beyond all floating-point numbers
        return False


def _is_finite(number: float) -> bool:
    return isinstance(number, int) or math.isfinite(number)


def is_number(value: Any) -> bool:
    """Numbers of JSON; booleans are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def differences(expected: Any, found: Any, *, tolerance: float = 0.0, place: str = "") -> Iterator[str]:
    """Every place where two JSON values differ, as a sentence such as `city: expected "Paris", found "Rome"`."""
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        for key in dict.fromkeys([*expected, *found]):
            below = f"{place}.{key}" if place else str(key)
            if key not in found:
                yield f"{below}: missing"
            elif key not in expected:
                yield f"{below}: not expected"
            else:
                yield from differences(expected[key], found[key], tolerance=tolerance, place=below)
    elif _is_array(expected) and _is_array(found):
        if len(expected) != len(found):
            yield f"{place or 'the array'}: expected {len(expected)} items, found {len(found)}"
        else:
            for position, (one, other) in enumerate(zip(expected, found, strict=True)):
                yield from differences(one, other, tolerance=tolerance, place=f"{place}[{position}]")
    elif not _same_scalar(expected, found, tolerance):
        yield f"{place or 'the value'}: expected {expected!r:.80}, found {found!r:.80}"


def same(expected: Any, found: Any, *, tolerance: float = 0.0) -> bool:
    """Whether two JSON values do not differ anywhere."""
    return next(differences(expected, found, tolerance=tolerance), None) is None


def key_of(value: Any) -> str:
    """A text that is equal for two JSON values just when they are the `same` (without tolerance)."""
    if isinstance(value, Mapping):
        return f"{{{','.join(sorted(f'{json.dumps(str(key))}:{key_of(one)}' for key, one in value.items()))}}}"
    if _is_array(value):
        return f"[{','.join(map(key_of, value))}]"
    if is_number(value):
        if not _is_finite(value):
            return uuid.uuid4().hex  # equals nothing, not even itself
        return hex(int(value)) if value == int(value) else float.hex(value)
    return f"{type(value).__name__}:{json.dumps(value, default=repr)}"


def _is_array(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _same_scalar(expected: Any, found: Any, tolerance: float) -> bool:
    if is_number(expected) and is_number(found):
        return same_number(expected, found, tolerance)
    return type(expected) is type(found) and bool(expected == found)
