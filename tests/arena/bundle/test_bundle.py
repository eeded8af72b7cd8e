"""A bundle: the same revision whatever it came in, and nothing in it that leads outside."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbench.arena.bundle import archive as bundle_archive
from testbench.arena.bundle import bundle as limits
from testbench.arena.bundle.bundle import Bundle, check_path, matches, resolve_reference
from testbench.arena.bundle.reader import load_bundle, read_config_map
from testbench.arena.manifest.resources import ConfigMap
from testbench.errors import InputError, StoreError

FILES = {"config.arena.yaml": b"kind: Arena\n", "scenarios/a.yaml": b"name: a\n", "scenarios/deep/b.json": b"{}"}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def folder(path: Path, files: Mapping[str, bytes] = FILES) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def tar(path: Path, files: Mapping[str, bytes] = FILES, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for member in members:
            archive.addfile(member)
    return path


def member(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def packed(path: Path, files: Mapping[str, bytes] = FILES, mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return path


def config_map(path: Path) -> Path:
    """As Kubernetes mounts one: the files behind a link that is swung to a new folder."""
    real = folder(path / "..2026_11_21_00_00_00.1", {"config.arena.yaml": b"kind: Arena\n", "a.yaml": b"name: a\n"})
    (path / "..data").symlink_to(real.name)
    for name in ("config.arena.yaml", "a.yaml"):
        (path / name).symlink_to(f"..data/{name}")
    return path


def test_a_bundle_is_the_same_whatever_it_came_in(tmp_path: Path) -> None:
    as_folder = load_bundle(folder(tmp_path / "folder"))
    others = [
        load_bundle(tar(tmp_path / "b.tar.gz")),
        load_bundle(tar(tmp_path / "b.tar")),
        load_bundle(packed(tmp_path / "b.zip")),
        load_bundle(tar(tmp_path / "repository.tgz", {f"repo-1.0/{name}": content for name, content in FILES.items()})),
    ]
    assert dict(as_folder.files) == FILES
    assert list(as_folder.files) == sorted(FILES)
    assert {other.revision for other in others} == {as_folder.revision}
    changed = load_bundle(folder(tmp_path / "changed", FILES | {"scenarios/a.yaml": b"name: b\n"}))
    moved = load_bundle(tar(tmp_path / "moved.tar", {f"{name}.yaml": content for name, content in FILES.items()}))
    assert len({as_folder.revision, changed.revision, moved.revision}) == 3


def test_hidden_files_are_no_part_of_a_bundle(tmp_path: Path) -> None:
    plain = load_bundle(folder(tmp_path / "plain"))
    hidden = folder(tmp_path / "hidden", FILES | {".git/HEAD": b"", ".DS_Store": b"x", "scenarios/.cache/x.yaml": b""})
    (hidden / ".env").symlink_to("/etc/passwd")
    assert load_bundle(hidden).revision == plain.revision


def test_a_checkout_knows_its_commit_without_running_git(tmp_path: Path) -> None:
    checkout = folder(tmp_path, FILES | {".git/HEAD": b"ref: refs/heads/main\n", ".git/config": b"[core]\n"})
    assert load_bundle(checkout).commit is None
    (checkout / ".git/packed-refs").write_text(f"# pack-refs\n{COMMIT} refs/heads/main\n")
    assert load_bundle(checkout).commit == COMMIT
    newer = COMMIT[::-1]
    folder(checkout, {".git/refs/heads/main": f"{newer}\n".encode()})
    assert load_bundle(checkout).commit == newer
    (checkout / ".git/HEAD").write_text("ref: refs/../../../secret\n")
    assert load_bundle(checkout).commit is None
    (checkout / ".git/HEAD").write_text(COMMIT)
    assert load_bundle(checkout).commit == COMMIT


def test_a_mounted_config_map_is_a_bundle_and_its_own_links_are_no_others(tmp_path: Path) -> None:
    mounted = config_map(tmp_path)
    assert list(load_bundle(mounted).files) == ["a.yaml", "config.arena.yaml"]
    (mounted / "..data").unlink()
    (mounted / "..data").symlink_to("/etc")
    with pytest.raises(InputError, match="leads outside"):
        load_bundle(mounted)


def test_a_config_map_that_came_with_the_manifest_is_a_bundle() -> None:
    data = {"config.arena.yaml": "kind: Arena\n", "scenarios__a.yaml": "name: a\n"}
    given = ConfigMap.model_validate(
        {"metadata": {"name": "m"}, "data": data, "binaryData": {"b.yaml": "bmFtZTogYgo="}}
    )
    assert list(read_config_map(given).files) == ["b.yaml", "config.arena.yaml", "scenarios/a.yaml"]


@pytest.mark.parametrize("place", ["/etc/passwd", "../outside.yaml", "a.yaml", "nowhere"])
def test_a_link_in_a_folder_is_refused(tmp_path: Path, place: str) -> None:
    bundle = folder(tmp_path / "bundle")
    (bundle / "scenarios" / "link.yaml").symlink_to(place)
    with pytest.raises(InputError, match=r"scenarios/link\.yaml.*is a link"):
        load_bundle(bundle)


def test_a_link_to_a_folder_is_refused(tmp_path: Path) -> None:
    bundle = folder(tmp_path / "bundle")
    (bundle / "more").symlink_to(tmp_path)
    with pytest.raises(InputError, match="'more' is a link"):
        load_bundle(bundle)


def test_the_folder_itself_may_be_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder(tmp_path / "bundle"))
    assert len(load_bundle(tmp_path / "link").files) == 3


def test_a_pipe_is_refused_and_not_read(tmp_path: Path) -> None:
    os.mkfifo(folder(tmp_path) / "scenarios" / "pipe.yaml")
    with pytest.raises(InputError, match="is a device, pipe or socket"):
        load_bundle(tmp_path)


def test_a_folder_that_cannot_be_read_is_no_folder_that_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_place = os.open

    def locked(place: str, *flags: int, **how: int) -> int:
        if place == "scenarios":
            raise PermissionError(13, "Permission denied")
        return open_place(place, *flags, **how)

    folder(tmp_path)
    monkeypatch.setattr(os, "open", locked)
    with pytest.raises(StoreError, match="Permission denied"):
        load_bundle(tmp_path)


def test_a_file_that_becomes_a_link_while_it_is_read_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("secret")
    (folder(tmp_path / "bundle") / "a.yaml").symlink_to(tmp_path / "secret")
    look = os.stat
    monkeypatch.setattr(os, "stat", lambda path, **how: look(path, **(how | {"follow_symlinks": True})))
    with pytest.raises(StoreError):
        load_bundle(tmp_path / "bundle")


EVIL_NAMES = ["/etc/passwd", "../up.yaml", "a/../../up.yaml", "a\\b.yaml", "C:x.yaml", "a//b.yaml", "a\nb.yaml"]


@pytest.mark.parametrize("name", EVIL_NAMES)
def test_a_path_that_leads_outside_is_refused_in_any_archive(tmp_path: Path, name: str) -> None:
    for archive in (tar(tmp_path / "b.tar.gz", {name: b"x"}), packed(tmp_path / "b.zip", {name: b"x"})):
        with pytest.raises(InputError, match="is not a path inside the bundle"):
            load_bundle(archive)


@pytest.mark.parametrize(
    "odd",
    [
        member("l.yaml", tarfile.SYMTYPE, "/etc/passwd"),
        member("l.yaml", tarfile.LNKTYPE, "config.arena.yaml"),
        member("l.yaml", tarfile.CHRTYPE),
        member("l.yaml", tarfile.FIFOTYPE),
        member("l.yaml", tarfile.GNUTYPE_SPARSE),
        member(".hidden", tarfile.SYMTYPE, "/etc"),
    ],
    ids=lambda info: f"{info.name}-{info.type!r}",
)
def test_a_tar_holds_plain_files_only(tmp_path: Path, odd: tarfile.TarInfo) -> None:
    with pytest.raises(InputError, match=r"is a link|is not a plain file"):
        load_bundle(tar(tmp_path / "b.tar.gz", FILES, odd))


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a link"):
        load_bundle(packed(tmp_path / "b.zip", {"l.yaml": b"/etc/passwd"}, stat.S_IFLNK | 0o777))


@pytest.mark.parametrize("make", [tar, packed], ids=["tar", "zip"])
def test_an_archive_cannot_become_larger_than_a_bundle_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[..., Path]
) -> None:
    path = tmp_path / ("b.tar.gz" if make is tar else "b.zip")
    make(path, {f"{number}.yaml": bytes(600_000) for number in range(3)})
    assert path.stat().st_size < 20_000
    assert len(load_bundle(path).files) == 3
    monkeypatch.setattr(limits, "MAX_BYTES", 1_000_000)
    with pytest.raises(InputError, match=r"too large at '1\.yaml'"):
        load_bundle(path)
    monkeypatch.setattr(limits, "MAX_BYTES", 10_000_000)
    monkeypatch.setattr(limits, "MAX_FILE_BYTES", 500_000)
    with pytest.raises(InputError, match=r"too large at '0\.yaml'"):
        load_bundle(path)


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_FILES", 2)
    for path in (folder(tmp_path / "f"), tar(tmp_path / "b.tar"), packed(tmp_path / "b.zip")):
        with pytest.raises(InputError, match="too large"):
            load_bundle(path)


def test_a_folder_without_end_is_not_walked(tmp_path: Path) -> None:
    deep = "/".join("d" * limits.MAX_DEPTH)
    assert len(load_bundle(folder(tmp_path, {f"{deep}/a.yaml": b"x"})).files) == 1
    with pytest.raises(InputError, match="too large"):
        load_bundle(folder(tmp_path, {f"{deep}/d/a.yaml": b"x"}))


def test_a_large_file_in_a_folder_is_not_read_whole(tmp_path: Path) -> None:
    with (folder(tmp_path) / "big.json").open("wb") as file:
        file.truncate(1 << 34)
    with pytest.raises(InputError, match=r"too large at 'big\.json'"):
        load_bundle(tmp_path)


def test_one_path_twice_is_refused(tmp_path: Path) -> None:
    twice = tarfile.TarInfo("config.arena.yaml")
    with pytest.raises(InputError, match="is there twice"):
        load_bundle(tar(tmp_path / "b.tar", FILES, twice))


@pytest.mark.parametrize("content", [b"", b"no archive at all", b"\x1f\x8b\x08broken", b"PK\x05\x06"])
@pytest.mark.parametrize("name", ["b.tar.gz", "b.zip", "b.tar"])
def test_a_damaged_archive_is_bad_input(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_bundle(tmp_path / name)
    assert caught.value.hint


def test_a_cut_archive_is_bad_input(tmp_path: Path) -> None:
    whole = tar(tmp_path / "b.tar.gz", {f"{n}.yaml": os.urandom(5000) for n in range(5)}).read_bytes()
    (tmp_path / "b.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cannot be read as an archive"):
        load_bundle(tmp_path / "b.tar.gz")


@pytest.mark.parametrize("name", ["b.tar", "b.tar.gz"])
def test_a_tar_that_ends_too_early_is_not_a_smaller_bundle(tmp_path: Path, name: str) -> None:
    """Scenarios that are lost on the way would never fail."""
    files = {f"{number}.yaml": b"x" * 100 for number in range(4)}
    whole = tar(tmp_path / "whole.tar", files).read_bytes()
    third = 2 * 1024
    damaged = bytearray(whole)
    damaged[third] ^= 0xFF
    for content in (whole[:third], bytes(damaged), whole[:third] + bytes(512) + whole[third:]):
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        with pytest.raises(InputError, match="is cut or damaged"):
            load_bundle(tmp_path / name)
    (tmp_path / name).write_bytes(gzip.compress(whole) if name.endswith(".gz") else whole)
    assert len(load_bundle(tmp_path / name).files) == 4


def test_a_zip_with_a_password_is_refused(tmp_path: Path) -> None:
    content = bytearray(packed(tmp_path / "b.zip", {"a.yaml": b"x"}).read_bytes())
    content[6] |= 1  # of the member itself
    content[content.index(b"PK\1\2") + 8] |= 1  # and in the directory
    (tmp_path / "b.zip").write_bytes(content)
    with pytest.raises(InputError, match="is encrypted"):
        load_bundle(tmp_path / "b.zip")


def test_a_zip_whose_directory_is_too_large_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_archive, "_ZIP_DIRECTORY_BYTES", 200)
    few = packed(tmp_path / "few.zip", {"a.yaml": b"x"})
    many = packed(tmp_path / "many.zip", {f"{number}.yaml": b"x" for number in range(10)})
    assert len(load_bundle(few).files) == 1
    monkeypatch.setattr(zipfile, "ZipFile", None)
    with pytest.raises(InputError, match=r"too large at 'many\.zip'"):
        load_bundle(many)


def test_a_name_that_is_no_text_is_bad_input(tmp_path: Path) -> None:
    content = packed(tmp_path / "b.zip", {"é.yaml": b"x"}).read_bytes()
    (tmp_path / "b.zip").write_bytes(content.replace("é".encode(), b"\xc3\xc3"))
    with pytest.raises(InputError, match="cannot be read as an archive"):
        load_bundle(tmp_path / "b.zip")


def test_binary_data_that_is_no_base64_is_bad_input() -> None:
    for text in ("!", "é"):
        given = ConfigMap.model_validate({"metadata": {"name": "m"}, "binaryData": {"b.yaml": text}})
        with pytest.raises(InputError, match="is not base64"):
            read_config_map(given)


def test_a_name_is_the_same_however_its_accents_are_written(tmp_path: Path) -> None:
    """A checkout on a Mac, or an archive made there, may have them as characters of their own."""
    composed, decomposed = "caf\u00e9.yaml", "cafe\u0301.yaml"
    one = load_bundle(folder(tmp_path / "one", {composed: b"x"}))
    other = load_bundle(tar(tmp_path / "other.tar.gz", {decomposed: b"x"}))
    assert one.revision == other.revision
    assert resolve_reference("config.arena.yaml", decomposed, one) == composed
    assert matches(composed, decomposed.replace("caf", "*"))
    with pytest.raises(InputError, match="is there twice"):
        load_bundle(tar(tmp_path / "both.tar", {composed: b"x", decomposed: b"x"}))


def test_what_is_no_bundle_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.yaml").write_text("a: 1")
    for name, words in (("empty", "no file"), ("x.yaml", "neither"), ("missing", "no such folder")):
        with pytest.raises(InputError, match=words):
            load_bundle(tmp_path / name)


@pytest.mark.parametrize(
    ("base", "reference", "path"),
    [
        ("config.arena.yaml", "scenarios/a.yaml", "scenarios/a.yaml"),
        ("evals/config.arena.yaml", "../shared/./a.yaml", "shared/a.yaml"),
        ("evals/config.arena.yaml", "../../a.yaml", None),
        ("config.arena.yaml", "/etc/passwd", None),
        ("config.arena.yaml", "a/../../b", None),
    ],
)
def test_a_reference_stays_in_the_bundle(base: str, reference: str, path: str | None) -> None:
    bundle = Bundle("b", {}, "sha256:0")
    if path is not None:
        assert resolve_reference(base, reference, bundle) == path
    else:
        with pytest.raises(InputError, match="leaves the bundle"):
            resolve_reference(base, reference, bundle)


@given(st.text(alphabet="ab./\\:\0 é", max_size=12))
def test_a_safe_path_never_leads_outside(path: str) -> None:
    root = Path("/bundle")
    try:
        safe = check_path(path, "b")
    except InputError:
        return
    inside = Path(os.path.normpath(root / safe))
    assert inside != root
    assert root in inside.parents
