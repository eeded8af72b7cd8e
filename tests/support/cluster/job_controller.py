"""The Job controller of the in-memory cluster: a thread that brings every Job forward whenever something changes."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from types import TracebackType
from typing import Final, Self

from tests.support.cluster.failures import ApiError
from tests.support.cluster.job_sync import TRACKED, finished, synced
from tests.support.cluster.objects import BY_PLURAL, Json, moment_of
from tests.support.cluster.store import Deletion, Store

JOBS: Final = BY_PLURAL["jobs"]
PODS: Final = BY_PLURAL["pods"]
STOP_SECONDS: Final = 10.0
IDLE_SECONDS: Final = 30.0


class JobController:
    """Runs as a context manager. `backoff_seconds` delays the first retry of a failed index; 0 retries at once."""

    def __init__(self, store: Store, backoff_seconds: float = 0.0) -> None:
        self.defect: BaseException | None = None
        self._store, self._backoff = store, backoff_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="job-controller")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._store.notify()
        self._thread.join(STOP_SECONDS)
        if error is None and self.defect:
            raise self.defect

    def sync_all(self) -> datetime | None:
        """Bring every Job one step forward; when to look again even if nothing happens."""
        jobs, _ = self._store.listed(JOBS)
        again = [self._sync(job) for job in jobs]
        self._release_orphans({job["metadata"]["uid"] for job in jobs})
        return min((at for at in again if at), default=None)

    def _run(self) -> None:
        try:
            while not self._stop.is_set() and not self._store.closing:
                seen = self._store.version
                again = self.sync_all()
                wait = IDLE_SECONDS if again is None else (again - self._store.clock()).total_seconds()
                self._store.wait_after(seen, max(0.0, min(wait, IDLE_SECONDS)))
        except Exception as error:  # noqa: BLE001 a defect of this part must fail the test, in the test's thread
            self.defect = error

    def _sync(self, job: Json) -> datetime | None:
        namespace = job["metadata"]["namespace"]
        if "deletionTimestamp" in job["metadata"]:
            self._let_go(job)
            return None
        decided = synced(job, self._pods_of(job), self._store.clock(), self._backoff)
        for pod in decided.create:
            self._store.create(PODS, namespace, pod)
        for pod_name in decided.delete:
            self._delete(namespace, pod_name)
        if decided.status != job.get("status"):
            self._write_status(job, decided.status)
        for pod_name in decided.release:
            self._release(namespace, pod_name)
        return self._expire(job | {"status": decided.status}) if finished(job) else decided.again_at

    def _pods_of(self, job: Json) -> list[Json]:
        uid = job["metadata"]["uid"]
        pods, _ = self._store.listed(PODS, job["metadata"]["namespace"])
        return [
            pod
            for pod in pods
            if any(one["uid"] == uid and one.get("controller") for one in pod["metadata"].get("ownerReferences", ()))
        ]

    def _write_status(self, job: Json, status: Json) -> None:
        def written(found: Json) -> Json:
            return found | {"status": status} if found["metadata"]["uid"] == job["metadata"]["uid"] else found

        try:
            self._store.update(
                JOBS, job["metadata"]["namespace"], job["metadata"]["name"], written, subresource="status"
            )
        except ApiError as error:
            _unless_gone(error)

    def _delete(self, namespace: str, name: str) -> None:
        try:
            self._store.delete(PODS, namespace, name)
        except ApiError as error:
            _unless_gone(error)

    def _release(self, namespace: str, name: str) -> None:
        def untracked(pod: Json) -> Json:
            left = [one for one in pod["metadata"].get("finalizers", ()) if one != TRACKED]
            return pod | {"metadata": pod["metadata"] | {"finalizers": left}}

        try:
            self._store.update(PODS, namespace, name, untracked)
        except ApiError as error:
            _unless_gone(error)

    def _let_go(self, job: Json) -> None:
        for pod in self._pods_of(job):
            if TRACKED in pod["metadata"].get("finalizers", ()):
                self._release(job["metadata"]["namespace"], pod["metadata"]["name"])

    def _release_orphans(self, jobs: set[str]) -> None:
        """Let go of pods whose Job is no more, or disowned them."""
        for pod in self._store.listed(PODS)[0]:
            mine = any(one["uid"] in jobs for one in pod["metadata"].get("ownerReferences", ()))
            if TRACKED in pod["metadata"].get("finalizers", ()) and not mine:
                self._release(pod["metadata"]["namespace"], pod["metadata"]["name"])

    def _expire(self, job: Json) -> datetime | None:
        """`ttlSecondsAfterFinished`: deletes the Job when its time is over."""
        if "ttlSecondsAfterFinished" not in job["spec"]:
            return None
        end = next(moment_of(one["lastTransitionTime"]) for one in job["status"]["conditions"] if one["type"] in
                   ("Complete", "Failed"))  # fmt: skip
        end += timedelta(seconds=job["spec"]["ttlSecondsAfterFinished"])
        if end > self._store.clock():
            return end
        foreground = Deletion(propagation="Foreground", uid=job["metadata"]["uid"])
        try:
            self._store.delete(JOBS, job["metadata"]["namespace"], job["metadata"]["name"], foreground)
        except ApiError as error:
            _unless_gone(error)
        return None


def _unless_gone(error: ApiError) -> None:
    if error.code not in (404, 409):
        raise error
