"""Turns promptarena's scenario files into scenarios: user turns become steps, assertions become metrics.

What carries no meaning over is either a warning (it makes no difference to what is judged) or a refusal (without it, a
scenario would be another one, or a check would be missing). Called by `testbench.arena.bundle.scenarios`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from testbench.arena.bundle.assertions import Expectation, NotSupportedError, Scope, read_assertion, require_mapping
from testbench.schema.models import Metric, Reference, Scenario, Step, ToolCall

CALLS_METRIC: Final = Metric(
    metric_name="builtin.tool_calls", threshold=1.0, parameters={"mode": "any_order", "arguments": "subset"}
)
"""The expected calls were made, with these arguments at least; others may be made too."""

_PLACEHOLDER: Final = re.compile(r"\{\{\s*\.?([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
_SCENARIO_KEYS: Final = frozenset(
    {"id", "task_type", "description", "labels", "turns", "variables", "provider_group", "trials",
     "conversation_assertions"}
)  # fmt: skip
_SCENARIO_REFUSED: Final = frozenset({"duplex", "evals"})
_TURN_KEYS: Final = frozenset({"role", "content", "parts", "persona", "turns", "max_turns", "assertions"})
_TURN_REFUSED: Final = frozenset({"perturbations", "chaos", "consent_overrides"})


@dataclass(frozen=True)
class PlayedPart:
    """The end of a conversation, in which somebody plays the user: who, as whom, and for how long."""

    role: str
    persona: str | None
    turns: int
    max_turns: int | None
    metrics: tuple[Metric, ...]


@dataclass(frozen=True)
class ArenaScenario:
    """A scenario with what the arena file, and not the scenario itself, resolves. `warnings` name what is left out."""

    scenario: Scenario
    task_type: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    provider_group: str | None = None
    trials: int | None = None
    played: PlayedPart | None = None
    warnings: tuple[str, ...] = ()


@dataclass
class _StepDraft:
    """A step while its assertions are collected."""

    text: str
    metrics: list[Metric] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    kept: list[ToolCall] = field(default_factory=list)
    """Calls that the conversation expects, and this step need not make."""
    contexts: tuple[str, ...] = ()
    response: str | None = None

    def expect(self, expectation: Expectation) -> None:
        self.metrics.extend(expectation.metrics)
        self.calls.extend(expectation.calls)
        if expectation.contexts and self.contexts not in ((), expectation.contexts):
            raise NotSupportedError("different contexts for one answer")
        if expectation.response and self.response not in (None, expectation.response):
            raise NotSupportedError("different reference answers for one answer")
        self.contexts = expectation.contexts or self.contexts
        self.response = expectation.response or self.response

    def step(self, *, states_calls: bool) -> Step:
        expected = [*self.calls, *self.kept]
        calls = merge_calls(expected) if expected or states_calls else None
        reference = Reference(response=self.response, tool_calls=calls, retrieved_contexts=self.contexts or None)
        metrics = (*self.metrics, CALLS_METRIC) if self.calls else tuple(self.metrics)
        return Step(input=self.text, reference=reference if reference != Reference() else None, metrics=metrics)


@dataclass
class _PlayedDraft:
    """The played part while its assertions are collected."""

    role: str
    persona: str | None
    turns: int
    max_turns: int | None
    metrics: list[Metric] = field(default_factory=list)

    def expect(self, expectation: Expectation) -> None:
        if expectation.calls or expectation.contexts or expectation.response:
            raise NotSupportedError("tool calls or references for answers to questions that are not known yet")
        self.metrics.extend(expectation.metrics)


def read_scenario(document: Mapping[str, Any], global_assertions: Iterable[Any] = ()) -> ArenaScenario:
    """Return the scenario of a document of kind Scenario, or of what would be its `spec` alone.

    Raises:
        NotSupportedError: a part of it has no sound equivalent, or is not as it should be; the text names it.
    """
    spec = require_mapping(document.get("spec") if "kind" in document else document, "spec")
    metadata = document.get("metadata")
    name = spec.get("id") or (metadata.get("name") if isinstance(metadata, Mapping) else None)
    if not isinstance(name, str) or not name.strip():
        raise NotSupportedError("a scenario without an id")
    warnings = list(_list_left_out(spec, _SCENARIO_KEYS, _SCENARIO_REFUSED, "spec."))
    variables = {key: str(value) for key, value in require_mapping(spec.get("variables") or {}, "variables").items()}
    steps, played = _read_turns(_require_list(spec.get("turns"), "turns"), variables, warnings)
    asked = [*global_assertions, *_require_list(spec.get("conversation_assertions") or [], "conversation_assertions")]
    scenario_metrics = _expect_of_all(_read_expectations(asked, "conversation", warnings), steps, played)
    with_calls = CALLS_METRIC in scenario_metrics
    scenario = Scenario(
        name=name,
        steps=tuple(draft.step(states_calls=with_calls) for draft in steps),
        metrics=tuple(scenario_metrics),
        tags=tuple(
            sorted(f"{key}={value}" for key, value in require_mapping(spec.get("labels") or {}, "labels").items())
        ),
    )
    return ArenaScenario(
        scenario=scenario,
        task_type=_read_text(spec, "task_type"),
        variables=variables,
        provider_group=_read_text(spec, "provider_group"),
        trials=_read_count(spec, "trials"),
        played=None
        if played is None
        else PlayedPart(played.role, played.persona, played.turns, played.max_turns, tuple(played.metrics)),
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _read_turns(
    turns: list[Any], variables: Mapping[str, str], warnings: list[str]
) -> tuple[list[_StepDraft], _PlayedDraft | None]:
    steps: list[_StepDraft] = []
    played: _PlayedDraft | None = None
    for number, given in enumerate(turns, start=1):
        turn = require_mapping(given, f"turn {number}")
        warnings.extend(_list_left_out(turn, _TURN_KEYS, _TURN_REFUSED, f"turns[{number - 1}]."))
        role = turn.get("role")
        if not isinstance(role, str) or not role:
            raise NotSupportedError(f"turn {number} without a role")
        if role == "assistant":
            if _read_content(turn, variables):
                raise NotSupportedError(f"turn {number}, in which the scenario answers for the assistant")
        elif played is not None:
            raise NotSupportedError(f"turn {number} after a part that is played")
        elif role == "user":
            steps.append(_StepDraft(_require_text(_read_content(turn, variables), f"turn {number} without content")))
        else:
            played = _read_played(role, turn)
        expecting = played or (steps[-1] if steps else None)
        for expectation in _read_expectations(
            _require_list(turn.get("assertions") or [], "assertions"), "turn", warnings
        ):
            if expecting is None:
                raise NotSupportedError("assertions before the first question")
            expecting.expect(expectation)
    if not steps and played is None:
        raise NotSupportedError("a scenario without turns")
    return steps, played


def _read_played(role: str, turn: Mapping[str, Any]) -> _PlayedDraft:
    turns, most = _read_count(turn, "turns") or 1, _read_count(turn, "max_turns")
    if most is not None and most < turns:
        raise NotSupportedError(f"max_turns {most} below turns {turns}")
    return _PlayedDraft(role, _read_text(turn, "persona"), turns, most)


def _read_expectations(assertions: Iterable[Any], scope: Scope, warnings: list[str]) -> Iterator[Expectation]:
    for assertion in assertions:
        if isinstance(assertion, Mapping) and "pass_threshold" in assertion:
            warnings.append("pass_threshold of an assertion: every repetition has to pass")
        yield read_assertion(assertion, scope)


def _expect_of_all(
    expectations: Iterable[Expectation], steps: list[_StepDraft], played: _PlayedDraft | None
) -> list[Metric]:
    """Spread what is asked of the whole conversation over its steps; return the metrics that judge it as a whole."""
    whole: list[Metric] = []
    calls: list[ToolCall] = []
    for expectation in expectations:
        if expectation.every_step:
            for draft in steps:
                draft.metrics.extend(expectation.metrics)
            if played is not None:
                played.metrics.extend(expectation.metrics)
        else:
            whole.extend(expectation.metrics)
        calls.extend(expectation.calls)
    if calls:
        if played is not None:
            raise NotSupportedError("expected tool calls over a conversation that is played")
        whole.extend(_expect_calls(merge_calls(calls), steps))
    return whole


def _expect_calls(calls: tuple[ToolCall, ...], steps: list[_StepDraft]) -> list[Metric]:
    """Add calls that may be made at any time to the reference of a step that expects none; return their metric."""
    if len(steps) == 1:
        steps[0].calls.extend(calls)
        return []
    asked = merge_calls([call for draft in steps for call in draft.calls])
    further = [call for call in calls if not any(_covers(known, call) for known in asked)]
    if not further:
        return []
    free = [draft for draft in steps if not draft.calls]
    if not free:
        raise NotSupportedError("expected tool calls over a conversation whose every turn expects some of its own")
    free[-1].kept.extend(further)
    return [CALLS_METRIC]


def merge_calls(calls: Iterable[ToolCall]) -> tuple[ToolCall, ...]:
    """Return the fewest calls that meet all that several assertions expect.

    Arguments that do not contradict each other may be those of one call; a call of which only the name is expected is
    any call of that name.
    """
    merged: list[ToolCall] = []
    bare: list[ToolCall] = []
    for call in calls:
        if not call.args:
            bare.append(call)
            continue
        for position, known in enumerate(merged):
            if known.name == call.name and all(known.args.get(key, value) == value for key, value in call.args.items()):
                merged[position] = ToolCall(name=call.name, args=known.args | call.args)
                break
        else:
            merged.append(call)
    for name in dict.fromkeys(call.name for call in bare):
        wanted = sum(call.name == name for call in bare) - sum(call.name == name for call in merged)
        merged.extend(ToolCall(name=name) for _ in range(wanted))
    return tuple(merged)


def _covers(known: ToolCall, call: ToolCall) -> bool:
    return known.name == call.name and call.args.items() <= known.args.items()


# --- values ---------------------------------------------------------------------------------------------------------


def substitute(text: str, variables: Mapping[str, str]) -> str:
    """Return the text with `{{name}}` replaced by the variable of that name; other placeholders stay."""
    return _PLACEHOLDER.sub(lambda found: variables.get(found.group(1), found.group()), text)


def find_placeholders(text: str) -> tuple[str, ...]:
    """Return the names of the placeholders in a text."""
    return tuple(dict.fromkeys(_PLACEHOLDER.findall(text)))


def _read_content(turn: Mapping[str, Any], variables: Mapping[str, str]) -> str:
    if "content" in turn and "parts" in turn:
        raise NotSupportedError("a turn with content and parts")
    if "parts" not in turn:
        content = turn.get("content") or ""
        if not isinstance(content, str):
            raise NotSupportedError("content that is not a text")
        return substitute(content, variables)
    texts = []
    for part in _require_list(turn["parts"], "parts"):
        kind = require_mapping(part, "a part").get("type")
        if kind != "text" or not isinstance(part.get("text"), str):
            raise NotSupportedError(f"a part of type {kind!r}")
        texts.append(part["text"])
    return substitute("\n".join(texts), variables)


def _list_left_out(
    given: Mapping[str, Any], known: frozenset[str], refused: frozenset[str], place: str
) -> Iterator[str]:
    for key in given:
        if key in refused:
            raise NotSupportedError(f"{place}{key}")
        if key not in known:
            yield f"{place}{key}"


def _require_list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise NotSupportedError(f"{what} that is not a list")
    return value


def _require_text(text: str, what: str) -> str:
    if not text.strip():
        raise NotSupportedError(what)
    return text


def _read_text(given: Mapping[str, Any], key: str) -> str | None:
    value = given.get(key)
    if value is not None and not isinstance(value, str):
        raise NotSupportedError(f"{key} that is not a text")
    return value or None


def _read_count(given: Mapping[str, Any], key: str) -> int | None:
    value = given.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 100_000):
        raise NotSupportedError(f"{key} that is not a whole number from 1 on")
    return value
