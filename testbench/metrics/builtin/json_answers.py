"""JSON: when two values are the same, and metrics for agents that answer in it (the right shape, the right content).

`1` and `1.0` are the same; `1` and `true` or `"1"` are not. Arguments of tool calls are compared by the same functions.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, ClassVar, Final, Self

from pydantic import Field, model_validator

from testbench.metrics.computed import ComputedMetric, pass_or_fail
from testbench.metrics.effort import find
from testbench.metrics.protocol import MetricResult, Sample, SampleField

FAULTS_SHOWN: Final = 3
"""Faults that a reason names."""


class NotJsonError(ValueError):
    """The text is not JSON; says where it goes wrong."""


class _JsonMetric(ComputedMetric):
    """A metric over an answer that is one JSON value."""

    fenced: bool = Field(default=True, description="JSON in a Markdown fence counts as JSON.")


class JsonSchema(_JsonMetric):
    """The answer is JSON that fits a JSON Schema."""

    metric_name: ClassVar[str] = "json_schema"
    unavailable: ClassVar[str | None] = (
        None if find_spec("jsonschema") else "the package jsonschema is missing: install jsonschema>=4.26"
    )

    schema_: dict[str, Any] = Field(alias="schema", description="The schema; draft 2020-12 unless it says otherwise.")

    @model_validator(mode="after")
    def _is_a_schema(self) -> Self:
        from jsonschema import SchemaError
        from jsonschema.validators import validator_for

        try:
            validator_for(self.schema_).check_schema(self.schema_)
        except SchemaError as error:
            raise ValueError(f"not a JSON Schema: {error.message}") from error
        return self

    def score(self, sample: Sample) -> MetricResult:
        from jsonschema.validators import validator_for
        from referencing import Registry

        try:
            document = read_json(sample.response or "", fenced=self.fenced)
        except NotJsonError as error:
            return pass_or_fail(False, str(error))
        bounded = _with_bounded_keywords(validator_for(self.schema_))
        # an empty registry: a schema cannot make us fetch another one
        validator = bounded(self.schema_, registry=Registry())
        faults = [f"{fault.json_path}: {fault.message:.120}" for fault in validator.iter_errors(document)]
        return pass_or_fail(not faults, _list_faults(faults) or "the answer fits the schema")


class JsonEquality(_JsonMetric):
    """The answer is JSON that equals the expected value."""

    metric_name: ClassVar[str] = "json_equality"

    value: Any = Field(default=None, description="The expected value; without it, reference.response as JSON.")
    tolerance: float = Field(default=0.0, ge=0, allow_inf_nan=False, description="Allowed difference of numbers.")

    def required_fields(self) -> tuple[SampleField, ...]:
        return ("response",) if "value" in self.model_fields_set else ("response", "reference")

    def score(self, sample: Sample) -> MetricResult:
        if "value" in self.model_fields_set:
            expected = self.value
        else:
            try:
                expected = read_json(sample.reference.response or "", fenced=False)
            except NotJsonError:
                return MetricResult(skipped="reference.response is not JSON")
        try:
            document = read_json(sample.response or "", fenced=self.fenced)
        except NotJsonError as error:
            return pass_or_fail(False, str(error))
        faults = list(differences(expected, document, tolerance=self.tolerance))
        return pass_or_fail(not faults, _list_faults(faults) or "the answer equals the expected value")


def _list_faults(faults: list[str]) -> str:
    more = len(faults) - FAULTS_SHOWN
    return "; ".join(faults[:FAULTS_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def read_json(text: str, *, fenced: bool) -> Any:
    """Return the JSON value that a text is; with `fenced` also one in a Markdown fence.

    Raises:
        NotJsonError: it is not JSON; `NaN` and `Infinity` are not either.
    """
    try:
        return json.loads(_inside_fence(text) if fenced else text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise NotJsonError(f"the answer is not JSON: {error}") from error


def _inside_fence(text: str) -> str:
    """Return what stands in a text's one Markdown fence, or the text itself where it is not in one."""
    opening, newline, rest = text.strip().partition("\n")
    if opening.rstrip().lower() in ("```", "```json") and newline and rest.endswith("```"):
        return rest[:-3]
    return text


def _refuse_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not a JSON number")


def differences(expected: Any, found: Any, *, tolerance: float = 0.0, place: str = "") -> Iterator[str]:
    """Yield every place where two JSON values differ, as a sentence such as `city: expected "Paris", found "Rome"`."""
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
    """Return whether two JSON values do not differ anywhere."""
    return next(differences(expected, found, tolerance=tolerance), None) is None


def key_of(value: Any) -> str:
    """Return a text that is equal for two JSON values just when they are the `same` (without tolerance)."""
    if isinstance(value, Mapping):
        return f"{{{','.join(sorted(f'{json.dumps(str(key))}:{key_of(one)}' for key, one in value.items()))}}}"
    if _is_array(value):
        return f"[{','.join(map(key_of, value))}]"
    if _is_number(value):
        if not _is_finite(value):
            return uuid.uuid4().hex  # equals nothing, not even itself
        return hex(int(value)) if value == int(value) else float.hex(value)
    return f"{type(value).__name__}:{json.dumps(value, default=repr)}"


def _same_scalar(expected: Any, found: Any, tolerance: float) -> bool:
    if _is_number(expected) and _is_number(found):
        return _same_number(expected, found, tolerance)
    return type(expected) is type(found) and bool(expected == found)


def _same_number(left: float, right: float, tolerance: float) -> bool:
    """Return whether two numbers differ by at most `tolerance` (absolute); one that is not finite equals nothing."""
    if not (_is_finite(left) and _is_finite(right)):
        return False
    if left == right:
        return True
    try:
        return abs(left - right) <= tolerance
    except OverflowError:  # an integer that is beyond all floating-point numbers
        return False


def _is_number(value: Any) -> bool:
    """Return whether a value is a number in JSON; booleans are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_finite(number: float) -> bool:
    return isinstance(number, int) or math.isfinite(number)


def _is_array(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _with_bounded_keywords(validator: Any) -> Any:
    """Return the validator class with those keywords in our own way that could take for ever on what others wrote."""
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
    if wanted is True and isinstance(value, list) and len(set(map(key_of, value))) < len(value):
        yield _fault(f"{value!r:.80} has items that are the same")


def _fault(message: str) -> Any:
    from jsonschema import ValidationError

    return ValidationError(message)
