"""The credentials of a job: each belongs to one resource, and none is taken from where two of a kind would share it.

    Provider -> envVar | filePath | a key of its Secret, as a file below DIR/<namespace>_<name>/ or in the manifest
    output.s3.secretRef -> the files below DIR/output/, or the Secret in the manifest

Called by `targets` and `local`. What is asked for and not there is an error: a request without its credential would be
refused later, and look like an outage.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from testbench.arena.manifest.documents import Documents
from testbench.arena.manifest.job import S3Output
from testbench.arena.manifest.resources import Provider, SecretKeyRef
from testbench.errors import InputError
from testbench.net.object_store import Credentials

ACCESS_KEY, SECRET_KEY, SESSION_TOKEN = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"
OUTPUT_FOLDER: Final = "output"
COMMON_KEYS: Final = ("api-key", "apiKey", "api_key", "API_KEY", "OPENAI_API_KEY", "token", "key")
"""Keys of a Secret that are looked for where a reference names none."""


@dataclass(frozen=True)
class CredentialSource:
    """Where credentials may be: a folder of files, the manifest's Secrets, and the environment of the process."""

    documents: Documents
    folder: Path | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)

    def of_provider(self, provider: Provider) -> str | None:
        """The key of a provider, None where it names none.

        Raises:
            InputError: it names one that is not there.
        """
        credential, spec = provider.spec.credential, provider.spec
        whose = f"Provider {provider.metadata.name}"
        ref = (credential.secret_ref if credential else None) or spec.secret_ref
        if ref is not None:
            return self._of_secret(provider, ref, whose)
        if credential is not None and credential.env_var:
            value = self.environment.get(credential.env_var, "").strip()
            if not value:
                raise InputError(f"{whose}: the variable {credential.env_var} is not set", hint="Set it to its key.")
            return value
        if credential is not None and credential.file_path:
            return _content(Path(credential.file_path), whose)
        return None

    def of_output(self, output: S3Output, namespace: str) -> Credentials | None:
        """The credentials of a bucket, None where the manifest names none.

        Raises:
            InputError: it names some that are not there.
        """
        if output.secret_ref is None:
            return None
        folder = self.folder / OUTPUT_FOLDER if self.folder is not None else None
        secret = self.documents.secrets.named(output.secret_ref.name, namespace)
        found = {}
        for key in (ACCESS_KEY, SECRET_KEY, SESSION_TOKEN):
            file = folder / key if folder is not None else None
            if file is not None and file.is_file():
                found[key] = _content(file, "output.s3")
            elif secret is not None and (value := secret.value(key)):
                found[key] = value
        if not (found.get(ACCESS_KEY) and found.get(SECRET_KEY)):
            raise InputError(
                f"output.s3: Secret {output.secret_ref.name} with {ACCESS_KEY} and {SECRET_KEY} is not here",
                hint=f"Put it into the manifest, or its keys as files below --credentials DIR/{OUTPUT_FOLDER}/.",
            )
        return Credentials(found[ACCESS_KEY], found[SECRET_KEY], found.get(SESSION_TOKEN))

    def _of_secret(self, provider: Provider, ref: SecretKeyRef, whose: str) -> str:
        namespace, name = provider.metadata.namespace, provider.metadata.name
        if self.folder is not None:
            mounted = self.folder / f"{namespace}_{name}"
            names = sorted(file.name for file in mounted.iterdir() if file.is_file()) if mounted.is_dir() else []
            key = _chosen(ref.key, provider.spec.type, names)
            if key is not None:
                return _content(mounted / key, whose)
        secret = self.documents.secrets.named(ref.name, namespace)
        key = _chosen(ref.key, provider.spec.type, secret.keys) if secret is not None else None
        value = secret.value(key) if secret is not None and key is not None else None
        if value and value.strip():
            return value.strip()
        missing = f"no Secret {ref.name}" if secret is None else f"Secret {ref.name} has no key {ref.key or 'to take'}"
        place = f"--credentials DIR, as DIR/{namespace}_{name}/{ref.key or '<key>'}"
        raise InputError(f"{whose}: {missing}", hint=f"Put the Secret into the manifest, or its key into {place}.")


def _chosen(wanted: str | None, kind: str, names: Sequence[str]) -> str | None:
    """The key that is asked for; else the one that the provider's type suggests, a common one, or the only one."""
    if wanted is not None:
        return wanted if wanted in names else None
    suggested = (f"{kind.upper()}_API_KEY", *COMMON_KEYS)
    found = next((name for name in suggested if name in names), None)
    return found or (names[0] if len(names) == 1 else None)


def _content(path: Path, whose: str) -> str:
    try:
        value = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{whose}: its credential {path} cannot be read", hint="Check path and permissions."
        ) from error
    if not value:
        raise InputError(f"{whose}: its credential {path} is empty", hint="Write the key into it.")
    return value
