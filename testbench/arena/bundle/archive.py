"""Reads a bundle from an archive without unpacking it: members are read one by one, and never written anywhere.

A tar is read as a stream whose length is bounded, so that a small file cannot become a large one. Called by
`testbench.arena.bundle.bundle`.
"""

from __future__ import annotations

import gzip
import io
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Final

from testbench.arena.bundle.bundle import (
    ARENA_SUFFIXES,
    MAX_BYTES,
    MAX_FILES,
    BundleFiles,
    build_refusal,
    build_size_error,
    check_path,
    is_hidden,
)
from testbench.errors import InputError

TAR_SUFFIXES: Final = (".tar.gz", ".tgz", ".tar")
ZIP_SUFFIXES: Final = (".zip",)
SUFFIXES: Final = (*TAR_SUFFIXES, *ZIP_SUFFIXES)
DAMAGED: Final = (
    *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error),
    *(EOFError, NotImplementedError, ValueError),
)
"""What the libraries raise of bytes that are no archive; a name that is not a text is a ValueError."""
_LINK_HINT: Final = "An archive with links can lead anywhere: put the files themselves into it."
_ZIP_DIRECTORY_BYTES: Final = 16 * 1024 * 1024
_ZIP_END: Final = struct.Struct("<4s4H2LH")
"""The record that ends a zip; its sixth field is the length of the directory of members."""
_CHUNK: Final = 64 * 1024
_SPARE: Final = 64 * 1024 * 1024
"""Bytes that headers and left out members of a tar may have beside the files."""


def is_archive(path: Path) -> bool:
    """Return whether a file is an archive, by its name."""
    return path.name.lower().endswith(SUFFIXES)


def read_archive(path: Path) -> BundleFiles:
    """Return the files of an archive.

    Where everything is in one folder that has the arena file, as in an archive of a repository, that folder is the
    bundle.

    Raises:
        InputError: it is not an archive, is damaged, is too large, or holds anything but files and folders inside.
    """
    origin = str(path)
    try:
        members = list(_read_zip(path, origin) if path.name.lower().endswith(ZIP_SUFFIXES) else _read_tar(path, origin))
    except DAMAGED as error:
        fault = f"{origin}: cannot be read as an archive: {error or type(error).__name__}"
        raise InputError(fault, hint="Check that it is complete: .tar.gz, .tgz, .tar or .zip.") from error
    files = BundleFiles(origin)
    top = _find_only_folder([name for name, _ in members])
    for name, content in members:
        files.add(name.removeprefix(top), content)
    return files


def _find_only_folder(names: Iterable[str]) -> str:
    tops = {name.partition("/")[0] for name in names}
    if len(tops) != 1:
        return ""
    (top,) = tops
    inside = [name.partition("/")[2] for name in names]
    has_arena_file = any("/" not in name and name.endswith(ARENA_SUFFIXES) for name in inside)
    return f"{top}/" if all(inside) and has_arena_file else ""


class _MemberReader:
    """Counts what is read of an archive, before it is known what of it stays."""

    def __init__(self, origin: str) -> None:
        self._limits = BundleFiles(origin)
        self._origin = origin
        self._members = 0

    def member(self, name: str) -> str:
        self._members += 1
        if self._members > 4 * MAX_FILES:  # folders and hidden files are members too
            raise build_size_error(self._origin, name)
        return check_path(name.removeprefix("./").rstrip("/"), self._origin)

    def read(self, name: str, file: IO[bytes]) -> bytes:
        content = file.read(self._limits.room() + 1)
        self._limits.add(name, content)
        return content


class _BoundedStream(io.RawIOBase):
    """A stream that ends in an error when it becomes too long. `written` is where its last byte that is not 0 ends."""

    def __init__(self, source: IO[bytes], origin: str) -> None:
        self._source = source
        self._origin = origin
        self.size = self.written = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # a buffer is all that it gets
        content = self._source.read(len(buffer))
        if rest := content.rstrip(b"\0"):
            self.written = self.size + len(rest)
        self.size += len(content)
        if self.size > MAX_BYTES + _SPARE:
            raise build_size_error(self._origin, "(compressed content)")
        buffer[: len(content)] = content
        return len(content)


def _read_tar(path: Path, origin: str) -> Iterator[tuple[str, bytes]]:
    taken = _MemberReader(origin)
    with path.open("rb") as packed:
        source = packed if path.name.lower().endswith(".tar") else gzip.GzipFile(fileobj=packed)
        bounded = _BoundedStream(source, origin)  # type: ignore[arg-type]  # GzipFile reads bytes
        stream = io.BufferedReader(bounded)
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                if member.name in (".", "./"):
                    continue
                name = taken.member(member.name)
                if member.issym() or member.islnk():
                    raise build_refusal(origin, name, "is a link", hint=_LINK_HINT)
                if member.isdir() or is_hidden(name):
                    continue
                if not member.isreg() or member.issparse():
                    raise build_refusal(origin, name, "is not a plain file", hint="Only files can be in a bundle.")
                file = archive.extractfile(member)
                if file is not None:
                    yield name, taken.read(name, file)
        while stream.read(_CHUNK):
            pass
        # the library takes a damaged header, and a file that was cut between two members, for the end
        if bounded.written > archive.offset or bounded.size < archive.offset + tarfile.BLOCKSIZE:
            raise tarfile.ReadError("it is cut or damaged")


def _read_zip(path: Path, origin: str) -> Iterator[tuple[str, bytes]]:
    taken = _MemberReader(origin)
    if path.stat().st_size > MAX_BYTES or _measure_directory(path) > _ZIP_DIRECTORY_BYTES:
        raise build_size_error(origin, path.name)
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            name = taken.member(member.filename)
            mode = member.external_attr >> 16
            if stat.S_ISLNK(mode):
                raise build_refusal(origin, name, "is a link", hint=_LINK_HINT)
            if member.is_dir() or is_hidden(name):
                continue
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                raise build_refusal(origin, name, "is not a plain file", hint="Only files can be in a bundle.")
            if member.flag_bits & 0x1:
                raise build_refusal(origin, name, "is encrypted", hint="Pack it without a password.")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise build_refusal(origin, name, "is compressed in an unusual way", hint="Pack it with deflate.")
            with archive.open(member) as file:
                yield name, taken.read(name, file)


def _measure_directory(path: Path) -> int:
    """Return the length of a zip's directory, which is read into memory as a whole before any limit could be applied.

    It is a large number where it is written in the format for huge archives, and 0 where there is none: not a zip.
    """
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _ZIP_END.size - 0xFFFF - 20))
        tail = file.read()
    end = tail.rfind(b"PK\5\6")
    if end < 0 or len(tail) < end + _ZIP_END.size:
        return 0
    length: int = _ZIP_END.unpack_from(tail, end)[5]
    return MAX_BYTES if b"PK\6\7" in tail[max(0, end - 20) : end] else length
