"""Builds etcd, kube-apiserver and kube-controller-manager from their Go modules, once, and prints where they are.

`make cluster-test` calls it. The programs are kept outside the checkout, in a folder that is named after the digest of
the modules' sums, so that a change of a version builds anew. With two cores a cold build takes about fifteen minutes
and four gigabytes of Go's own cache.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests_cluster.control_plane import PROGRAMS

MODULES: Final = Path(__file__).parent / "binaries"
RELEASE: Final = "v1.37.1"
_VERSION: Final = "k8s.io/component-base/version"
GO_ENVIRONMENT: Final = {"GOTOOLCHAIN": "local", "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false"}


@dataclass(frozen=True)
class Module:
    """A wrapper module and what is built from it; the packages' last parts are the programs' names."""

    name: str
    packages: tuple[str, ...]
    flags: str


BUILT: Final = (
    Module("etcd", (".",), "-s -w"),
    Module(
        "kubernetes",
        ("k8s.io/kubernetes/cmd/kube-apiserver", "k8s.io/kubernetes/cmd/kube-controller-manager"),
        f"-s -w -X {_VERSION}.gitVersion={RELEASE} -X {_VERSION}.gitMajor=1 -X {_VERSION}.gitMinor=37",
    ),
)


def folder() -> Path:
    """Where the programs of these module files belong."""
    sums = b"".join((MODULES / module.name / "go.sum").read_bytes() for module in BUILT)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "testbench" / f"control-plane-{hashlib.sha256(sums).hexdigest()[:12]}"


def build(go: str, target: Path) -> None:
    """Build what is missing; CalledProcessError after Go has said why."""
    target.mkdir(parents=True, exist_ok=True)
    for module in BUILT:
        made = (
            [module.name] if module.packages == (".",) else [package.rpartition("/")[2] for package in module.packages]
        )
        if all((target / name).is_file() for name in made):
            continue
        print(f"building {', '.join(made)} (the first time takes minutes)", file=sys.stderr)
        out = target / module.name if module.packages == (".",) else f"{target}/"
        _go(go, ["build", "-trimpath", "-ldflags", module.flags, "-o", str(out), *module.packages], module)


def _go(go: str, arguments: Sequence[str], module: Module) -> None:
    environment = os.environ | GO_ENVIRONMENT
    subprocess.run([go, *arguments], cwd=MODULES / module.name, env=environment, check=True)


def main() -> int:
    """Print the folder on stdout; 3 where it cannot be filled."""
    target, go = folder(), shutil.which("go")
    if not all((target / name).is_file() for name in PROGRAMS):
        if go is None:
            print("error: the control plane is not built, and Go is not installed", file=sys.stderr)
            print(
                "hint: install Go 1.26 or newer, or name a folder with the programs in CLUSTER_BINARIES",
                file=sys.stderr,
            )
            return 3
        try:
            build(go, target)
        except subprocess.CalledProcessError as error:
            print(f"error: go build ended with {error.returncode}", file=sys.stderr)
            return 3
    print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
