"""What the image's tests need of a container engine, and which of the two engines there is here."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

USER = "10001:1001"
"""The image's user with another group than the image's own, as Testkube's pods have it."""


@dataclass(frozen=True)
class ImageConfig:
    """What an image says of itself."""

    user: str
    workdir: str
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    env: Mapping[str, str]
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Job:
    """One container: what it runs, on which volume (at /app/data), with which environment."""

    arguments: Sequence[str]
    volume: str
    env: Mapping[str, str] = field(default_factory=dict)
    user: str = USER


@dataclass(frozen=True)
class Ended:
    """A container that ended."""

    code: int
    out: str
    err: str


class Container(Protocol):
    """A running container with its output."""

    process: subprocess.Popen[str]

    def terminate(self) -> None:
        """Send SIGTERM to its first process, as `docker stop` and Kubernetes do."""


class Engine(Protocol):
    """Builds an image and runs it: read-only root, an own /tmp, the network of this machine."""

    name: str

    def build(self, context: Path, image: str) -> None: ...

    def config(self, image: str) -> ImageConfig: ...

    def layers(self, image: str) -> Mapping[str, int]:
        """What made a layer, and its unpacked size in bytes."""

    def volume(self, image: str) -> AbstractContextManager[str]:
        """An empty volume as Testkube makes it: root's, of group 1001, writable for the group."""

    def start(self, image: str, job: Job) -> Container: ...

    def close(self) -> None:
        """Give back what the containers needed; the image stays."""


def finish(container: Container, timeout: float = 300) -> Ended:
    """Wait until a container ends, and take what it printed."""
    out, err = container.process.communicate(timeout=timeout)
    return Ended(container.process.returncode, out, err)


def find_engine() -> Engine:
    """Docker where its daemon answers, else buildah where it may be used.

    Raises:
        SystemExit: there is neither.
    """
    from tests_e2e.image.buildah import Buildah
    from tests_e2e.image.docker import Docker

    if shutil.which("docker") and _succeeds("docker", "version", "--format", "{{.Server.Version}}"):
        return Docker()
    if shutil.which("buildah") and os.geteuid() == 0:
        return Buildah()
    raise SystemExit(
        "error: no container engine: no docker daemon answers, and there is no buildah to be used as root\n"
        "hint: start docker, or as root: apt-get install buildah debootstrap"
    )


def output_of(*command: str) -> str:
    """What a command prints; CalledProcessError if it fails."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0
