"""The format of a dataset: certain first bytes, then media type, then suffix, then the first characters."""

from __future__ import annotations

from io import BytesIO

import pytest

from testbench.errors import InputError, NothingToDo
from testbench.sources.dataset_file import DatasetFile
from testbench.sources.formats.detection import Format, format_of


def found(content: bytes, *names: str, media_type: str | None = None) -> Format:
    return format_of(DatasetFile(BytesIO(content), "the dataset", names, media_type))


@pytest.mark.parametrize(
    ("content", "name", "media_type", "kind"),
    [
        (b"x", "rows.csv", None, Format.CSV),
        (b"x", "ROWS.CSV", "application/octet-stream", Format.CSV),
        (b"x", "rows.tsv", "text/plain; charset=utf-8", Format.CSV),
        (b"x", "export", "text/csv; charset=utf-8", Format.CSV),
        (b"x", "rows.dat", "Application/JSON", Format.JSON),
        (b"x", "rows.csv", "application/json", Format.JSON),
        (b"x", "export", "application/vnd.acme.rows+json", Format.JSON),
        (b"x", "rows.jsonl", None, Format.JSON_LINES),
        (b"x", "rows.ndjson", "binary/octet-stream", Format.JSON_LINES),
        (b"x", "rows", "application/x-ndjson", Format.JSON_LINES),
        (b'{"a": 1}\n{"a": 2}\n', "rows.json", "application/json", Format.JSON_LINES),
        (b'{"a": 1}\n\n', "rows.json", None, Format.JSON),
        (b'{\n"a": 1}', "rows.json", None, Format.JSON),
        (b"x", "rows.parquet", None, Format.PARQUET),
        (b"x", "rows", "application/vnd.apache.parquet", Format.PARQUET),
        (b"PAR1...", "rows.csv", "text/csv", Format.PARQUET),
        (b"x", "rows.yml", None, Format.YAML),
        (b"x", "rows", "application/yaml", Format.YAML),
        (b"\xef\xbb\xbf [1]", "rows", None, Format.JSON),
        (b'{"a": 1}\n{"a": 2}\n', "rows", None, Format.JSON_LINES),
        (b"id;user_input\r\n1;x", "rows", None, Format.CSV),
        (b'"input"\n1', "rows", None, Format.CSV),
        (b"scenarios:\n- name: x", "rows", None, Format.YAML),
    ],
)
def test_a_format_is_known(content: bytes, name: str, media_type: str | None, kind: Format) -> None:
    assert found(content, name, media_type=media_type) is kind


def test_the_users_name_is_believed_before_that_of_a_redirects_target() -> None:
    assert found(b"x", "rows.csv", "rows.json") is Format.CSV
    assert found(b"x", "latest", "rows.json") is Format.JSON


@pytest.mark.parametrize(
    ("content", "media_type", "words"),
    [
        (b"\xd0\xcf\x11\xe0", "application/vnd.ms-excel", "not known.*ms-excel"),
        (b"question,answer\n", None, "not known"),
        (b"\n<!DOCTYPE html>", "text/html", "HTML"),
        (b"<?xml version='1.0'?>", "text/csv", "XML"),
    ],
)
def test_an_unknown_format_is_an_error_that_names_the_known_ones(
    content: bytes, media_type: str | None, words: str
) -> None:
    with pytest.raises(InputError, match=f"the dataset: .*{words}") as caught:
        found(content, "rows.xls", media_type=media_type)
    assert ".parquet" in caught.value.hint or "browser" in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf\n "])
def test_an_empty_file_is_nothing_to_do(content: bytes) -> None:
    with pytest.raises(NothingToDo):
        found(content, "rows.csv")
