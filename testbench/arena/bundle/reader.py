"""Reads a bundle from a folder, an archive or a ConfigMap; of a checkout it says the commit, without running git."""

from __future__ import annotations

import base64
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from testbench.arena.bundle.bundle import (
    MAX_DEPTH,
    Bundle,
    BundleFiles,
    build_refusal,
    build_size_error,
)
from testbench.arena.manifest.resources import ConfigMap
from testbench.errors import InputError, StoreError

_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REFERENCE: Final = re.compile(r"refs/[A-Za-z0-9._/-]{1,200}")
_MAX_GIT_FILE_BYTES: Final = 4 * 1024 * 1024
CONFIG_MAP_DATA: Final = "..data"
"""The link that Kubernetes swings to a new folder when a mounted ConfigMap changes."""


def find_commit(folder: Path) -> str | None:
    """Return the commit that HEAD names; None where this is not a checkout, or one whose git folder lies elsewhere."""
    git = folder / ".git"
    if git.is_symlink() or not git.is_dir():
        return None
    head = (_read_git_file(git / "HEAD") or "").strip()
    if not head.startswith("ref: "):
        return head if _COMMIT.fullmatch(head) else None
    reference = head.removeprefix("ref: ").strip()
    if not _REFERENCE.fullmatch(reference) or ".." in reference:
        return None
    loose = (_read_git_file(git / reference) or "").strip()
    return loose if _COMMIT.fullmatch(loose) else _find_packed(git, reference)


def _find_packed(git: Path, reference: str) -> str | None:
    for line in (_read_git_file(git / "packed-refs") or "").splitlines():
        commit, _, name = line.partition(" ")
        if name == reference and _COMMIT.fullmatch(commit):
            return commit
    return None


def _read_git_file(path: Path) -> str | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            return file.read(_MAX_GIT_FILE_BYTES).decode("ascii", "replace")
    except OSError:
        return None


def load_bundle(path: Path) -> Bundle:
    """Return the bundle in a folder or an archive (`.tar.gz`, `.tgz`, `.tar`, `.zip`).

    Raises:
        InputError: it is not there, holds something that a bundle cannot hold, or is too large.
        StoreError: it cannot be read.
    """
    from testbench.arena.bundle.archive import is_archive, read_archive

    try:
        if path.is_dir():
            return _read_folder(path).bundle(find_commit(path))
        if path.is_file() and is_archive(path):
            return read_archive(path).bundle()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}", hint="Check its permissions.") from error
    if path.exists():
        hint = "A bundle is a folder, or an archive: .tar.gz, .tgz, .tar or .zip."
        raise InputError(f"{path}: neither a folder nor an archive", hint=hint)
    raise InputError(f"{path}: no such folder or archive", hint="Say with --source where the scenarios are.")


def read_config_map(config_map: ConfigMap) -> Bundle:
    """Return the bundle in a ConfigMap of the manifest; `__` in a key stands for `/`, which a key cannot have.

    Raises:
        InputError: a key is not a path inside the bundle, or binary data is not base64.
    """
    files = BundleFiles(f"ConfigMap {config_map.metadata.name}")
    for key, text in config_map.data.items():
        files.add(key.replace("__", "/"), text.encode())
    for key, encoded in config_map.binary_data.items():
        try:
            content = base64.b64decode(encoded, validate=True)
        except ValueError as error:  # binascii.Error is one; a text with other characters is a plain one
            raise build_refusal(files.origin, key, "is not base64", hint="binaryData holds base64.") from error
        files.add(key.replace("__", "/"), content)
    return files.bundle()


def _read_folder(folder: Path) -> BundleFiles:
    files = BundleFiles(str(folder))
    for path, content in _walk(_find_root(folder.resolve()), files):
        files.add(path, content)
    return files


def _find_root(folder: Path) -> Path:
    """Return the folder itself, or the one that a mounted ConfigMap's `..data` stands for now."""
    data = folder / CONFIG_MAP_DATA
    if not data.is_symlink():
        return folder
    name = data.readlink()
    target = folder / name
    if len(name.parts) != 1 or not name.name.startswith("..") or name.name == ".." or target.is_symlink():
        raise build_refusal(
            str(folder), CONFIG_MAP_DATA, "leads outside", hint="This is not a ConfigMap that Kubernetes mounted."
        )
    return target


def _walk(root: Path, files: BundleFiles) -> Iterator[tuple[str, bytes]]:
    """Yield every file below, opened by its folder's descriptor: not even a link put there meanwhile is followed."""
    for here, folders, names, descriptor in os.fwalk(root, follow_symlinks=False, onerror=_raise):
        inside = PurePosixPath(Path(here).relative_to(root).as_posix())
        if len(inside.parts) > MAX_DEPTH:
            raise build_size_error(files.origin, str(inside))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted([*names, *folders]):
            mode = os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode
            path = str(inside / name)
            if name.startswith(".") or stat.S_ISDIR(mode):
                continue
            if stat.S_ISLNK(mode):
                hint = "A bundle is copied to workers, where a link leads nowhere: put the file itself there."
                raise build_refusal(files.origin, path, "is a link", hint=hint)
            if not stat.S_ISREG(mode):
                raise build_refusal(
                    files.origin, path, "is a device, pipe or socket", hint="Only files can be in a bundle."
                )
            yield path, _read(name, descriptor, path, files)


def _raise(error: OSError) -> None:
    raise error  # a folder that is left out would be scenarios that are left out


def _read(name: str, folder: int, path: str, files: BundleFiles) -> bytes:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, dir_fd=folder), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise build_refusal(files.origin, path, "is not a file", hint="Only files can be in a bundle.")
        content = file.read(files.room() + 1)
    if len(content) > files.room():
        raise build_size_error(files.origin, path)
    return content
