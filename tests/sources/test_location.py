"""An address is told apart into a web, object or local place; its secrets are never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbench.errors import InputError
from testbench.sources.location import FileLocation, HttpLocation, Location, ObjectLocation, parse_location


@pytest.mark.parametrize(
    ("text", "location", "name"),
    [
        ("https://data.example/a/rows.csv", HttpLocation("https://data.example/a/rows.csv"), "rows.csv"),
        (
            "HTTP://data.example/rows.csv?sig=1.json",
            HttpLocation("HTTP://data.example/rows.csv?sig=1.json"),
            "rows.csv",
        ),
        ("http://[::1]:8000/a%20b.json#x", HttpLocation("http://[::1]:8000/a%20b.json#x"), "a b.json"),
        ("s3://bucket/deep/er/rows.parquet", ObjectLocation("bucket", "deep/er/rows.parquet"), "rows.parquet"),
        ("s3://bucket/100%25?.csv", ObjectLocation("bucket", "100%25?.csv"), "100%25?.csv"),
        ("file:///data/a%20b.csv", FileLocation(Path("/data/a b.csv")), "a b.csv"),
        ("file://localhost/data/rows.csv", FileLocation(Path("/data/rows.csv")), "rows.csv"),
        (" data/rows.csv ", FileLocation(Path("data/rows.csv")), "rows.csv"),
        ("odd:name.csv", FileLocation(Path("odd:name.csv")), "odd:name.csv"),
    ],
)
def test_an_address_names_a_place_and_a_file(text: str, location: Location, name: str) -> None:
    found = parse_location(text)
    assert (found, found.name) == (location, name)


def test_a_url_is_shown_without_user_password_and_query() -> None:
    shown = parse_location("https://ann:s3cret@data.example:8443/rows.csv?X-Amz-Signature=abc#frag").shown
    assert shown == "https://data.example:8443/rows.csv"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("a\0b", "NUL"),
        ("ftp://host/rows.csv", "ftp://"),
        ("http://", "no valid host"),
        ("http://host:port/rows.csv", "no valid host"),
        ("s3://bucket", "one object"),
        ("s3://bucket/folder/", "one object"),
        ("s3:///key", "one object"),
        ("file://other-host/rows.csv", "this machine"),
        ("file://", "this machine"),
    ],
)
def test_an_address_that_names_no_place_is_an_error(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        parse_location(text)
    assert caught.value.hint


@pytest.mark.parametrize(
    "text", ["s3://key:s3cret@bucket/rows.csv", "http://ann:s3cret@host:port/x", "http://a:s3cret@/"]
)
def test_an_unusable_address_is_refused_without_its_secret(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_location(text)
    assert "s3cret" not in caught.value.message + caught.value.hint
