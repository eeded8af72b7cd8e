"""Every way in which Testbench stops, each with its exit code, a hint and whether a retry makes sense.

    TestbenchError
    ├── InputError            2    arguments, configuration or a file are wrong
    ├── WorkError             3    the work could not be done
    │   ├── RemoteError            a call may be made again, or must not
    │   │   ├── AgentError         the agent under test did not answer
    │   │   └── JudgeError         the judge gave no verdict that can be used
    │   ├── StoreError             a dataset or file could not be read or written
    │   └── TelemetryError         scores or traces did not arrive
    ├── NothingToDo           4    no scenario, no metric, no score
    └── Interrupted     130/143    Ctrl-C, or SIGTERM

Raised everywhere, turned into `error:` and `hint:` by `testbench.cli.phase`. A verdict of *fail* (exit code 1) is no
error: it is what `testbench.gating` returns.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = [
    "AgentError",
    "ExitCode",
    "InputError",
    "Interrupted",
    "JudgeError",
    "NothingToDo",
    "RemoteError",
    "StoreError",
    "TelemetryError",
    "TestbenchError",
    "WorkError",
]


class ExitCode(IntEnum):
    """What a caller of any script reads from its exit code. 75 to 78 are for the controller of a cluster's Jobs."""

    DONE = 0
    VERDICT_FAIL = 1
    BAD_INPUT = 2
    NOT_DONE = 3
    NOTHING_TO_DO = 4
    STOPPED = 75
    NO_COMMON_START = 76
    CONFIGURATION = 78
    INTERRUPTED = 130
    TERMINATED = 143


class TestbenchError(Exception):
    """An end that a user is told of: one sentence what happened, one hint what to do about it."""

    exit_code = ExitCode.NOT_DONE
    retryable = False

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InputError(TestbenchError):
    """Arguments, configuration or an input file are wrong; the message names file and place."""

    exit_code = ExitCode.BAD_INPUT


class WorkError(TestbenchError):
    """The work could not be done: something outside Testbench did not play its part."""


class RemoteError(WorkError):
    """An agent or a judge gave no answer to a request; `testbench.net.retry` decides whether it is made again.

    `kind` is a stable word for files and summaries.
    """

    retry_after: float | None = None
    """The wait in seconds that the other side asked for."""
    overloaded = False
    """The other side asks for fewer requests at once."""
    attempts = 1
    """How many requests were made."""

    def __init__(self, message: str, *, kind: str, retryable: bool, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.kind = kind
        self.retryable = retryable


class AgentError(RemoteError):
    """The agent under test gave no answer to a message.

    `kind`: `unreachable`, `timeout`, `http_error`, `rate_limited`, `protocol`, `failed`, `rejected`, `canceled`,
    `auth_required`, `no_answer`; of models also `truncated`, `content_filter`; and `tool_unavailable`,
    `user_simulation` where somebody else than the agent failed. `delivered`: the message may have reached it.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: str,
        retryable: bool = False,
        retry_after: float | None = None,
        delivered: bool = True,
        hint: str = "Check that the agent runs and speaks A2A: curl AGENT_URL/.well-known/agent-card.json",
    ) -> None:
        super().__init__(message, kind=kind, retryable=retryable, hint=hint)
        self.retry_after = retry_after
        self.delivered = delivered


class JudgeError(RemoteError):
    """The judge gave no usable verdict.

    `kind`: `unreachable`, `timeout`, `rate_limited`, `auth`, `http_error`, `malformed`, `truncated`, `content_filter`,
    `too_long`, and `max_cost` where it was not asked because it would have cost too much.
    `raw` keeps what the judge said where it said something.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: str,
        raw: str | None = None,
        retryable: bool = False,
        attempts: int = 1,
        hint: str = "Check OPENAI_API_BASE (or OPENAI_BASE_URL), the key in OPENAI_API_KEY and the model's name.",
    ) -> None:
        super().__init__(message, kind=kind, retryable=retryable, hint=hint)
        self.raw = raw
        self.attempts = attempts


class StoreError(WorkError):
    """A dataset, object or file could not be fetched, read or written although its name is well-formed."""


class TelemetryError(WorkError):
    """An export over OTLP did not arrive, or not all of it."""


class NothingToDo(TestbenchError):
    """There is no scenario, no metric or no score: an empty run is never a pass."""

    exit_code = ExitCode.NOTHING_TO_DO


class Interrupted(TestbenchError):
    """A signal asked the process to stop; the hint is the command that takes up the work again."""

    def __init__(self, exit_code: ExitCode, *, hint: str) -> None:
        super().__init__("interrupted" if exit_code is ExitCode.INTERRUPTED else "terminated", hint=hint)
        self.exit_code = exit_code
