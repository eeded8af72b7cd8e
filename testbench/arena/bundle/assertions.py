"""Turns promptarena's assertions into metrics, where one means the same; everything else is refused by name.

An assertion that is not judged would be a check that always passes, so there is no default: a type, a parameter or a
condition that is not in the table below is a `NotSupportedError`. Called by `testbench.arena.bundle.promptarena`.
"""

from __future__ import annotations

import glob
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from testbench import defaults
from testbench.schema.models import Metric, ToolCall

Scope = Literal["turn", "conversation"]


class NotSupportedError(ValueError):
    """An assertion, or a part of a scenario, that has no sound equivalent; the text names it."""


@dataclass(frozen=True)
class Expectation:
    """What an assertion asks for. `calls` are tool calls that must be made; others may be made too."""

    metrics: tuple[Metric, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    contexts: tuple[str, ...] = ()
    response: str | None = None
    every_step: bool = False
    """The metrics are for each answer of the conversation, not for the last or for all together."""


class _Assertion(NamedTuple):
    params: Mapping[str, Any]
    scope: Scope
    min_score: float | None


ALIASES: Final[Mapping[str, str]] = {
    "content_includes": "contains",
    "content_includes_any": "contains_any",
    "content_matches": "regex",
    "content_not_includes": "content_excludes",
    "banned_words": "content_excludes",
    "is_valid_json": "json_valid",
    "valid_json": "json_valid",
    "tool_called": "tools_called",
    "length": "max_length",
    "llm_judge_conversation": "llm_judge_session",
}
_TEXTS: Final = ("patterns", "text", "texts", "words")
_TOOLS: Final = ("tool_names", "tools", "tool")
_SCALE: Final = {"0": "does not meet the criteria", "1": "meets the criteria"}
_CONTEXTS: Final = ("contexts", "context")
_REFERENCE: Final = ("reference", "expected_output")


def read_assertion(assertion: Any, scope: Scope) -> Expectation:
    """Return what one entry of `assertions` (scope `turn`) or `conversation_assertions` asks for.

    Raises:
        NotSupportedError: it cannot be judged here, in whole or in part.
    """
    given = require_mapping(assertion, "an assertion")
    unknown = given.keys() - {"type", "params", "message", "pass_threshold"}
    if unknown:
        raise NotSupportedError(f"`{min(unknown)}` of an assertion")
    name, params = str(given.get("type", "")), dict(require_mapping(given.get("params") or {}, "params"))
    params.pop("message", None)
    if name == "assertion":
        name, params = _unwrap(params)
    name = ALIASES.get(name, name)
    if name not in _ASSERTION_TYPES:
        raise NotSupportedError(f"assertion type {name!r}" if name else "an assertion without a type")
    known, judged, read = _ASSERTION_TYPES[name]
    limit = _read_score(params.pop("min_score", None))
    odd = params.keys() - set(known)
    if odd:
        raise NotSupportedError(f"parameter {min(odd)!r} of {name}")
    if limit not in (None, 1.0) and not judged:
        raise NotSupportedError(f"min_score {limit} of {name}, which is met or not")
    return read(_Assertion(params, scope, limit))


def _unwrap(params: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the type and parameters inside of `type: assertion`, which adds limits for the score."""
    odd = params.keys() - {"eval_type", "eval_params", "min_score"}
    if odd:
        raise NotSupportedError(f"parameter {min(odd)!r} of assertion")
    inner = dict(require_mapping(params.get("eval_params") or {}, "eval_params"))
    if "min_score" in params:
        inner["min_score"] = params["min_score"]
    return str(params.get("eval_type", "")), inner


# --- one function for each type -------------------------------------------------------------------------------------


def _read_contains(given: _Assertion, mode: str) -> Expectation:
    texts = _read_texts(given.params, _TEXTS)
    return _expect("contains", {"text": texts, "mode": mode, "casefold": True})


def _read_excludes(given: _Assertion) -> Expectation:
    texts = _read_texts(given.params, _TEXTS)
    whole_words = given.params.get("match_mode", "substring")
    if whole_words != "substring":
        raise NotSupportedError(f"match_mode {whole_words!r} of content_excludes")
    metric = _build_metric("builtin.not_contains", {"text": texts, "casefold": True})
    return Expectation((metric,), every_step=given.scope == "conversation")


def _read_regex(given: _Assertion) -> Expectation:
    expected = given.params.get("expect_match", True)
    if not isinstance(expected, bool):
        raise NotSupportedError("expect_match of regex that is neither true nor false")
    pattern = _read_text(given.params, ("pattern",))
    return _expect("regex", {"pattern": pattern, "unicode": False} | ({} if expected else {"absent": True}))


def _read_max_length(given: _Assertion) -> Expectation:
    return _expect("length", {"max": _read_count(given.params, ("max", "max_characters"), 1), **_AS_WRITTEN})


def _read_min_length(given: _Assertion) -> Expectation:
    return _expect("length", {"min": _read_count(given.params, ("min", "min_characters"), 0), **_AS_WRITTEN})


def _read_json(given: _Assertion) -> Expectation:
    schema = given.params.get("schema", {})
    fenced = given.params.get("allow_wrapped", False)
    if not isinstance(fenced, bool):
        raise NotSupportedError("allow_wrapped that is neither true nor false")
    return _expect("json_schema", {"schema": dict(require_mapping(schema, "schema")), "fenced": fenced})


def _read_tools_called(given: _Assertion) -> Expectation:
    names = _read_texts(given.params, _TOOLS)
    least = _read_count(given.params, ("min_calls",), 1, default=1)
    calls = tuple(ToolCall(name=name) for name in names for _ in range(least))
    if "max_calls" not in given.params:
        return Expectation(calls=calls)
    most = _read_count(given.params, ("max_calls",), 0)
    limits = [_build_metric("builtin.max_tool_calls", {"tool": glob.escape(name), "limit": most}) for name in names]
    return Expectation(tuple(limits), calls)


def _read_tools_not_called(given: _Assertion) -> Expectation:
    return _expect("forbidden_tools", {"tools": [glob.escape(name) for name in _read_texts(given.params, _TOOLS)]})


def _read_tool_args(given: _Assertion) -> Expectation:
    name = _read_text(given.params, ("tool_name", "tool"))
    args = require_mapping(given.params.get("expected_args", given.params.get("args")), "expected_args")
    if not args:
        raise NotSupportedError("tool_args without expected_args")
    return Expectation(calls=(ToolCall(name=name, args=dict(args)),))


def _read_latency(given: _Assertion) -> Expectation:
    limit = given.params.get("max_ms")
    if isinstance(limit, bool) or not isinstance(limit, int | float) or limit <= 0:
        raise NotSupportedError("latency_budget without max_ms above 0")
    return _expect("latency", {"max_ms": float(limit)})


def _read_judge(given: _Assertion, whole_conversation: bool = False) -> Expectation:
    whole = whole_conversation or given.scope == "conversation"
    parameters: dict[str, Any] = {"criteria": _read_text(given.params, ("criteria",))}
    if whole:
        parameters["include"] = ["conversation"]
    if given.min_score is None:
        parameters["scale"] = dict(_SCALE)  # without a limit, the verdict is yes or no
    return Expectation((_build_metric("builtin.judge", parameters, given.min_score),))


def _build_rag_reader(metric: str) -> Callable[[_Assertion], Expectation]:
    def read(given: _Assertion) -> Expectation:
        if given.scope == "conversation":
            raise NotSupportedError(f"{metric} over a whole conversation")
        contexts = _read_texts(given.params, _CONTEXTS) if given.params.keys() & set(_CONTEXTS) else []
        response = _read_text(given.params, _REFERENCE) if given.params.keys() & set(_REFERENCE) else None
        threshold = defaults.THRESHOLD if given.min_score is None else given.min_score
        return Expectation((_build_metric(metric, {}, threshold),), contexts=tuple(contexts), response=response)

    return read


class _AssertionType(NamedTuple):
    parameters: tuple[str, ...]
    judged: bool
    """Whether its score has degrees, so that a `min_score` means something."""
    read: Callable[[_Assertion], Expectation]


_AS_WRITTEN: Final = {"unicode": False, "whitespace": False}
_RAG_PARAMETERS: Final = (*_CONTEXTS, *_REFERENCE)
_ASSERTION_TYPES: Final[Mapping[str, _AssertionType]] = {
    "contains": _AssertionType(_TEXTS, False, lambda given: _read_contains(given, "all")),
    "contains_any": _AssertionType(_TEXTS, False, lambda given: _read_contains(given, "any")),
    "content_excludes": _AssertionType((*_TEXTS, "match_mode"), False, _read_excludes),
    "regex": _AssertionType(("pattern", "expect_match"), False, _read_regex),
    "max_length": _AssertionType(("max", "max_characters"), False, _read_max_length),
    "min_length": _AssertionType(("min", "min_characters"), False, _read_min_length),
    "json_valid": _AssertionType(("allow_wrapped",), False, _read_json),
    "json_schema": _AssertionType(("schema", "allow_wrapped"), False, _read_json),
    "tools_called": _AssertionType((*_TOOLS, "min_calls", "max_calls"), False, _read_tools_called),
    "tools_not_called": _AssertionType(_TOOLS, False, _read_tools_not_called),
    "tool_args": _AssertionType(("tool_name", "tool", "expected_args", "args"), False, _read_tool_args),
    "latency_budget": _AssertionType(("max_ms",), False, _read_latency),
    "llm_judge": _AssertionType(("criteria", "judge"), True, _read_judge),
    "llm_judge_session": _AssertionType(
        ("criteria", "judge"), True, lambda given: _read_judge(given, whole_conversation=True)
    ),
    "faithfulness": _AssertionType(_RAG_PARAMETERS, True, _build_rag_reader("ragas.Faithfulness")),
    "answer_relevancy": _AssertionType(_RAG_PARAMETERS, True, _build_rag_reader("ragas.AnswerRelevancy")),
    "contextual_precision": _AssertionType(
        _RAG_PARAMETERS, True, _build_rag_reader("ragas.ContextPrecisionWithoutReference")
    ),
    "contextual_recall": _AssertionType(_RAG_PARAMETERS, True, _build_rag_reader("ragas.ContextRecall")),
    "contextual_relevancy": _AssertionType(_RAG_PARAMETERS, True, _build_rag_reader("ragas.ContextRelevance")),
}
SUPPORTED: Final = tuple(sorted((*_ASSERTION_TYPES, *ALIASES)))


# --- values ---------------------------------------------------------------------------------------------------------


def _build_metric(name: str, parameters: dict[str, Any], threshold: float | None = None) -> Metric:
    return Metric(metric_name=name, threshold=1.0 if threshold is None else threshold, parameters=parameters)


def _expect(builtin: str, parameters: dict[str, Any]) -> Expectation:
    return Expectation((_build_metric(f"builtin.{builtin}", parameters),))


def require_mapping(value: Any, what: str) -> Mapping[str, Any]:
    """Return the value if it is a mapping.

    Raises:
        NotSupportedError: it is not; the text says what it should have been.
    """
    if not isinstance(value, Mapping):
        raise NotSupportedError(f"{what} that is not a mapping")
    return value


def _read_texts(params: Mapping[str, Any], names: tuple[str, ...]) -> list[str]:
    """Return the texts of the one parameter that is given, under whichever of its names."""
    given = [name for name in names if name in params]
    if len(given) != 1:
        raise NotSupportedError(f"not exactly one of {', '.join(names)}")
    value = params[given[0]]
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise NotSupportedError(f"{given[0]!r} that does not hold texts")
    return texts


def _read_text(params: Mapping[str, Any], names: tuple[str, ...]) -> str:
    texts = _read_texts(params, names)
    if len(texts) != 1:
        raise NotSupportedError(f"{names[0]!r} that is not a text")
    return texts[0]


def _read_count(params: Mapping[str, Any], names: tuple[str, ...], least: int, default: int | None = None) -> int:
    value = next((params[name] for name in names if name in params), default)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= 10_000_000:
        raise NotSupportedError(f"{names[0]!r} that is not a whole number from {least} on")
    return value


def _read_score(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not 0 <= value <= 1:
        raise NotSupportedError("min_score that is not a number from 0 to 1")
    return float(value)
