"""promptarena's assertions as metrics of ours, where one means the same; everything else is refused by name.

An assertion that nobody judges would be a check that always passes, so there is no default: a type, a parameter or a
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
    """What an assertion asks for. `calls` are tool calls that must be made; the other calls are nobody's business."""

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


def expectation_of(assertion: Any, scope: Scope) -> Expectation:
    """What one entry of `assertions` (scope `turn`) or `conversation_assertions` asks for.

    Raises:
        NotSupportedError: it cannot be judged here, in whole or in part.
    """
    given = _mapping(assertion, "an assertion")
    unknown = given.keys() - {"type", "params", "message", "pass_threshold"}
    if unknown:
        raise NotSupportedError(f"`{min(unknown)}` of an assertion")
    name, params = str(given.get("type", "")), dict(_mapping(given.get("params") or {}, "params"))
    params.pop("message", None)
    if name == "assertion":
        name, params = _unwrapped(params)
    name = ALIASES.get(name, name)
    if name not in _READERS:
        raise NotSupportedError(f"assertion type {name!r}" if name else "an assertion without a type")
    known, judged, read = _READERS[name]
    limit = _score(params.pop("min_score", None))
    odd = params.keys() - set(known)
    if odd:
        raise NotSupportedError(f"parameter {min(odd)!r} of {name}")
    if limit not in (None, 1.0) and not judged:
        raise NotSupportedError(f"min_score {limit} of {name}, which is met or not")
    return read(_Assertion(params, scope, limit))


def _unwrapped(params: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The evaluation inside of `type: assertion`, which adds limits for its score."""
    odd = params.keys() - {"eval_type", "eval_params", "min_score"}
    if odd:
        raise NotSupportedError(f"parameter {min(odd)!r} of assertion")
    inner = dict(_mapping(params.get("eval_params") or {}, "eval_params"))
    if "min_score" in params:
        inner["min_score"] = params["min_score"]
    return str(params.get("eval_type", "")), inner


# --- one function for each type -------------------------------------------------------------------------------------


def _contains(given: _Assertion, mode: str) -> Expectation:
    texts = _texts(given.params, _TEXTS)
    return _checked("contains", {"text": texts, "mode": mode, "casefold": True})


def _excludes(given: _Assertion) -> Expectation:
    texts = _texts(given.params, _TEXTS)
    whole_words = given.params.get("match_mode", "substring")
    if whole_words != "substring":
        raise NotSupportedError(f"match_mode {whole_words!r} of content_excludes")
    metric = _metric("builtin.not_contains", {"text": texts, "casefold": True})
    return Expectation((metric,), every_step=given.scope == "conversation")


def _regex(given: _Assertion) -> Expectation:
    expected = given.params.get("expect_match", True)
    if not isinstance(expected, bool):
        raise NotSupportedError("expect_match of regex that is neither true nor false")
    pattern = _text(given.params, ("pattern",))
    return _checked("regex", {"pattern": pattern, "unicode": False} | ({} if expected else {"absent": True}))


def _max_length(given: _Assertion) -> Expectation:
    return _checked("length", {"max": _whole(given.params, ("max", "max_characters"), 1), **_AS_WRITTEN})


def _min_length(given: _Assertion) -> Expectation:
    return _checked("length", {"min": _whole(given.params, ("min", "min_characters"), 0), **_AS_WRITTEN})


def _json(given: _Assertion) -> Expectation:
    schema = given.params.get("schema", {})
    fenced = given.params.get("allow_wrapped", False)
    if not isinstance(fenced, bool):
        raise NotSupportedError("allow_wrapped that is neither true nor false")
    return _checked("json_schema", {"schema": dict(_mapping(schema, "schema")), "fenced": fenced})


def _tools_called(given: _Assertion) -> Expectation:
    names = _texts(given.params, _TOOLS)
    least = _whole(given.params, ("min_calls",), 1, default=1)
    calls = tuple(ToolCall(name=name) for name in names for _ in range(least))
    if "max_calls" not in given.params:
        return Expectation(calls=calls)
    most = _whole(given.params, ("max_calls",), 0)
    limits = [_metric("builtin.max_tool_calls", {"tool": glob.escape(name), "limit": most}) for name in names]
    return Expectation(tuple(limits), calls)


def _tools_not_called(given: _Assertion) -> Expectation:
    return _checked("forbidden_tools", {"tools": [glob.escape(name) for name in _texts(given.params, _TOOLS)]})


def _tool_args(given: _Assertion) -> Expectation:
    name = _text(given.params, ("tool_name", "tool"))
    args = _mapping(given.params.get("expected_args", given.params.get("args")), "expected_args")
    if not args:
        raise NotSupportedError("tool_args without expected_args")
    return Expectation(calls=(ToolCall(name=name, args=dict(args)),))


def _latency(given: _Assertion) -> Expectation:
    limit = given.params.get("max_ms")
    if isinstance(limit, bool) or not isinstance(limit, int | float) or limit <= 0:
        raise NotSupportedError("latency_budget without max_ms above 0")
    return _checked("latency", {"max_ms": float(limit)})


def _judge(given: _Assertion, whole_conversation: bool = False) -> Expectation:
    whole = whole_conversation or given.scope == "conversation"
    parameters: dict[str, Any] = {"criteria": _text(given.params, ("criteria",))}
    if whole:
        parameters["include"] = ["conversation"]
    if given.min_score is None:
        parameters["scale"] = dict(_SCALE)  # without a limit, the verdict is yes or no
    return Expectation((_metric("builtin.judge", parameters, given.min_score),))


def _rag(metric: str) -> Callable[[_Assertion], Expectation]:
    def read(given: _Assertion) -> Expectation:
        if given.scope == "conversation":
            raise NotSupportedError(f"{metric} over a whole conversation")
        contexts = _texts(given.params, _CONTEXTS) if given.params.keys() & set(_CONTEXTS) else []
        response = _text(given.params, _REFERENCE) if given.params.keys() & set(_REFERENCE) else None
        threshold = defaults.THRESHOLD if given.min_score is None else given.min_score
        return Expectation((_metric(metric, {}, threshold),), contexts=tuple(contexts), response=response)

    return read


class _Reader(NamedTuple):
    parameters: tuple[str, ...]
    judged: bool
    """Whether its score has degrees, so that a `min_score` means something."""
    read: Callable[[_Assertion], Expectation]


_AS_WRITTEN: Final = {"unicode": False, "whitespace": False}
_RAG_PARAMETERS: Final = (*_CONTEXTS, *_REFERENCE)
_READERS: Final[Mapping[str, _Reader]] = {
    "contains": _Reader(_TEXTS, False, lambda given: _contains(given, "all")),
    "contains_any": _Reader(_TEXTS, False, lambda given: _contains(given, "any")),
    "content_excludes": _Reader((*_TEXTS, "match_mode"), False, _excludes),
    "regex": _Reader(("pattern", "expect_match"), False, _regex),
    "max_length": _Reader(("max", "max_characters"), False, _max_length),
    "min_length": _Reader(("min", "min_characters"), False, _min_length),
    "json_valid": _Reader(("allow_wrapped",), False, _json),
    "json_schema": _Reader(("schema", "allow_wrapped"), False, _json),
    "tools_called": _Reader((*_TOOLS, "min_calls", "max_calls"), False, _tools_called),
    "tools_not_called": _Reader(_TOOLS, False, _tools_not_called),
    "tool_args": _Reader(("tool_name", "tool", "expected_args", "args"), False, _tool_args),
    "latency_budget": _Reader(("max_ms",), False, _latency),
    "llm_judge": _Reader(("criteria", "judge"), True, _judge),
    "llm_judge_session": _Reader(("criteria", "judge"), True, lambda given: _judge(given, whole_conversation=True)),
    "faithfulness": _Reader(_RAG_PARAMETERS, True, _rag("ragas.Faithfulness")),
    "answer_relevancy": _Reader(_RAG_PARAMETERS, True, _rag("ragas.AnswerRelevancy")),
    "contextual_precision": _Reader(_RAG_PARAMETERS, True, _rag("ragas.ContextPrecisionWithoutReference")),
    "contextual_recall": _Reader(_RAG_PARAMETERS, True, _rag("ragas.ContextRecall")),
    "contextual_relevancy": _Reader(_RAG_PARAMETERS, True, _rag("ragas.ContextRelevance")),
}
SUPPORTED: Final = tuple(sorted((*_READERS, *ALIASES)))


# --- values ---------------------------------------------------------------------------------------------------------


def _metric(name: str, parameters: dict[str, Any], threshold: float | None = None) -> Metric:
    return Metric(metric_name=name, threshold=1.0 if threshold is None else threshold, parameters=parameters)


def _checked(builtin: str, parameters: dict[str, Any]) -> Expectation:
    return Expectation((_metric(f"builtin.{builtin}", parameters),))


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise NotSupportedError(f"{what} that is no mapping")
    return value


def _texts(params: Mapping[str, Any], names: tuple[str, ...]) -> list[str]:
    """The texts of the one parameter that is given, under whichever of its names."""
    given = [name for name in names if name in params]
    if len(given) != 1:
        raise NotSupportedError(f"not exactly one of {', '.join(names)}")
    value = params[given[0]]
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise NotSupportedError(f"{given[0]!r} that holds no texts")
    return texts


def _text(params: Mapping[str, Any], names: tuple[str, ...]) -> str:
    texts = _texts(params, names)
    if len(texts) != 1:
        raise NotSupportedError(f"{names[0]!r} that is no text")
    return texts[0]


def _whole(params: Mapping[str, Any], names: tuple[str, ...], least: int, default: int | None = None) -> int:
    value = next((params[name] for name in names if name in params), default)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= 10_000_000:
        raise NotSupportedError(f"{names[0]!r} that is no whole number from {least} on")
    return value


def _score(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not 0 <= value <= 1:
        raise NotSupportedError("min_score that is no number from 0 to 1")
    return float(value)
