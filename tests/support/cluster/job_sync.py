"""One look at a Job and its pods: which pods to make and to delete, and what the status is. Pure.

It follows the Job controller of Kubernetes 1.37, so far as our Jobs reach: indexes, retries per index, pod failure
policies, replacement policies, suspension, deadlines. No success policy, no elastic resizing of `completions`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from tests.support.cluster.objects import Json, moment_of, stamp

INDEX: Final = "batch.kubernetes.io/job-completion-index"
FAILURES: Final = "batch.kubernetes.io/job-index-failure-count"
IGNORED: Final = "batch.kubernetes.io/job-index-ignored-failure-count"
TRACKED: Final = "batch.kubernetes.io/job-tracking"
MAX_BACKOFF_SECONDS: Final = 600.0
_REASON_OF: Final = {"Complete": "SuccessCriteriaMet", "Failed": "FailureTarget"}


class Verdict(NamedTuple):
    """How a Job ends: `kind` is Complete or Failed."""

    kind: str
    reason: str
    message: str


@dataclass
class Sync:
    """What is to be done. `release` are the pods that are counted now and need not be kept for the count any more."""

    status: Json
    create: list[Json] = field(default_factory=list)
    delete: list[str] = field(default_factory=list)
    release: list[str] = field(default_factory=list)
    again_at: datetime | None = None


def synced(job: Json, pods: Sequence[Json], now: datetime, backoff_seconds: float) -> Sync:
    """`pods` are all that the Job controls; `backoff_seconds` delays the first retry (10 in a real cluster)."""
    return _Look(job, pods, now, backoff_seconds).sync()


def finished(job: Json) -> bool:
    return any(
        one["type"] in _REASON_OF and one["status"] == "True" for one in job.get("status", {}).get("conditions", ())
    )


def interval_text(indexes: Iterable[int]) -> str:
    """`0,2-4`: three in a row become a range, two are listed."""
    out: list[list[int]] = []
    for index in sorted(indexes):
        if out and out[-1][-1] == index - 1:
            out[-1].append(index)
        else:
            out.append([index])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run)) for run in out)


def indexes_of(text: str) -> set[int]:
    """The inverse of `interval_text`."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


class _Look:
    def __init__(self, job: Json, pods: Sequence[Json], now: datetime, backoff_seconds: float) -> None:
        self.job, self.spec, self.now, self.backoff = job, job["spec"], now, backoff_seconds
        self.old: Json = job.get("status", {})
        self.indexed = self.spec["completionMode"] == "Indexed"
        self.per_index = "backoffLimitPerIndex" in self.spec
        self.only_failed = self.spec["podReplacementPolicy"] == "Failed"
        self.pods = sorted(pods, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))
        self.tracked = [pod for pod in self.pods if TRACKED in pod["metadata"].get("finalizers", ())]
        self.active = [pod for pod in self.pods if not _ended(pod) and "deletionTimestamp" not in pod["metadata"]]
        self.leaving = [pod for pod in self.pods if not _ended(pod) and "deletionTimestamp" in pod["metadata"]]
        self.failed_pods = [pod for pod in self.pods if self._is_failed(pod)]
        self.completed = indexes_of(self.old.get("completedIndexes", ""))
        self.failed = indexes_of(self.old.get("failedIndexes", ""))
        self.again: list[datetime] = []

    def sync(self) -> Sync:
        if finished(self.job):
            return Sync(copy.deepcopy(self.old), release=[_name(pod) for pod in self.tracked])
        suspended = bool(self.spec.get("suspend"))
        started = None if suspended else moment_of(self.old["startTime"]) if "startTime" in self.old else self.now
        self._count_indexes()
        verdict = self._verdict(started)
        create: list[Json] = []
        delete: list[str] = []
        if verdict or suspended:
            delete = [_name(pod) for pod in self.active]
        else:
            create, delete = self._manage()
        renewed = {_index(pod) for pod in create} if self.per_index else set()
        release = self._countable(verdict is not None, renewed)
        status = self._status(started, release, len(self.active) + len(create) - len(delete))
        status["conditions"] = self._conditions(verdict, suspended, bool(self.active or self.leaving))
        if not status["conditions"]:
            del status["conditions"]
        if any(one["type"] == "Complete" for one in status.get("conditions", ())):
            status["completionTime"] = stamp(self.now)
        return Sync(status, create, delete, [_name(pod) for pod in release], min(self.again, default=None))

    # --- counting --------------------------------------------------------------------------------------------------

    def _is_failed(self, pod: Json) -> bool:
        if pod["status"].get("phase") == "Failed":
            return True
        gone = "deletionTimestamp" in pod["metadata"] and pod["status"].get("phase") != "Succeeded"
        return gone and not self.only_failed and "podFailurePolicy" not in self.spec

    def _count_indexes(self) -> None:
        if not self.indexed:
            return
        within = range(self.spec["completions"])
        succeeded = {_index(pod) for pod in self.tracked if pod["status"].get("phase") == "Succeeded"}
        self.completed |= {index for index in succeeded if index in within}
        if self.per_index:
            for pod in self.failed_pods:
                limit = self.spec["backoffLimitPerIndex"]
                action = self.action(pod)
                spent = action not in ("Ignore",) and _counter(pod, FAILURES) >= limit
                if (action == "FailIndex" or spent) and _index(pod) not in self.completed and _index(pod) in within:
                    self.failed.add(_index(pod))

    def action(self, pod: Json) -> str:
        """What the pod failure policy does with a failed pod; Count where no rule matches."""
        found = self._rule(pod)
        return found[1]["action"] if found else "Count"

    def _rule(self, pod: Json) -> tuple[int, Json, str] | None:
        for at, rule in enumerate(self.spec.get("podFailurePolicy", {}).get("rules", ())):
            if why := _matches(rule, pod):
                return at, rule, f"{why} matching {rule['action']} rule at index {at}"
        return None

    def _countable(self, ending: bool, renewed: set[int]) -> list[Json]:
        """Ended pods to count and release now. The last failure of an index stays until the index goes on or ends:
        its annotations are the only memory of how often it failed."""
        last = {_index(pod): _name(pod) for pod in self.failed_pods} if self.per_index and self.indexed else {}
        out: list[Json] = []
        for pod in self.tracked:
            if not (_ended(pod) or self._is_failed(pod)):
                continue
            index = _index(pod) if self.indexed else -1
            kept = last.get(index) == _name(pod) and not ending and index not in self.failed | self.completed | renewed
            if not kept:
                out.append(pod)
        return out

    # --- ending ----------------------------------------------------------------------------------------------------

    def _verdict(self, started: datetime | None) -> Verdict | None:
        for one in self.old.get("conditions", ()):
            for kind, interim in _REASON_OF.items():
                if one["type"] == interim and one["status"] == "True":
                    return Verdict(kind, one.get("reason", ""), one.get("message", ""))
        for pod in self.failed_pods:
            found = self._rule(pod)
            if found and found[1]["action"] == "FailJob":
                return Verdict("Failed", "PodFailurePolicy", found[2])
        if self._failures() > self.spec["backoffLimit"]:
            return Verdict("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
        if started and "activeDeadlineSeconds" in self.spec:
            end = started + timedelta(seconds=self.spec["activeDeadlineSeconds"])
            if self.now >= end:
                return Verdict("Failed", "DeadlineExceeded", "Job was active longer than specified deadline")
            self.again.append(end)
        if "maxFailedIndexes" in self.spec and len(self.failed) > self.spec["maxFailedIndexes"]:
            why = "Job has exceeded the specified maximal number of failed indexes"
            return Verdict("Failed", "MaxFailedIndexesExceeded", why)
        return self._ended_by_count()

    def _ended_by_count(self) -> Verdict | None:
        done = Verdict("Complete", "CompletionsReached", "Reached expected number of succeeded pods")
        if self.indexed:
            if len(self.completed) + len(self.failed) < self.spec["completions"]:
                return None
            return Verdict("Failed", "FailedIndexes", "Job has failed indexes") if self.failed else done
        succeeded = self._succeeded()
        if "completions" in self.spec:
            return done if succeeded >= self.spec["completions"] else None
        return done if succeeded and not self.active else None

    def _failures(self) -> int:
        fresh = [pod for pod in self.failed_pods if pod in self.tracked and self.action(pod) != "Ignore"]
        return int(self.old.get("failed", 0)) + len(fresh)

    def _succeeded(self) -> int:
        fresh = [pod for pod in self.tracked if pod["status"].get("phase") == "Succeeded"]
        return int(self.old.get("succeeded", 0)) + len(fresh)

    # --- pods ------------------------------------------------------------------------------------------------------

    def _manage(self) -> tuple[list[Json], list[str]]:
        wanted = self._wanted()
        taken = len(self.active) + (len(self.leaving) if self.only_failed else 0)
        if len(self.active) > wanted:
            order = sorted(self.active, key=lambda pod: (_ready(pod), -_index(pod) if self.indexed else 0))
            return [], [_name(pod) for pod in order[: len(self.active) - wanted]]
        room = wanted - taken
        if room <= 0:
            return [], []
        if not self.indexed:
            return [self._pod(None) for _ in range(room)] if self._may_retry(self.failed_pods) else [], []
        return [self._pod(index) for index in self._free_indexes(room)], []

    def _wanted(self) -> int:
        parallelism = int(self.spec["parallelism"])
        if "completions" not in self.spec:
            return parallelism if not self._succeeded() else len(self.active)
        done = len(self.completed | self.failed) if self.indexed else self._succeeded()
        return min(parallelism, int(self.spec["completions"]) - done)

    def _free_indexes(self, room: int) -> list[int]:
        busy = {_index(pod) for pod in [*self.active, *(self.leaving if self.only_failed else ())]}
        out: list[int] = []
        for index in range(self.spec["completions"]):
            if len(out) == room:
                break
            if index in busy | self.completed | self.failed:
                continue
            before = [pod for pod in self.failed_pods if _index(pod) == index] if self.per_index else self.failed_pods
            if self._may_retry(before):
                out.append(index)
        return out

    def _may_retry(self, failed: Sequence[Json]) -> bool:
        if not failed or not self.backoff:
            return True
        last = max(failed, key=_ended_at)
        count = _counter(last, FAILURES) + _counter(last, IGNORED) + 1 if self.per_index else len(failed)
        at = _ended_at(last) + timedelta(seconds=min(self.backoff * 2 ** (count - 1), MAX_BACKOFF_SECONDS))
        if at > self.now:
            self.again.append(at)
        return at <= self.now

    def _pod(self, index: int | None) -> Json:
        metadata = self.job["metadata"]
        template = copy.deepcopy(self.spec["template"])
        told = template.get("metadata", {})
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": metadata["name"], "uid": metadata["uid"],
                 "controller": True, "blockOwnerDeletion": True}  # fmt: skip
        pod: Json = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "generateName": f"{metadata['name']}-" if index is None else f"{metadata['name']}-{index}-",
                "labels": dict(told.get("labels", {})),
                "annotations": dict(told.get("annotations", {})),
                "finalizers": [TRACKED],
                "ownerReferences": [owner],
            },
            "spec": template["spec"],
        }
        if index is not None:
            self._number(pod, index)
        return pod

    def _number(self, pod: Json, index: int) -> None:
        pod["metadata"]["labels"][INDEX] = str(index)
        pod["metadata"]["annotations"][INDEX] = str(index)
        pod["spec"].setdefault("hostname", f"{self.job['metadata']['name']}-{index}")
        field_path = f"metadata.labels['{INDEX}']"
        variable = {"name": "JOB_COMPLETION_INDEX", "valueFrom": {"fieldRef": {"fieldPath": field_path}}}
        for container in [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]:
            names = [one["name"] for one in container.get("env", ())]
            if variable["name"] not in names:
                container.setdefault("env", []).append(copy.deepcopy(variable))
        if self.per_index:
            before = [one for one in self.failed_pods if _index(one) == index]
            last = max(before, key=_ended_at, default=None)
            counted = last is not None and self.action(last) != "Ignore"
            ignored = _counter(last, IGNORED) + (last is not None and not counted)
            pod["metadata"]["annotations"][FAILURES] = str(_counter(last, FAILURES) + counted)
            if ignored:
                pod["metadata"]["annotations"][IGNORED] = str(ignored)

    # --- status ----------------------------------------------------------------------------------------------------

    def _status(self, started: datetime | None, counted: Sequence[Json], active: int) -> Json:
        failed = [pod for pod in counted if self._is_failed(pod) and self.action(pod) != "Ignore"]
        succeeded = sum(1 for pod in counted if pod["status"].get("phase") == "Succeeded")
        numbers = {
            "active": active,
            "failed": int(self.old.get("failed", 0)) + len(failed),
            "succeeded": len(self.completed) if self.indexed else int(self.old.get("succeeded", 0)) + succeeded,
        }
        out: Json = {name: number for name, number in numbers.items() if number}
        out |= {"ready": sum(map(_ready, self.active)), "terminating": len(self.leaving), "uncountedTerminatedPods": {}}
        if started:
            out["startTime"] = stamp(started)
        if self.completed:
            out["completedIndexes"] = interval_text(self.completed)
        if self.per_index:
            out["failedIndexes"] = interval_text(self.failed)
        return out

    def _conditions(self, verdict: Verdict | None, suspended: bool, busy: bool) -> list[Json]:
        out = [copy.deepcopy(one) for one in self.old.get("conditions", ())]
        if suspended != any(one["type"] == "Suspended" and one["status"] == "True" for one in out):
            out = [one for one in out if one["type"] != "Suspended"]
            told = ("JobSuspended", "Job suspended") if suspended else ("JobResumed", "Job resumed")
            out.append(self._condition("Suspended", *told, holds=suspended))
        if verdict is None:
            return out
        interim = _REASON_OF[verdict.kind]
        if not any(one["type"] == interim for one in out):
            out.append(self._condition(interim, verdict.reason, verdict.message))
        elif not busy:  # a write of its own, after the one that says what is going to happen
            out.append(self._condition(verdict.kind, verdict.reason, verdict.message))
        return out

    def _condition(self, kind: str, reason: str, message: str, *, holds: bool = True) -> Json:
        at = stamp(self.now)
        return {"type": kind, "status": str(holds), "reason": reason, "message": message, "lastProbeTime": at,
                "lastTransitionTime": at}  # fmt: skip


def _matches(rule: Json, pod: Json) -> str:
    """Why the rule takes the pod, or nothing."""
    status, named = pod["status"], f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
    if wanted := rule.get("onExitCodes"):
        for one in [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]:
            code = one.get("state", {}).get("terminated", {}).get("exitCode", 0)
            listed = (code in wanted["values"]) is (wanted["operator"] == "In")
            if wanted.get("containerName") in (None, one["name"]) and code != 0 and listed:
                return f"Container {one['name']} for pod {named} failed with exit code {code}"
    for pattern in rule.get("onPodConditions") or ():
        for one in status.get("conditions", ()):
            if (one["type"], one["status"]) == (pattern["type"], pattern["status"]):
                return f"Pod {named} has condition {one['type']}"
    return ""


def _ended(pod: Json) -> bool:
    return pod["status"].get("phase") in ("Succeeded", "Failed")


def _ended_at(pod: Json) -> datetime:
    ends = [
        moment_of(one["state"]["terminated"]["finishedAt"])
        for one in pod["status"].get("containerStatuses", ())
        if one.get("state", {}).get("terminated", {}).get("finishedAt")
    ]
    metadata: Mapping[str, str] = pod["metadata"]
    return max(ends, default=moment_of(metadata.get("deletionTimestamp", metadata["creationTimestamp"])))


def _ready(pod: Json) -> bool:
    return any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", ()))


def _counter(pod: Json | None, annotation: str) -> int:
    return int(pod["metadata"].get("annotations", {}).get(annotation, 0)) if pod else 0


def _index(pod: Json) -> int:
    return int(pod["metadata"]["annotations"][INDEX])


def _name(pod: Json) -> str:
    return str(pod["metadata"]["name"])
