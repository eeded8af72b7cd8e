"""Datasets from an object store, found and opened by the names of AWS and of MinIO."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

import pytest

from testbench.errors import InputError, StoreError, TestbenchError
from testbench.net.object_store import Credentials, StoreSettings, store_settings
from testbench.schema.models import Experiment
from testbench.sources.dataset import SetupOptions, load_experiment
from testbench.sources.download import download_object
from testbench.sources.location import ObjectLocation, parse_location
from tests.support.servers.s3_store import S3Store
from tests.support.servers.static_files import StaticFiles
from tests.support.setup_phase import parquet_of, steps_of

CSV = b"user_input\nfirst\nsecond\n"
KEYS = Credentials("testing", "testing")
OBJECT = {"last-modified": "Thu, 01 Jan 2026 00:00:00 GMT", "etag": '"1"'}


@pytest.fixture(autouse=True)
def no_store_of_a_developer(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("MINIO_"):
            monkeypatch.delenv(name)


def fetched(address: str, environment: dict[str, str]) -> Experiment:
    return load_experiment(parse_location(address), SetupOptions(), environment)


def minio(s3: S3Store) -> dict[str, str]:
    host = s3.endpoint.removeprefix("http://")
    return {"MINIO_ENDPOINT": host, "MINIO_ACCESS_KEY": "testing", "MINIO_SECRET_KEY": "testing"}


@pytest.mark.parametrize("names", ["aws", "minio"])
def test_an_object_is_read_under_either_set_of_names(s3: S3Store, names: str) -> None:
    address = s3.put("datasets", "deep/er/rows 1.csv", CSV)
    environment = s3.environment() if names == "aws" else minio(s3)
    assert [step.input for step in steps_of(fetched(address, environment))] == ["first", "second"]


def test_an_object_that_needs_seeking_is_read(s3: S3Store, tmp_path: Path) -> None:
    content = parquet_of(tmp_path, [{"user_input": f"question {number}"} for number in range(20_000)]).read_bytes()
    assert len(steps_of(fetched(s3.put("datasets", "rows.parquet", content), s3.environment()))) == 20_000


@pytest.mark.parametrize(("credentials", "signed"), [(KEYS, True), (None, False)])
def test_a_request_is_signed_where_there_are_credentials(
    files: StaticFiles, credentials: Credentials | None, signed: bool
) -> None:
    files.add("bucket/export", CSV, "text/csv", headers=OBJECT)
    target = BytesIO()
    settings = StoreSettings("us-east-1", files.origin, credentials)
    assert download_object(ObjectLocation("bucket", "export"), settings, target).media_type == "text/csv"
    assert target.getvalue() == CSV
    assert ("authorization" in files.requests[-1].headers) == signed


@pytest.mark.parametrize("address", ["s3://datasets/none.csv", "s3://nowhere/rows.csv"])
def test_an_object_that_is_not_there_is_bad_input(s3: S3Store, address: str) -> None:
    s3.put("datasets", "rows.csv", CSV)
    with pytest.raises(InputError, match="no such bucket or key") as caught:
        fetched(address, s3.environment())
    assert f"{address} at {s3.endpoint}" in caught.value.message


def test_a_store_that_is_down_is_an_outage(nobody: str) -> None:
    with pytest.raises(StoreError, match=f"at {nobody}: cannot be read"):
        download_object(
            ObjectLocation("b1b", "k"), StoreSettings("us-east-1", nobody, KEYS), BytesIO(), timeout_seconds=1
        )


@pytest.mark.parametrize(("status", "words"), [(403, "denied"), (401, "denied"), (400, "cannot be read")])
def test_a_store_that_refuses_is_not_an_empty_one(files: StaticFiles, status: int, words: str) -> None:
    files.add_status("bucket/rows.csv", status)
    settings = StoreSettings("us-east-1", files.origin, KEYS)
    with pytest.raises(StoreError, match=words):
        download_object(ObjectLocation("bucket", "rows.csv"), settings, BytesIO(), timeout_seconds=1)


def test_a_store_that_hangs_is_given_up(files: StaticFiles) -> None:
    files.hang()
    settings = StoreSettings("us-east-1", files.origin, KEYS)
    with pytest.raises(StoreError, match="cannot be read"):
        download_object(ObjectLocation("bucket", "rows.csv"), settings, BytesIO(), timeout_seconds=0.2)


@pytest.mark.parametrize(
    ("environment", "settings"),
    [
        ({}, StoreSettings("us-east-1")),
        ({"AWS_DEFAULT_REGION": "eu-west-1"}, StoreSettings("eu-west-1")),
        (
            {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t", "AWS_REGION": "r"},
            StoreSettings("r", None, Credentials("k", "s", "t")),
        ),
        (
            {"AWS_ENDPOINT_URL": "http://b:1", "AWS_ENDPOINT_URL_S3": "https://a:1/"},
            StoreSettings("us-east-1", "https://a:1"),
        ),
        (
            {"MINIO_ENDPOINT": "minio:9000", "MINIO_ROOT_USER": "k", "MINIO_ROOT_PASSWORD": "s", "MINIO_REGION": "r"},
            StoreSettings("r", "http://minio:9000", Credentials("k", "s")),
        ),
        ({"MINIO_ENDPOINT": "minio:9000", "MINIO_SECURE": "True"}, StoreSettings("us-east-1", "https://minio:9000")),
        (
            # keys for another service of AWS lie beside a MinIO
            {
                "MINIO_ENDPOINT": "minio:9000",
                "MINIO_ACCESS_KEY": "mine",
                "MINIO_SECRET_KEY": "s",
                "AWS_ACCESS_KEY_ID": "other",
                "AWS_SECRET_ACCESS_KEY": "s",
            },
            StoreSettings("us-east-1", "http://minio:9000", Credentials("mine", "s")),
        ),
        (
            {"MINIO_ENDPOINT": "minio:9000", "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"},
            StoreSettings("us-east-1", "http://minio:9000", Credentials("k", "s")),
        ),
        (
            # half a pair is none
            {"AWS_ACCESS_KEY_ID": "k", "MINIO_ROOT_PASSWORD": "s", "AWS_ENDPOINT_URL": "http://a:1"},
            StoreSettings("us-east-1", "http://a:1"),
        ),
    ],
)
def test_settings_are_found_under_both_sets_of_names(environment: dict[str, str], settings: StoreSettings) -> None:
    assert store_settings(environment) == settings


@pytest.mark.parametrize("endpoint", ["ftp://host", "http://", "http://key:s3cret@host"])
def test_an_endpoint_that_is_none_is_an_error_without_its_secret(endpoint: str) -> None:
    with pytest.raises(InputError, match="endpoint") as caught:
        store_settings({"AWS_ENDPOINT_URL": endpoint})
    assert "s3cret" not in caught.value.message


def test_credentials_are_never_shown() -> None:
    settings = store_settings(
        {"AWS_ACCESS_KEY_ID": "k3y", "AWS_SECRET_ACCESS_KEY": "s3cret", "AWS_SESSION_TOKEN": "t0k"}
    )
    assert not [secret for secret in ("k3y", "s3cret", "t0k") if secret in repr(settings)]


def test_a_wrong_key_is_told_without_the_keys(files: StaticFiles) -> None:
    files.add_status("bucket/rows.csv", 403)
    environment = {"AWS_ENDPOINT_URL": files.origin, "AWS_ACCESS_KEY_ID": "k3y", "AWS_SECRET_ACCESS_KEY": "s3cret"}
    with pytest.raises(TestbenchError) as caught:
        fetched("s3://bucket/rows.csv", environment)
    assert "AWS_ACCESS_KEY_ID" in caught.value.hint
    assert "k3y" not in caught.value.message + caught.value.hint
