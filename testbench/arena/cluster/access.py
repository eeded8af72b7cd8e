"""Finds the API server and the credentials for it: the pod's own service account, or a kubeconfig.

Of a kubeconfig the plain ways are supported: a server, its certificate, a token or a client certificate. A token that
a program has to fetch is not: run `kubectl proxy` and name its address.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from testbench.errors import InputError

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True)
class Access:
    """`token_file` is read for every request: Kubernetes renews it. Without `tls` the address is plain http."""

    url: str
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    def bearer(self) -> str | None:
        """Return the token to send now.

        Raises:
            InputError: its file cannot be read.
        """
        if self.token_file is None:
            return self.token
        try:
            return self.token_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not a token"
            raise InputError(
                f"{self.token_file}: cannot be read: {reason}", hint="The pod needs its service account's token."
            ) from error


def find_access(environment: Mapping[str, str], kubeconfig: Path | None = None, server: str | None = None) -> Access:
    """Return the address that was given, the kubeconfig that was given, the pod's own, or the user's kubeconfig.

    Raises:
        InputError: there is none of them, or it cannot be used.
    """
    if server is not None:
        if not server.startswith(("http://", "https://")):
            raise InputError(f"{server}: not an address", hint="Write it as kubectl proxy does: http://127.0.0.1:8001.")
        return Access(server.rstrip("/"))
    if kubeconfig is None and "KUBERNETES_SERVICE_HOST" in environment:
        return _read_service_account(environment)
    path = kubeconfig or Path(environment.get("KUBECONFIG") or Path.home() / ".kube" / "config")
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        hint = "Run in a cluster, or name a kubeconfig with --kubeconfig."
        raise InputError(f"{path}: cannot be read: {error.strerror}", hint=hint) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid YAML", hint="Name a kubeconfig with --kubeconfig.") from error
    return _read_kubeconfig(content, path)


def _read_service_account(environment: Mapping[str, str]) -> Access:
    host, port = environment["KUBERNETES_SERVICE_HOST"], environment.get("KUBERNETES_SERVICE_PORT", "443")
    address = f"[{host}]" if ":" in host else host
    authority = SERVICE_ACCOUNT / "ca.crt"
    try:
        tls = ssl.create_default_context(cafile=str(authority))
    except OSError as error:
        raise InputError(f"{authority}: cannot be read", hint="The pod needs its service account's token.") from error
    return Access(f"https://{address}:{port}", token_file=SERVICE_ACCOUNT / "token", tls=tls)


def _read_kubeconfig(content: Any, path: Path) -> Access:
    try:
        context = _find_named(content["contexts"], content["current-context"])["context"]
        cluster = _find_named(content["clusters"], context["cluster"])["cluster"]
        user = _find_named(content["users"], context["user"])["user"] or {}
        server = str(cluster["server"]).rstrip("/")
    except (KeyError, TypeError, StopIteration) as error:
        hint = "Choose a context with `kubectl config use-context`."
        raise InputError(f"{path}: names no usable context", hint=hint) from error
    if "exec" in user or "auth-provider" in user:
        hint = "Run `kubectl proxy`, and name its address with --server."
        raise InputError(f"{path}: its user gets a token from another program", hint=hint)
    token_file = Path(user["tokenFile"]) if user.get("tokenFile") else None
    if server.startswith("http://"):
        return Access(server, user.get("token"), token_file)
    try:
        tls = _build_tls(cluster, user, path.parent)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: its certificates cannot be used", hint="Check the files that it names.") from error
    return Access(server, user.get("token"), token_file, tls)


def _find_named(entries: Any, name: str) -> Any:
    return next(entry for entry in entries if entry["name"] == name)


def _build_tls(cluster: Mapping[str, Any], user: Mapping[str, Any], folder: Path) -> ssl.SSLContext:
    authority = _read_certificate(cluster, "certificate-authority", folder)
    tls = ssl.create_default_context(cadata=authority.decode() if authority else None)
    if cluster.get("insecure-skip-tls-verify"):
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    certificate, key = (
        _read_certificate(user, "client-certificate", folder),
        _read_certificate(user, "client-key", folder),
    )
    if certificate and key:
        descriptor, name = tempfile.mkstemp(prefix="client-", suffix=".pem")  # ssl reads files only
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(certificate + b"\n" + key)
            tls.load_cert_chain(name)
        finally:
            Path(name).unlink()
    return tls


def _read_certificate(entry: Mapping[str, Any], key: str, folder: Path) -> bytes | None:
    if entry.get(f"{key}-data"):
        try:
            return base64.b64decode(entry[f"{key}-data"], validate=True)
        except binascii.Error as error:
            raise ValueError(f"{key}-data is not base64") from error
    return (folder / entry[key]).read_bytes() if entry.get(key) else None
