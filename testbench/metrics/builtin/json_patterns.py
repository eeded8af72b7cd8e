"""The keywords of JSON Schema that hold regular expressions, with a bound on the time that these take.

`jsonschema` uses `re`, which has none; a schema is the user's own and the document is an agent's answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from testbench.metrics.builtin.bounded_regex import find


def with_bounded_patterns(validator: Any) -> Any:
    """The validator class with its own `pattern`, `patternProperties` and `additionalProperties`."""
    from jsonschema.validators import extend

    bounded = {
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
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


def _fault(message: str) -> Any:
    from jsonschema import ValidationError

    return ValidationError(message)
