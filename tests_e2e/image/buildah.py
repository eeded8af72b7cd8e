"""The image where no daemon runs: built by buildah, run by `enter.sh` in namespaces of its own.

buildah's own `run` cannot make the root read-only without cgroups, nor is its first process the one that a container's
would be; `enter.sh` mounts the image read-only and becomes process 1.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from tests_e2e.image.engine import ImageConfig, Job, output_of
from tests_e2e.image.local_base import base_images

ENTER = Path(__file__).with_name("enter.sh")


class Buildah:
    """buildah as root with chroot isolation; all its state is below one folder outside the checkout."""

    name = "buildah"

    def __init__(self) -> None:
        self.state = Path(tempfile.gettempdir()) / "testbench-image"
        self.command = (
            *("buildah", "--root", f"{self.state}/root", "--runroot", f"{self.state}/run"),
            *("--storage-driver", "overlay"),
        )

    def build(self, context: Path, image: str) -> None:
        arguments = base_images(self.command, self.state)
        subprocess.run(
            [*self.command, "build", "--isolation", "chroot", "--layers", *arguments, "--tag", image, str(context)],
            check=True,
        )

    def config(self, image: str) -> ImageConfig:
        oci = json.loads(output_of(*self.command, "inspect", "--type", "image", image))["OCIv1"]["config"]
        return ImageConfig(
            user=oci["User"],
            workdir=oci["WorkingDir"],
            entrypoint=tuple(oci.get("Entrypoint", ())),
            command=tuple(oci.get("Cmd", ())),
            env=dict(entry.split("=", 1) for entry in oci["Env"]),
            labels=oci["Labels"],
        )

    def layers(self, image: str) -> Mapping[str, int]:
        root = self.state / "root" / "overlay-images"
        identity = output_of(*self.command, "inspect", "--type", "image", "--format", "{{.FromImageID}}", image)
        layer = next(
            entry["layer"] for entry in json.loads((root / "images.json").read_text()) if entry["id"] == identity
        )
        known = {entry["id"]: entry for entry in json.loads((root.parent / "overlay-layers/layers.json").read_text())}
        sizes: dict[str, int] = {}
        while layer:
            sizes[layer] = known[layer].get("diff-size", 0)
            layer = known[layer].get("parent", "")
        return sizes

    @contextmanager
    def volume(self, image: str) -> Iterator[str]:
        folder = Path(tempfile.mkdtemp(dir=self.state))
        shutil.chown(folder, 0, 1001)
        folder.chmod(0o2775)
        try:
            yield str(folder)
        finally:
            shutil.rmtree(folder)

    def start(self, image: str, job: Job) -> _Namespace:
        config = self.config(image)
        settings = [f"{key}={value}" for key, value in (dict(config.env) | dict(job.env)).items()]
        command = [
            *("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", str(ENTER), self._mounted(image)),
            *(job.volume, job.user, config.workdir, *settings, "--", *config.entrypoint, *job.arguments),
        ]
        return _Namespace(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))

    def close(self) -> None:
        output_of(*self.command, "rm", "--all")

    @cache  # noqa: B019 - one engine and one image for the whole run
    def _mounted(self, image: str) -> str:
        """Where the image's files are, in a working container that nothing writes to."""
        self.close()
        container = output_of(*self.command, "from", "--pull-never", image)
        return output_of(*self.command, "mount", container)


class _Namespace:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def terminate(self) -> None:
        first = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()[0]
        subprocess.run(["kill", "-TERM", first], check=True)
