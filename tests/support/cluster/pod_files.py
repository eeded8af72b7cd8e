"""A pod's folders on this machine: its volumes, and what its paths and environment become there.

There are no mount namespaces: every mount path that stands in a command, an argument or an environment variable is
replaced by the folder of its volume, and so are the node's paths (what the image would have, such as `/app`). A path
that a program has built in and that nobody passes to it cannot be replaced.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.cluster.objects import Json

VARIABLE: Final = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")
_MAP_KEY: Final = re.compile(r"^metadata\.(labels|annotations)\['(.+)'\]$")


class NotReadyError(Exception):
    """Something that the pod needs does not exist yet: it waits, as it would with a real kubelet."""


@dataclass(frozen=True)
class Node:
    """Where the kubelet keeps things. `find` gets an object (plural, namespace, name) or None.

    `paths` says where absolute paths of the image are on this machine; paths below `host` are left as they are, though
    a mount path is a prefix of them. `environment` is what every container gets.
    """

    folder: Path
    find: Callable[[str, str, str], Json | None]
    paths: Mapping[str, Path]
    host: tuple[Path, ...]
    environment: Mapping[str, str]

    def pod_folder(self, pod: Json) -> Path:
        return self.folder / "pods" / str(pod["metadata"]["uid"])

    def claim_folder(self, namespace: str, claim: str) -> Path:
        """The files of a PersistentVolumeClaim: one folder for all pods that use it."""
        return self.folder / "claims" / namespace / claim


def prepare(node: Node, pod: Json) -> Mapping[str, Path]:
    """Write the pod's volumes, or write them anew where a ConfigMap or a Secret has changed; volume to folder."""
    namespace = pod["metadata"]["namespace"]
    folders: dict[str, Path] = {}
    for volume in pod["spec"].get("volumes", ()):
        folder = node.pod_folder(pod) / "volumes" / volume["name"]
        if claim := volume.get("persistentVolumeClaim"):
            if node.find("persistentvolumeclaims", namespace, claim["claimName"]) is None:
                raise NotReadyError(f'persistentvolumeclaim "{claim["claimName"]}" not found')
            folder = node.claim_folder(namespace, claim["claimName"])
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in _files(node, pod, volume).items():
            _write(folder / path, content)
        folders[volume["name"]] = folder
    return folders


def _files(node: Node, pod: Json, volume: Json) -> dict[str, bytes]:
    namespace = pod["metadata"]["namespace"]
    out: dict[str, bytes] = {}
    for source in [volume, *(volume.get("projected", {}).get("sources") or ())]:
        if found := source.get("configMap"):
            out |= _chosen(node, "configmaps", namespace, found, found.get("name", ""))
        if found := source.get("secret"):
            out |= _chosen(node, "secrets", namespace, found, found.get("secretName") or found.get("name", ""))
        for item in source.get("downwardAPI", {}).get("items", ()):
            out[item["path"]] = field_of(pod, item["fieldRef"]["fieldPath"]).encode()
        if found := source.get("serviceAccountToken"):
            out[found["path"]] = b"no-token-in-tests"
    return out


def _chosen(node: Node, plural: str, namespace: str, source: Json, name: str) -> dict[str, bytes]:
    obj = node.find(plural, namespace, name)
    if obj is None:
        if source.get("optional"):
            return {}
        raise NotReadyError(f'{plural[:-1]} "{name}" not found')
    values = values_of(obj)
    if "items" not in source:
        return values
    missing = [item["key"] for item in source["items"] if item["key"] not in values]
    if missing and not source.get("optional"):
        raise NotReadyError(f'{plural[:-1]} "{name}" has no key {missing[0]!r}')
    return {item["path"]: values[item["key"]] for item in source["items"] if item["key"] in values}


def values_of(obj: Json) -> dict[str, bytes]:
    """The contents of a ConfigMap or a Secret."""
    coded = obj.get("data", {}) if obj["kind"] == "Secret" else obj.get("binaryData", {})
    plain = {} if obj["kind"] == "Secret" else obj.get("data", {})
    return {name: base64.b64decode(value) for name, value in coded.items()} | {
        name: value.encode() for name, value in plain.items()
    }


def field_of(pod: Json, path: str) -> str:
    """What a `fieldRef` reads."""
    if found := _MAP_KEY.match(path):
        return str(pod["metadata"].get(found[1], {}).get(found[2], ""))
    value: object = pod
    for part in path.split("."):
        value = value.get(part, "") if isinstance(value, dict) else ""
    if isinstance(value, dict):
        return "\n".join(f'{name}="{item}"' for name, item in sorted(value.items()))
    return str(value)


def environment_of(node: Node, pod: Json, container: Json) -> dict[str, str]:
    """A container's own variables, before paths are replaced."""
    namespace = pod["metadata"]["namespace"]
    out: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        for kind, plural in (("configMapRef", "configmaps"), ("secretRef", "secrets")):
            if kind in source:
                values = _chosen(node, plural, namespace, source[kind], source[kind]["name"])
                out |= {source.get("prefix", "") + name: value.decode() for name, value in values.items()}
    for variable in container.get("env", ()):
        value = _value(node, pod, variable)
        if value is not None:
            out[variable["name"]] = expanded(value, out)
    return out


def _value(node: Node, pod: Json, variable: Json) -> str | None:
    source = variable.get("valueFrom")
    if not source:
        return str(variable.get("value", ""))
    if "fieldRef" in source:
        return field_of(pod, source["fieldRef"]["fieldPath"])
    for kind, plural in (("configMapKeyRef", "configmaps"), ("secretKeyRef", "secrets")):
        if kind in source:
            asked = source[kind]
            items = asked | {"items": [{"key": asked["key"], "path": "value"}]}
            values = _chosen(node, plural, pod["metadata"]["namespace"], items, asked["name"])
            return values["value"].decode() if values else None
    raise NotReadyError(f"variable {variable['name']}: this kubelet does not know {sorted(source)}")


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """`$(NAME)` replaced by the variable; a name that nobody set stays as it is."""
    return VARIABLE.sub(lambda found: variables.get(found[1], found[0]), text)


def mounts(node: Node, pod: Json, container: Json, folders: Mapping[str, Path]) -> dict[str, Path]:
    """Mount path to folder, the node's paths and the container's termination message among them."""
    out = dict(node.paths)
    for mount in container.get("volumeMounts", ()):
        folder = folders[mount["name"]]
        if mount.get("subPath"):
            folder = folder / mount["subPath"]
            if not folder.exists():
                folder.mkdir(parents=True)
        out[mount["mountPath"].rstrip("/")] = folder
    out[container.get("terminationMessagePath", "/dev/termination-log")] = message_file(node, pod, container)
    return out


def message_file(node: Node, pod: Json, container: Json) -> Path:
    return node.pod_folder(pod) / f"{container['name']}.termination"


def rewriter(mounted: Mapping[str, Path], host: tuple[Path, ...]) -> Callable[[str], str]:
    """Replaces whole path prefixes in a text, longest first, in one pass."""
    known = {str(path): str(path) for path in host} | {path: str(folder) for path, folder in mounted.items()}
    choice = "|".join(re.escape(path) for path in sorted(known, key=len, reverse=True))
    pattern = re.compile(rf"(?<![\w.\-/])({choice})(?![\w.\-])")
    return lambda text: pattern.sub(lambda found: known[found[1]], text) if known else text


def _write(path: Path, content: bytes) -> None:
    if path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(content)
    fresh.replace(path)
