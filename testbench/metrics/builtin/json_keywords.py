"""Keywords of JSON Schema that could take for ever on an agent's answer, each with a bound.

Regular expressions, because `jsonschema` uses `re`, which has none; and `uniqueItems`, which it does in quadratic time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from testbench.metrics.builtin.bounded_regex import find


def with_bounded_keywords(validator: Any) -> Any:
    """The validator class with our own version of these keywords."""
    from jsonschema.validators import extend

    bounded = {
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
        "uniqueItems": _unique_items,
    }
    return extend(validator, bounded)  # type: ignore[no-untyped-call]  # its stubs lack types here


def _pattern(validator: Any, pattern: str, value: Any, schema: Any) -> Iterator[Any]:
    if isinstance(value, str) and find(pattern, value) is None:
        yield _fault(f"{value!r:.80} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Mapping[str, Any], value: Any, schema: Any) -> Iterator[Any]:
    for pattern, below in patterns.items() if isinstance(value, dict) else ():
        for key, item in value.items():
            if find(pattern, key) is not None:
                yield from validator.descend(item, below, path=key, schema_path=pattern)


def _additional_properties(validator: Any, allowed: Any, value: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
    named, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for key, item in value.items() if isinstance(value, dict) else ():
        if key in named or any(find(pattern, key) is not None for pattern in patterns):
            continue
        if isinstance(allowed, dict):
            yield from validator.descend(item, allowed, path=key)
        elif allowed is False:
            yield _fault(f"{key!r:.80} is not expected")


def _unique_items(validator: Any, wanted: Any, value: Any, schema: Any) -> Iterator[Any]:
    if wanted is True and isinstance(value, list) and len(set(map(_canonical, value))) < len(value):
        yield _fault(f"{value!r:.80} has items that are the same")


def _canonical(value: Any) -> str:
    """One text for all JSON values that are the same: 1 and 1.0 are, 1 and true are not."""
    return json.dumps(_with_whole_numbers(value), sort_keys=True)


def _with_whole_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_whole_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _fault(message: str) -> Any:
    from jsonschema import ValidationError

    return ValidationError(message)
