"""Why the pods of a Job do not start: what Kubernetes knows and a person would have to look for.

Pure, of the pods and events that `observe` reads. A pod that is only being made is no trouble.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from testbench.arena.operator.kinds import Json
from testbench.arena.operator.messages import REASON_PATTERN
from testbench.printable import printable

FAILED_CREATE: Final = "FailedCreate"
"""The event of a Job whose pods are refused: by a quota, a limit, a policy, an admission webhook."""
ON_THE_WAY: Final = ("ContainerCreating", "PodInitializing")
MESSAGE_LENGTH: Final = 500

Trouble = tuple[str, str]
"""A reason in one word and a message."""


def of_pods(pods: Sequence[Json]) -> Trouble | None:
    """What keeps the first pod that cannot start: its image, its configuration, or that no node takes it."""
    ordered = sorted(pods, key=lambda pod: str(pod["metadata"]["name"]))
    return next((trouble for pod in ordered for trouble in _of_pod(pod)), None)


def of_events(events: Sequence[Json]) -> Trouble | None:
    """What was said last about pods that could not be created."""
    last = max(events, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""), default=None)
    return None if last is None else _trouble(FAILED_CREATE, last.get("message"))


def _of_pod(pod: Json) -> Iterator[Trouble]:
    status, name = pod.get("status") or {}, pod["metadata"]["name"]
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") and waiting["reason"] not in ON_THE_WAY:
            yield _trouble(waiting["reason"], f"Pod {name}: {waiting.get('message') or ''}")
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            yield _trouble(condition.get("reason"), f"Pod {name}: {condition.get('message') or ''}")


def _trouble(reason: object, message: object) -> Trouble:
    word = reason if isinstance(reason, str) and re.fullmatch(REASON_PATTERN, reason) else "NotStarted"
    return word, printable(str(message or ""), MESSAGE_LENGTH).removesuffix(":")
