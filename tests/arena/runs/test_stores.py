"""Results are kept whole, once, and in their place, whichever store keeps them."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from testbench.arena.manifest.job import S3Output
from testbench.arena.stores import (
    BucketStore,
    FolderStore,
    MemoryStore,
    ResultStore,
    make_run_id,
    name_run_folder,
    open_bucket_store,
    open_folder_store,
    write_once,
)
from testbench.errors import InputError, StoreError
from testbench.net.object_store import Credentials, StoreSettings, store_settings
from tests.support.servers.loopback import nobody_listens
from tests.support.servers.s3_store import S3Store

KEYS = Credentials("testing", "testing")
NIGHT = datetime(2026, 5, 1, 2, tzinfo=UTC)


@pytest.fixture(params=["folder", "bucket", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ResultStore:
    if request.param == "folder":
        return open_folder_store(tmp_path, "evals/")
    if request.param == "memory":
        return MemoryStore()
    s3: S3Store = request.getfixturevalue("s3")
    s3.make_bucket("results")
    return open_bucket_store(S3Output(bucket="results", prefix="evals/nightly/"), store_settings(s3.environment()))


def test_what_was_created_is_read(store: ResultStore) -> None:
    assert store.create("run/shards/0/part-a.jsonl", b"one\n")
    assert store.read("run/shards/0/part-a.jsonl") == b"one\n"
    assert store.read("run/shards/1/part-a.jsonl") is None


def test_nothing_is_written_twice(store: ResultStore) -> None:
    assert store.create("run/done.json", b"first")
    assert not store.create("run/done.json", b"second")
    assert store.read("run/done.json") == b"first"


def test_of_many_writers_at_once_one_wins(store: ResultStore) -> None:
    def create(number: int) -> bool:
        return store.create("run/plan.json", b"%d" % number)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(create, range(8))) == 1


def test_a_folder_is_listed_at_any_depth(store: ResultStore) -> None:
    for name in ("run/shards/1/part-b", "run/shards/0/part-a", "run/shards/10/part-c", "run/plan.json"):
        store.create(name, b"x")
    assert store.names("run/shards") == ("run/shards/0/part-a", "run/shards/1/part-b", "run/shards/10/part-c")
    assert store.names("run/shards/1") == ("run/shards/1/part-b",)
    assert store.names("elsewhere") == ()


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/./b", "a\\b", "a\nb"])
def test_no_name_leaves_its_place(store: ResultStore, name: str) -> None:
    for use in (lambda: store.create(name, b""), lambda: store.read(name), lambda: store.names(name)):
        with pytest.raises(InputError):
            use()


def test_the_same_content_may_be_written_again_and_another_may_not(store: ResultStore) -> None:
    write_once(store, "run/results.json", b"{}")
    write_once(store, "run/results.json", b"{}")
    with pytest.raises(StoreError, match="another content"):
        write_once(store, "run/results.json", b"[]")


def test_a_prefix_keeps_jobs_apart(s3: S3Store) -> None:
    s3.make_bucket("results")
    around = store_settings(s3.environment())
    open_bucket_store(S3Output(bucket="results", prefix="/a/"), around).create("x", b"")
    open_bucket_store(S3Output(bucket="results"), around).create("x", b"")
    assert s3.keys("results") == ["a/x", "x"]


def test_a_store_that_is_down_is_an_error() -> None:
    with nobody_listens() as origin:
        store = BucketStore("results", StoreSettings("us-east-1", origin, KEYS), timeout_seconds=2)
        with pytest.raises(StoreError, match="cannot be written"):
            store.create("run/plan.json", b"{}")


def test_a_folder_that_cannot_be_written_is_an_error() -> None:
    with pytest.raises(StoreError, match="cannot be written"):
        FolderStore(Path("/dev/null/here")).create("run/plan.json", b"{}")


def test_a_missing_bucket_is_an_error_and_no_empty_run(s3: S3Store) -> None:
    store = open_bucket_store(S3Output(bucket="nowhere"), store_settings(s3.environment()))
    with pytest.raises(StoreError, match="s3://nowhere/run"):
        store.create("run/plan.json", b"{}")
    with pytest.raises(StoreError, match="cannot be listed"):
        store.names("run")


class Refusing(BaseHTTPRequestHandler):
    """A store that answers everything with one status."""

    status = 500

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(self.status)
        self.send_header("content-length", "0")
        self.end_headers()

    do_GET = do_PUT = do_HEAD = answer  # noqa: N815  # the names that http.server calls

    def log_message(self, format: str, *arguments: object) -> None: ...


@pytest.mark.parametrize("status", [400, 403, 409, 500])
def test_a_store_that_refuses_is_an_error_that_says_how(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A 409 included: of two requests that met, perhaps neither was kept."""
    monkeypatch.setattr(Refusing, "status", status)
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        settings = StoreSettings("us-east-1", f"http://127.0.0.1:{server.server_port}", KEYS)
        store = BucketStore("results", settings, timeout_seconds=5)
        for use in (lambda: store.create("run/x", b"1"), lambda: store.read("run/x"), lambda: store.names("run")):
            with pytest.raises(StoreError, match="cannot be") as caught:
                use()
            assert "testing" not in caught.value.message
        assert f"HTTP {status}" in caught.value.message
        server.shutdown()


def test_surrounding_credentials_are_not_sent_to_an_endpoint_of_the_manifest() -> None:
    around = StoreSettings("us-east-1", "http://ours:9000", KEYS)
    foreign = open_bucket_store(S3Output(bucket="b", endpoint="http://theirs:9000"), around)
    assert foreign.settings.credentials is None
    assert open_bucket_store(S3Output(bucket="b"), around).settings.credentials == KEYS
    assert (
        open_bucket_store(S3Output(bucket="b", endpoint="http://theirs:9000"), around, KEYS).settings.credentials
        == KEYS
    )


def test_no_secret_is_shown(s3: S3Store) -> None:
    store = open_bucket_store(S3Output(bucket="b"), StoreSettings("r", s3.endpoint, Credentials("me", "hunter2")))
    assert "hunter2" not in repr(store)
    assert "hunter2" not in store.url("x")


def test_half_a_file_is_never_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def disk_full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(StoreError, match="No space left"):
        FolderStore(tmp_path).create("run/plan.json", b"{}")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_runs_sort_by_time_and_differ_by_job() -> None:
    assert name_run_folder("arena", "nightly", make_run_id(NIGHT, "uid-1")).startswith(
        "arena/nightly/20260501T020000Z-"
    )
    assert make_run_id(NIGHT, "uid-1") != make_run_id(NIGHT, "uid-2")
