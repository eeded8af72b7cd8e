"""A real control plane on free loopback ports: etcd, kube-apiserver and kube-controller-manager as child processes.

There is no scheduler and no kubelet; `tests.support.cluster.kubelet` is both. The certificate that the API server
makes for itself, the tokens and all data live in one temporary folder.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import httpx
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.support.cluster.client import ClientAccess

ADMIN_TOKEN: Final = "contract-admin"
PROGRAMS: Final = ("etcd", "kube-apiserver", "kube-controller-manager")
CONTROLLERS: Final = (
    "job-controller", "garbage-collector-controller", "ttl-after-finished-controller", "namespace-controller",
    "serviceaccount-controller", "persistentvolumeclaim-protection-controller",
)  # fmt: skip
START_SECONDS: Final = 120.0
STOP_SECONDS: Final = 20.0
POLL_SECONDS: Final = 0.2


class NotStartedError(RuntimeError):
    """A program of the control plane ended or did not become ready; the message has the end of its log."""


@contextmanager
def control_plane(programs: Path, folder: Path) -> Iterator[ClientAccess]:
    """Start all three from the folder `programs`, keep their files in `folder`, and stop them at the end."""
    etcd, peers, api = _free_ports(3)
    with ExitStack() as stack:
        log = stack.enter_context(_running(programs / "etcd", _etcd(folder, etcd, peers), folder))
        _wait_ready(f"http://127.0.0.1:{etcd}/health", ClientAccess(f"http://127.0.0.1:{etcd}"), log)
        log = stack.enter_context(_running(programs / "kube-apiserver", _api_server(folder, etcd, api), folder))
        certificate = folder / "certificates" / "apiserver.crt"
        access = ClientAccess(f"https://127.0.0.1:{api}", ADMIN_TOKEN, str(certificate))
        _wait_ready(f"{access.url}/readyz", access, log)
        stack.enter_context(_running(programs / "kube-controller-manager", _controller_manager(folder, access), folder))
        yield access


def write_kubeconfig(path: Path, access: ClientAccess) -> Path:
    """A kubeconfig for kubectl and for the controller manager; JSON is YAML."""
    cluster = {"server": access.url} | ({"certificate-authority": access.certificate} if access.certificate else {})
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": {"token": access.token} if access.token else {}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "default"}}],
    }
    path.write_text(json.dumps(config))
    return path


def _etcd(folder: Path, port: int, peers: int) -> list[str]:
    client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peers}"
    return [
        f"--data-dir={folder / 'etcd'}", f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
    ]  # fmt: skip


def _api_server(folder: Path, etcd: int, port: int) -> list[str]:
    certificates = folder / "certificates"
    certificates.mkdir()
    tokens = certificates / "tokens.csv"
    tokens.write_text(f"{ADMIN_TOKEN},admin,admin,system:masters\n")
    key = certificates / "service-account.key"
    _write_key(key)
    return [
        f"--etcd-servers=http://127.0.0.1:{etcd}", f"--secure-port={port}", "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1", f"--cert-dir={certificates}", f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}", "--service-account-issuer=https://127.0.0.1",
        f"--token-auth-file={tokens}", "--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/24",
        "--endpoint-reconciler-type=none",
    ]  # fmt: skip


def _write_key(path: Path) -> None:
    """The key that signs service account tokens."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))


def _controller_manager(folder: Path, access: ClientAccess) -> list[str]:
    config = write_kubeconfig(folder / "controllers.kubeconfig", access)
    (port,) = _free_ports(1)
    return [
        f"--kubeconfig={config}", f"--controllers={','.join(CONTROLLERS)}", "--leader-elect=false",
        f"--secure-port={port}", "--bind-address=127.0.0.1", f"--cert-dir={folder / 'controller-certificates'}",
        f"--service-account-private-key-file={folder / 'certificates' / 'service-account.key'}",
    ]  # fmt: skip


@contextmanager
def _running(program: Path, arguments: list[str], folder: Path) -> Iterator[_Program]:
    with (folder / f"{program.name}.log").open("wb") as log:
        process = subprocess.Popen([str(program), *arguments], stdout=log, stderr=log, env=_environment(folder))
        try:
            yield _Program(program.name, process, Path(log.name))
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class _Program:
    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name, self.process, self.log = name, process, log

    def failure(self, what: str) -> NotStartedError:
        return NotStartedError(f"{self.name} {what}:\n" + self.log.read_text(errors="replace")[-2000:])


def _environment(folder: Path) -> Mapping[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder)}


def _wait_ready(url: str, access: ClientAccess, program: _Program) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if program.process.poll() is not None:
            raise program.failure("ended")
        if _answers(url, access):
            return
        try:
            program.process.wait(POLL_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    raise program.failure("did not become ready")


def _answers(url: str, access: ClientAccess) -> bool:
    if access.certificate and not Path(access.certificate).exists():
        return False
    headers = {"authorization": f"Bearer {access.token}"} if access.token else {}
    verify = ssl.create_default_context(cafile=access.certificate) if access.certificate else False
    try:
        return httpx.get(url, headers=headers, verify=verify, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
