"""Traces as execution and metrics see them: spans with ids, made by `testbench.telemetry` or not at all.

The names of the attributes that these two give to spans stand here, since neither knows `testbench.telemetry`;
`testbench.telemetry.attributes` has all others, and takes these over.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    import httpx

SCENARIO_ID: Final = "scenario_id"
REPETITION: Final = "repetition"
STEP_ID: Final = "step_id"
USER_INPUT: Final = "user_input"
REFERENCE: Final = "reference"
CONTEXT_ID: Final = "context_id"
TASK_ID: Final = "task_id"
MESSAGE_COUNT: Final = "message_count"
EVALUATION_NAME: Final = "gen_ai.evaluation.name"
EVALUATION_SCORE: Final = "gen_ai.evaluation.score.value"
EVALUATION_LABEL: Final = "gen_ai.evaluation.score.label"

Attributes = Mapping[str, str | int | float | bool]


class Span(Protocol):
    """One span under way; ids are lower-case hex (16 and 32 digits)."""

    @property
    def trace_id(self) -> str: ...

    @property
    def span_id(self) -> str: ...

    def set(self, attributes: Attributes) -> None:
        """Add attributes; content the user switched off is left out by the implementation."""

    def fail(self, kind: str, message: str) -> None:
        """Give the span the status error."""

    def end(self) -> None: ...


class Tracer(Protocol):
    """Starts a trace for each scenario and, below it, a span for each step."""

    def start_scenario(self, name: str, attributes: Attributes) -> Span: ...

    def step(self, parent: Span, position: int, attributes: Attributes) -> AbstractContextManager[Span]:
        """Start a span for the step at `position`, from 0.

        Requests inside are children of the step's span and carry its trace context.
        """

    def resume(
        self, trace_id: str | None, span_id: str | None, name: str, attributes: Attributes
    ) -> AbstractContextManager[Span]:
        """Start a new span below one that an earlier process recorded; the ids are those of the files.

        Requests inside are its children. Without usable ids it begins a trace of its own.
        """


class Tracing(Tracer, Protocol):
    """A tracer that also sees the requests of an HTTP client."""

    def instrument(self, transport: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
        """Return a transport over the given one: every request in a span is one below it and carries `traceparent`."""


class UntracedSpan:
    """Has ids, so that files look the same with and without a collector, and goes nowhere."""

    def __init__(self, trace_id: str | None = None) -> None:
        self._trace_id = trace_id or secrets.token_hex(16)
        self._span_id = secrets.token_hex(8)

    @property
    def trace_id(self) -> str:
        return self._trace_id

    @property
    def span_id(self) -> str:
        return self._span_id

    def set(self, attributes: Attributes) -> None:
        return None

    def fail(self, kind: str, message: str) -> None:
        return None

    def end(self) -> None:
        return None


class Untraced:
    """The tracing of tests and of runs without telemetry."""

    def instrument(self, transport: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
        return transport

    def start_scenario(self, name: str, attributes: Attributes) -> UntracedSpan:
        return UntracedSpan()

    @contextmanager
    def step(self, parent: Span, position: int, attributes: Attributes) -> Iterator[UntracedSpan]:
        yield UntracedSpan(parent.trace_id)

    @contextmanager
    def resume(
        self, trace_id: str | None, span_id: str | None, name: str, attributes: Attributes
    ) -> Iterator[UntracedSpan]:
        yield UntracedSpan(trace_id)
