"""The image under docker."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests_e2e.image.engine import ImageConfig, Job, output_of


class Docker:
    """The docker command line."""

    name = "docker"

    def build(self, context: Path, image: str) -> None:
        subprocess.run(["docker", "build", "--tag", image, str(context)], check=True)

    def config(self, image: str) -> ImageConfig:
        config = json.loads(output_of("docker", "image", "inspect", image))[0]["Config"]
        return ImageConfig(
            user=config["User"],
            workdir=config["WorkingDir"],
            entrypoint=tuple(config["Entrypoint"] or ()),
            command=tuple(config["Cmd"] or ()),
            env=dict(entry.split("=", 1) for entry in config["Env"]),
            labels=config["Labels"],
        )

    def layers(self, image: str) -> Mapping[str, int]:
        form = "{{.Size}} {{.CreatedBy}}"
        lines = output_of("docker", "history", "--human=false", "--no-trunc", "--format", form, image).splitlines()
        sizes: dict[str, int] = {}
        for size, made_by in (line.split(" ", 1) for line in lines):
            sizes[made_by] = sizes.get(made_by, 0) + int(size)
        return sizes

    @contextmanager
    def volume(self, image: str) -> Iterator[str]:
        name = output_of("docker", "volume", "create")
        prepare = "chown 0:1001 /app/data && chmod 2775 /app/data"
        try:
            output_of(
                *("docker", "run", "--rm", "--user", "0:0", "--volume", f"{name}:/app/data", "--entrypoint", "sh"),
                *(image, "-c", prepare),
            )
            yield name
        finally:
            output_of("docker", "volume", "rm", "--force", name)

    def start(self, image: str, job: Job) -> _DockerContainer:
        name = f"testbench-image-test-{uuid.uuid4().hex[:12]}"
        settings = [part for key, value in job.env.items() for part in ("--env", f"{key}={value}")]
        command = [
            *("docker", "run", "--rm", "--name", name, "--read-only", "--tmpfs", "/tmp", "--network", "host"),
            *("--user", job.user, "--volume", f"{job.volume}:/app/data", *settings, image, *job.arguments),
        ]
        return _DockerContainer(
            name, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )

    def close(self) -> None:
        """Every container is removed when it ends."""


class _DockerContainer:
    def __init__(self, name: str, process: subprocess.Popen[str]) -> None:
        self._name = name
        self.process = process

    def terminate(self) -> None:
        output_of("docker", "kill", "--signal", "TERM", self._name)
