"""Where each part of a sample comes from, the same for every framework, and how a missing one is called.

    (Sample, field name) -> value, or None where the sample does not have it

An adapter translates these values to its framework's own types. The answer under judgement is always the agent's: a
`response` column of the dataset never stands in for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from testbench.metrics.protocol import Sample, SampleField


def field_value(sample: Sample, field: SampleField) -> Any:
    """The value of a field: text, a list of texts, a tuple of turns or tool calls, a number; None if there is none."""
    return _SOURCES[field](sample)


def missing_fields(sample: Sample, required: Iterable[SampleField]) -> tuple[str, ...]:
    """What a sample lacks, in the words of the experiment file, e.g. `reference.response`."""
    return tuple(PLACES[field] for field in required if field_value(sample, field) is None)


PLACES: Final[Mapping[SampleField, str]] = {
    "user_input": "input",
    "response": "answer of the agent",
    "reference": "reference.response",
    "retrieved_contexts": "custom_values.retrieved_contexts (or tool results of the agent)",
    "reference_contexts": "reference.reference_contexts",
    "retrieved_context_ids": "custom_values.retrieved_context_ids",
    "reference_context_ids": "custom_values.reference_context_ids",
    "reference_tool_calls": "reference.tool_calls",
    "reference_topics": "reference.topics",
    "turns": "turns",
    "conversation": "turns",
    "latency_ms": "latency_ms",
    "rubrics": "custom_values.rubrics",
}
"""Where a user finds or writes each field."""


def _retrieved_contexts(sample: Sample) -> list[str] | None:
    """What the answer rests on: the dataset's own word, else the tools' results, else the reference."""
    return (
        _texts(sample.custom_values.get("retrieved_contexts"))
        or _texts([turn.content for turn in sample.turns if turn.type == "tool"])
        or _texts(sample.reference.retrieved_contexts)
    )


def _reference_contexts(sample: Sample) -> list[str] | None:
    return (
        _texts(sample.custom_values.get("reference_contexts"))
        or _texts(sample.reference.reference_contexts)
        or _texts(sample.reference.retrieved_contexts)
    )


def _reference_topics(sample: Sample) -> list[str] | None:
    return _texts(sample.reference.topics) or _texts(sample.custom_values.get("reference_topics"))


def _rubrics(sample: Sample) -> dict[str, str] | None:
    rubrics = sample.custom_values.get("rubrics")
    if not isinstance(rubrics, Mapping) or not rubrics:
        return None
    return {str(key): str(text) for key, text in rubrics.items()}


def _unless_blank(text: str | None) -> str | None:
    """A text of white space says nothing; every answer would contain it."""
    return text if text and not text.isspace() else None


def _texts(value: Any) -> list[str] | None:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple):
        return None
    return [str(item) for item in value if item is not None and str(item).strip()] or None


_SOURCES: Final[Mapping[SampleField, Callable[[Sample], Any]]] = {
    "user_input": lambda sample: _unless_blank(sample.user_input),
    "response": lambda sample: _unless_blank(sample.response),
    "reference": lambda sample: _unless_blank(sample.reference.response),
    "retrieved_contexts": _retrieved_contexts,
    "reference_contexts": _reference_contexts,
    "retrieved_context_ids": lambda sample: _texts(sample.custom_values.get("retrieved_context_ids")),
    "reference_context_ids": lambda sample: _texts(sample.custom_values.get("reference_context_ids")),
    # an empty list is an expectation of its own: no tool may be called
    "reference_tool_calls": lambda sample: sample.reference.tool_calls,
    "reference_topics": _reference_topics,
    "turns": lambda sample: sample.turns or None,
    "conversation": lambda sample: sample.conversation or None,
    "latency_ms": lambda sample: sample.latency_ms,
    "rubrics": _rubrics,
}
