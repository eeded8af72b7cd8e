"""Metrics for agents that answer in JSON: the right shape, or the right content."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any, ClassVar, Final, Self

from pydantic import Field, model_validator

from testbench.metrics.builtin.json_equality import differences
from testbench.metrics.computed import ComputedMetric, pass_or_fail
from testbench.metrics.effort import find
from testbench.metrics.protocol import MetricResult, Sample, SampleField


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


SHOWN: Final = 3
"""Faults that a reason names."""


class NoJsonError(ValueError):
    """The answer is no JSON; the text says where it stops being it."""


def read_json(text: str, *, fenced: bool) -> Any:
    """The JSON value that a text is; with `fenced` also one in a Markdown fence.

    Raises:
        NoJsonError: it is none. `NaN` and `Infinity` are no JSON.
    """
    try:
        return json.loads(_inside_fence(text) if fenced else text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise NoJsonError(f"the answer is no JSON: {error}") from error


def _inside_fence(text: str) -> str:
    """What stands in a text's one Markdown fence, or the text itself where it is not in one."""
    opening, newline, rest = text.strip().partition("\n")
    if opening.rstrip().lower() in ("```", "```json") and newline and rest.endswith("```"):
        return rest[:-3]
    return text


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON number")


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
            raise ValueError(f"no JSON Schema: {error.message}") from error
        return self

    def score(self, sample: Sample) -> MetricResult:
        from jsonschema.validators import validator_for
        from referencing import Registry

        try:
            document = read_json(sample.response or "", fenced=self.fenced)
        except NoJsonError as error:
            return pass_or_fail(False, str(error))
        bounded = with_bounded_keywords(validator_for(self.schema_))
        # an empty registry: a schema cannot make us fetch another one
        validator = bounded(self.schema_, registry=Registry())
        faults = [f"{fault.json_path}: {fault.message:.120}" for fault in validator.iter_errors(document)]
        return pass_or_fail(not faults, _listed(faults) or "the answer fits the schema")


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
            except NoJsonError:
                return MetricResult(skipped="reference.response is no JSON")
        try:
            document = read_json(sample.response or "", fenced=self.fenced)
        except NoJsonError as error:
            return pass_or_fail(False, str(error))
        faults = list(differences(expected, document, tolerance=self.tolerance))
        return pass_or_fail(not faults, _listed(faults) or "the answer equals the expected value")


def _listed(faults: list[str]) -> str:
    more = len(faults) - SHOWN
    return "; ".join(faults[:SHOWN]) + (f"; and {more} more" if more > 0 else "")
