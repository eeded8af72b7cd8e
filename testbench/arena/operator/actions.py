"""What `reconcile` asks for: values, so that a test can read them and a crash between two of them can be played.

Each is harmless when it is done twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from testbench.arena.job_status import JobStatus
from testbench.arena.operator.kinds import Json, Kind


@dataclass(frozen=True)
class Create:
    """Create an object of the job's namespace; one of the same name that has the same owner is as good."""

    kind: Kind
    body: Json

    @property
    def name(self) -> str:
        return str(self.body["metadata"]["name"])


@dataclass(frozen=True)
class CopySecret:
    """Create `body` with the data of another namespace's Secret; only the shell ever sees that data."""

    namespace: str
    name: str
    body: Json


@dataclass(frozen=True)
class Patch:
    """Merge `change` into an object that still has this resourceVersion."""

    kind: Kind
    name: str
    resource_version: str
    change: Json


@dataclass(frozen=True)
class Delete:
    """Delete the object that has this uid, and in the background what it owns."""

    kind: Kind
    name: str
    uid: str


@dataclass(frozen=True)
class EmitEvent:
    """Tell whoever looks at the ArenaJob; the same event is told once."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


Action: TypeAlias = Create | CopySecret | Patch | Delete | EmitEvent


@dataclass(frozen=True)
class Decision:
    """Do the actions in their order, then write the status, then look again after so many seconds (None: when woken).

    An action that fails ends the round: the next one begins with what is there then.
    """

    actions: tuple[Action, ...] = ()
    status: JobStatus | None = None
    requeue_after_s: float | None = None
