"""The images that the Dockerfile starts from, made on this machine where no registry can be reached.

Called by the buildah engine before it builds. Python comes from the Debian mirror that debootstrap uses (DEBIAN_MIRROR
names another), uv from this machine. Such an image is a stand-in for tests: it is never pushed anywhere.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests_e2e.image.engine import output_of

ROOT = Path(__file__).parents[2]
PYTHON, UV = "localhost/testbench-python:local", "localhost/testbench-uv:local"
RELEASE = "trixie"
"""The Debian release with the Python version of the Dockerfile."""
PACKAGES = "ca-certificates,python3,netbase,tzdata"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
LEFT_OUT = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "var/cache/apt",
    "var/lib/apt/lists",
)
"""What Debian's slim images leave out as well."""


def base_images(buildah: Sequence[str], state: Path) -> list[str]:
    """The build arguments that name the base images: none where a registry answers, else those of local ones."""
    state.mkdir(parents=True, exist_ok=True)
    wanted = os.environ.get("IMAGE_TEST_BASE", "auto")
    if wanted not in ("auto", "registry", "local"):
        raise SystemExit(f"error: IMAGE_TEST_BASE={wanted!r}\nhint: auto, registry or local")
    if wanted == "registry" or (wanted == "auto" and _can_pull(buildah)):
        return []
    if not _has(buildah, PYTHON):
        _build_python(buildah, state / "rootfs")
    _build_uv(buildah, state)
    return [
        *("--pull-never", "--build-arg", f"PYTHON_IMAGE={PYTHON}", "--build-arg", f"UV_IMAGE={UV}"),
    ]


def _can_pull(buildah: Sequence[str]) -> bool:
    image = re.findall(r"^ARG PYTHON_IMAGE=(\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[0]
    if subprocess.run([*buildah, "pull", "--quiet", image], check=False, capture_output=True).returncode == 0:
        return True
    print(
        f"{image} cannot be pulled: the base images are made here (IMAGE_TEST_BASE=registry prevents that)", flush=True
    )
    return False


def _has(buildah: Sequence[str], image: str) -> bool:
    return (
        subprocess.run([*buildah, "inspect", "--type", "image", image], check=False, capture_output=True).returncode
        == 0
    )


def _build_python(buildah: Sequence[str], rootfs: Path) -> None:
    if not shutil.which("debootstrap"):
        raise SystemExit("error: debootstrap is not installed\nhint: apt-get install debootstrap, or use a registry")
    shutil.rmtree(rootfs, ignore_errors=True)
    mirror = [os.environ["DEBIAN_MIRROR"]] if "DEBIAN_MIRROR" in os.environ else []
    subprocess.run(
        ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", RELEASE, str(rootfs), *mirror],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    for folder in LEFT_OUT:
        shutil.rmtree(rootfs / folder, ignore_errors=True)
        (rootfs / folder).mkdir(parents=True)
    (rootfs / "usr/local/bin/python3").symlink_to("/usr/bin/python3")
    shutil.copy(CERTIFICATES, rootfs / CERTIFICATES.relative_to("/"))  # of this machine, which may trust a proxy's
    container = output_of(*buildah, "from", "scratch")
    output_of(*buildah, "add", "--quiet", container, str(rootfs), "/")
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    output_of(*buildah, "config", "--env", f"PATH={path}", "--env", f"SSL_CERT_FILE={CERTIFICATES}", container)
    output_of(*buildah, "commit", "--quiet", "--rm", container, PYTHON)
    shutil.rmtree(rootfs)


def _build_uv(buildah: Sequence[str], state: Path) -> None:
    uv = shutil.which("uv") or _installed_uv(state / "uv")
    container = output_of(*buildah, "from", "scratch")
    output_of(*buildah, "copy", "--quiet", container, uv, "/uv")
    output_of(*buildah, "config", "--created-by", "uv of this machine", container)
    output_of(*buildah, "commit", "--quiet", "--rm", "--timestamp", "0", container, UV)


def _installed_uv(folder: Path) -> str:
    if not (folder / "bin" / "uv").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(folder / "bin" / "pip"), "install", "--quiet", "uv"], check=True)
    return str(folder / "bin" / "uv")
