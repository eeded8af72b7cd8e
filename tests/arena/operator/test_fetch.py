"""A bundle's archive is fetched whole and unchanged, or not at all, and the pod says why."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbench.arena.bundle.reader import load_bundle
from testbench.arena.operator import fetch
from testbench.arena.operator.pod_messages import RunRefusal, parse_message
from testbench.errors import ExitCode
from tests.support.servers.loopback import nobody_listens
from tests.support.servers.static_files import StaticFiles


@pytest.fixture
def files() -> Iterator[StaticFiles]:
    with StaticFiles() as part:
        yield part


def archive() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as zipped:
        zipped.writestr("scenarios/a.yaml", "name: a")
    return content.getvalue()


def checksum(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def called(folder: Path, url: str, wanted: str) -> tuple[int, str]:
    """The exit code, and what the pod says."""
    message = folder / "message"
    message.touch()
    code = fetch.main([url, wanted, str(folder / "bundle.zip"), str(message)])
    return code, message.read_text()


def test_an_archive_is_fetched_and_is_the_bundle(files: StaticFiles, tmp_path: Path) -> None:
    url = files.add_redirect("old.zip", files.add("b.zip", archive()))
    assert called(tmp_path, url, checksum(archive())) == (0, "")
    assert list(load_bundle(tmp_path / "bundle.zip").files) == ["scenarios/a.yaml"]


@pytest.mark.parametrize("wanted", [checksum(b"other"), "md5:1", "", "sha256:", f"sha256:{'g' * 64}"])
def test_another_checksum_is_a_refusal_that_is_told_and_leaves_nothing(
    files: StaticFiles, tmp_path: Path, wanted: str
) -> None:
    code, said = called(tmp_path, files.add("b.zip", archive()), wanted)
    assert code == ExitCode.BAD_INPUT
    word = parse_message(said)
    assert isinstance(word, RunRefusal)
    assert word.reason == "SourceInvalid"
    assert [path.name for path in tmp_path.iterdir()] == ["message"]


def test_half_an_archive_is_none(files: StaticFiles, tmp_path: Path) -> None:
    code, said = called(tmp_path, files.add_cut("b.zip", archive(), 20), checksum(archive()))
    assert (code, said) == (ExitCode.NOT_DONE, "")
    assert not (tmp_path / "bundle.zip").exists()


def test_what_may_be_there_the_next_time_is_no_refusal(
    files: StaticFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with nobody_listens() as nowhere:
        for url in (files.url("none.zip"), f"{nowhere}/b.zip?token=hunter2"):
            assert called(tmp_path, url, checksum(b"")) == (ExitCode.NOT_DONE, "")
    assert "hunter2" not in capsys.readouterr().err


def test_an_archive_has_a_limit(files: StaticFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "MAX_BYTES", 10)
    code, said = called(tmp_path, files.add("b.zip", archive()), checksum(archive()))
    assert code == ExitCode.BAD_INPUT
    assert "too large" in json.loads(said)["message"]
