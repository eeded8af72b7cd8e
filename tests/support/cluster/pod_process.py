"""One pod as local processes: init containers in turn, then all containers, until they have ended or are told to.

It runs in a thread of its own and reports every change of the pod's status through a callback.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.support.cluster import pod_files
from tests.support.cluster.objects import Json, now, stamp
from tests.support.cluster.pod_files import Node, NotReadyError

MESSAGE_BYTES: Final = 4096
LOG_LINES: Final = 80
POLL_SECONDS: Final = 0.02
WAIT_FOR_FILES_SECONDS: Final = 0.1


@dataclass
class Container:
    """One container while it runs and after."""

    spec: Json
    log: Path
    message: Path
    process: subprocess.Popen[bytes] | None = None
    state: Json = field(default_factory=lambda: {"waiting": {"reason": "ContainerCreating"}})
    restarts: int = 0

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @property
    def code(self) -> int | None:
        """The exit code, 128 + signal for a killed one; None while it runs or before."""
        ended = self.state.get("terminated")
        return None if ended is None else int(ended["exitCode"])


class PodProcess:
    """Start it with `start`; `stop` is what a deletion does, `kill` what the out-of-memory killer does."""

    def __init__(self, node: Node, pod: Json, report: Callable[[Json, Json], None], entrypoint: Sequence[str]) -> None:
        self.pod = pod
        self.node = node
        self.folder = node.pod_folder(pod)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._report, self._entrypoint = report, list(entrypoint)
        self._init = [self._container(one) for one in pod["spec"].get("initContainers", ())]
        self._main = [self._container(one) for one in pod["spec"]["containers"]]
        self._stopping = threading.Event()
        self._files = threading.Lock()
        self._starting = threading.Lock()
        """Held until a process that may be writing already is known as this pod's."""
        self.defect: Exception | None = None
        """An error of this part itself; the pod is left as it was."""
        self._grace = float(pod["spec"].get("terminationGracePeriodSeconds", 30))
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"pod-{pod['metadata']['name']}")

    def start(self) -> None:
        self._thread.start()

    def stop(self, grace_seconds: float | None = None) -> None:
        """SIGTERM, and SIGKILL when the grace is over."""
        if grace_seconds is not None:
            self._grace = grace_seconds
        self._stopping.set()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """A signal to every process of the running containers, out of the blue."""
        with self._starting:
            for one in [*self._init, *self._main]:
                _signal(one, number)

    def join(self, seconds: float | None = None) -> bool:
        """Wait for the end; whether it came."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def refresh(self) -> None:
        """Write volumes anew after a ConfigMap, a Secret or the pod's own labels have changed."""
        with suppress(NotReadyError):
            self._prepare()

    def logs(self, container: str | None = None) -> str:
        """What a container has written so far, to stdout and stderr."""
        chosen = next(one for one in [*self._init, *self._main] if container in (None, one.name))
        return chosen.log.read_text(errors="replace") if chosen.log.exists() else ""

    def _container(self, spec: Json) -> Container:
        return Container(spec, self.folder / f"{spec['name']}.log", pod_files.message_file(self.node, self.pod, spec))

    def _run(self) -> None:
        try:
            self._live()
        except Exception as error:  # noqa: BLE001 a defect of this part must fail the test, in the test's thread
            self.defect = error
            self.kill()

    def _live(self) -> None:
        folders = self._await_files()
        if folders is None:
            self._say("Failed", reason="Deleted before it began")
            return
        for one in self._init:
            if not self._run_to_end(one, folders):
                self._say("Failed")
                return
        for one in self._main:
            self._begin(one, folders)
        self._say("Running")
        while not self._over(folders):
            if self._stopping.wait(POLL_SECONDS):
                self._terminate(self._main)
        codes = [one.code for one in self._main]
        self._say("Succeeded" if all(code == 0 for code in codes) else "Failed")

    def _await_files(self) -> dict[str, Path] | None:
        while not self._stopping.is_set():
            try:
                folders = self._prepare()
                for one in [*self._init, *self._main]:
                    pod_files.environment_of(self.node, self.pod, one.spec)
                return folders
            except NotReadyError as error:
                self._waiting(str(error))
                self._stopping.wait(WAIT_FOR_FILES_SECONDS)
        return None

    def _prepare(self) -> dict[str, Path]:
        with self._files:  # the pod's thread and a refresh would write the same temporary files
            return dict(pod_files.prepare(self.node, self.pod))

    def _waiting(self, why: str) -> None:
        state = {"waiting": {"reason": "CreateContainerConfigError", "message": why}}
        if self._main[0].state != state:
            for one in self._main:
                one.state = state
            self._say("Pending")

    def _run_to_end(self, one: Container, folders: dict[str, Path]) -> bool:
        self._begin(one, folders)
        self._say("Pending")
        while one.code is None:
            if self._stopping.wait(POLL_SECONDS):
                self._terminate([one])
            self._look(one)
        return one.code == 0

    def _begin(self, one: Container, folders: dict[str, Path]) -> None:
        variables = pod_files.environment_of(self.node, self.pod, one.spec)
        mounted = pod_files.mounts(self.node, self.pod, one.spec, folders)
        local = pod_files.rewriter(mounted, (*self.node.host, self.node.folder))
        words = [*one.spec.get("command", self._entrypoint), *one.spec.get("args", ())]
        command = [local(pod_files.expanded(word, variables)) for word in words]
        environment = {**self.node.environment, "HOME": str(self.folder),
                       "HOSTNAME": self.pod["spec"].get("hostname", self.pod["metadata"]["name"])}  # fmt: skip
        environment |= {name: local(value) for name, value in variables.items()}
        work = Path(local(one.spec.get("workingDir", ""))) if one.spec.get("workingDir") else self.folder
        one.message.write_bytes(b"")
        with one.log.open("ab") as log:
            try:
                with self._starting:
                    one.process = subprocess.Popen(
                        command, env=environment, cwd=work if work.is_dir() else self.folder, stdin=subprocess.DEVNULL,
                        stdout=log, stderr=log, start_new_session=True,
                    )  # fmt: skip
            except OSError as error:
                log.write(f"{error}\n".encode())
                one.state = _terminated(128, "StartError", str(error), stamp(now()))
                return
        one.state = {"running": {"startedAt": stamp(now())}}

    def _over(self, folders: dict[str, Path]) -> bool:
        for one in self._main:
            before = one.code
            self._look(one)
            if before is None and one.code is not None and self._restarts(one):
                one.restarts += 1
                self._begin(one, folders)
                self._say("Running")
        return all(one.code is not None for one in self._main)

    def _restarts(self, one: Container) -> bool:
        policy = self.pod["spec"].get("restartPolicy", "Always")
        return not self._stopping.is_set() and (policy == "Always" or (policy == "OnFailure" and one.code != 0))

    def _look(self, one: Container) -> None:
        if one.process is None or one.code is not None:
            return
        code = one.process.poll()
        if code is None:
            return
        _signal(one, signal.SIGKILL)  # what it left behind; a container ends with its first process
        exit_code = 128 - code if code < 0 else code
        started = one.state["running"]["startedAt"]
        one.state = _terminated(exit_code, "Completed" if not exit_code else "Error", self._message(one), started)

    def _message(self, one: Container) -> str:
        said = one.message.read_bytes()[:MESSAGE_BYTES].decode(errors="replace") if one.message.exists() else ""
        if not said and one.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError" and one.log.exists():
            lines = one.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
            return "\n".join(lines)[-2048:]
        return said

    def _terminate(self, containers: Sequence[Container]) -> None:
        for one in containers:
            _signal(one, signal.SIGTERM)
        left = self._grace
        for one in containers:
            if one.process is not None:
                try:
                    one.process.wait(max(left, 0.01))
                except subprocess.TimeoutExpired:
                    left = 0.0
                    _signal(one, signal.SIGKILL)
                    one.process.wait()
        for one in containers:
            self._look(one)

    def _say(self, phase: str, reason: str = "") -> None:
        ready = phase == "Running"
        done = all(one.code is not None for one in self._init)
        status: Json = {
            "phase": phase,
            "hostIP": "127.0.0.1",
            "podIP": "127.0.0.1",
            "containerStatuses": [_status(one, ready) for one in self._main],
            "conditions": [
                _condition("PodScheduled", True),
                _condition("Initialized", done),
                _condition("ContainersReady", ready),
                _condition("Ready", ready),
            ],
        }
        if self._init:
            status["initContainerStatuses"] = [_status(one, one.code == 0) for one in self._init]
        if reason:
            status["reason"] = reason
        self._report(self.pod, status)


def _signal(one: Container, number: int) -> None:
    if one.process is not None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(one.process.pid, number)


def _terminated(code: int, reason: str, message: str, started: str) -> Json:
    ended: Json = {"exitCode": code, "reason": reason, "startedAt": started, "finishedAt": stamp(now())}
    return {"terminated": ended | ({"message": message} if message else {})}


def _status(one: Container, ready: bool) -> Json:
    return {
        "name": one.name, "image": one.spec.get("image", ""), "imageID": "", "ready": ready and "running" in one.state,
        "started": "running" in one.state, "restartCount": one.restarts, "state": one.state, "lastState": {},
    }  # fmt: skip


def _condition(kind: str, holds: bool) -> Json:
    return {"type": kind, "status": str(holds), "lastTransitionTime": stamp(now())}
