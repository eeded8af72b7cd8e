"""Datasets from a web server: streamed, redirected, cut off, refused; secrets are never shown."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import pytest

from testbench.errors import InputError, StoreError, TestbenchError
from testbench.schema.models import Experiment
from testbench.sources.dataset import SetupOptions, load_experiment
from testbench.sources.download import download_url
from testbench.sources.location import HttpLocation, parse_location
from tests.support.servers.static_files import StaticFiles
from tests.support.setup_phase import parquet_of, steps_of

CSV = "user_input\nfirst\nsecond\n"
ROWS = json.dumps([{"user_input": "first"}, {"user_input": "second"}])


def fetched(url: str) -> Experiment:
    return load_experiment(parse_location(url), SetupOptions(), {})


def inputs(url: str) -> list[str]:
    return [step.input for step in steps_of(fetched(url))]


def refused(url: str) -> TestbenchError:
    with pytest.raises(TestbenchError) as caught:
        fetched(url)
    return caught.value


def test_the_format_is_that_of_type_and_suffix_whatever_the_query_says(files: StaticFiles) -> None:
    files.add("rows.csv", CSV, content_type="application/octet-stream")
    files.add("export", ROWS, content_type="application/json; charset=utf-8")
    files.add("untyped.jsonl", '{"user_input": "first"}\n{"user_input": "second"}', content_type=None)
    assert inputs(files.url("rows.csv", signature="x.json")) == ["first", "second"]
    assert inputs(files.url("export", format="rows.csv")) == ["first", "second"]
    assert inputs(files.url("untyped.jsonl")) == ["first", "second"]


def test_a_format_that_needs_seeking_is_read_from_the_web(files: StaticFiles, tmp_path: Path) -> None:
    content = parquet_of(tmp_path, [{"user_input": "first", "retrieved_contexts": ["a", "b"]}]).read_bytes()
    (step,) = steps_of(fetched(files.add("rows.parquet", content)))
    assert step.custom_values == {"retrieved_contexts": ["a", "b"]}


def test_redirects_are_followed_and_may_name_the_format(files: StaticFiles) -> None:
    files.add("real.csv", CSV, content_type=None)
    assert inputs(files.add_redirect("latest", files.url("real.csv", sig="1"), status=307)) == ["first", "second"]


def test_credentials_in_the_url_are_sent_and_not_shown(files: StaticFiles) -> None:
    url = files.url("none.csv", token="t0ken").replace("http://", "http://ann:s3cret@")
    error = refused(url)
    assert files.requests[-1].headers["authorization"].startswith("Basic ")
    assert files.url("none.csv") in error.message
    assert "s3cret" not in error.message
    assert "t0ken" not in error.message


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (404, InputError, "no such file"),
        (410, InputError, "no such file"),
        (401, StoreError, "denied"),
        (403, StoreError, "denied"),
        (429, StoreError, "429"),
        (500, StoreError, "500"),
        (503, StoreError, "503"),
        (304, StoreError, "304"),
    ],
)
def test_a_refusal_says_its_status(files: StaticFiles, status: int, kind: type[TestbenchError], words: str) -> None:
    error = refused(files.add_status("rows.csv", status, body="user_input\nnot a dataset\n"))
    assert type(error) is kind
    assert str(status) in error.message
    assert words in error.message
    assert error.hint


def test_half_a_file_is_no_dataset(files: StaticFiles) -> None:
    error = refused(files.add_cut("rows.csv", CSV, sent=len("user_input\nfirst\n")))
    assert type(error) is StoreError
    assert "broke off" in error.message


def test_a_server_that_hangs_is_given_up(files: StaticFiles) -> None:
    url = files.add("rows.csv", CSV)
    files.hang()
    with pytest.raises(StoreError, match="no answer in time"):
        download_url(HttpLocation(url), BytesIO(), timeout_seconds=0.1)


def test_a_server_that_is_down_is_an_outage(nobody: str) -> None:
    error = refused(f"{nobody}/rows.csv?token=s3cret")
    assert type(error) is StoreError
    assert f"{nobody}/rows.csv: cannot be reached" in error.message


def test_a_host_without_an_address_is_an_outage() -> None:
    assert type(refused("http://data.invalid/rows.csv")) is StoreError


@pytest.mark.parametrize(
    "target",
    ["file:///etc/passwd?sig=s3cret", "ftp://host/rows.csv?sig=s3cret", "http://host:port/rows.csv?sig=s3cret"],
)
def test_a_redirect_leads_to_the_web_only(files: StaticFiles, target: str) -> None:
    error = refused(files.add_redirect("rows.csv", target))
    assert error.exit_code != 0
    assert "s3cret" not in error.message
    assert "passwd" not in error.message


def test_redirects_without_end_are_an_error(files: StaticFiles) -> None:
    assert "redirects without end" in refused(files.add_redirect("rows.csv", files.url("rows.csv"))).message


def test_a_page_is_no_dataset(files: StaticFiles) -> None:
    error = refused(files.add("rows.csv", "<!DOCTYPE html><title>Log in</title>", content_type="text/html"))
    assert type(error) is InputError
    assert "HTML" in error.message


def test_a_fault_in_a_row_names_the_url_without_its_secrets(files: StaticFiles) -> None:
    files.add("rows.csv", "user_input,own\na\n")
    error = refused(files.url("rows.csv", token="s3cret"))
    assert error.message.startswith(f"{files.url('rows.csv')}: row 1 (line 2): has 1 cells")
