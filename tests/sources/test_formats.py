"""The format of a dataset: certain first bytes, then media type, then suffix, then the first characters."""

from __future__ import annotations

from importlib import import_module
from io import BytesIO
from pkgutil import iter_modules

import pytest

from testbench.errors import InputError, NothingToDo
from testbench.sources import formats
from testbench.sources.formats.csv import CSV
from testbench.sources.formats.dataset_format import DatasetFile, DatasetFormat
from testbench.sources.formats.json import JSON, JSON_LINES
from testbench.sources.formats.parquet import PARQUET
from testbench.sources.formats.registry import FORMATS, detect_format
from testbench.sources.formats.yaml import YAML


def found(content: bytes, *names: str, media_type: str | None = None) -> DatasetFormat:
    return detect_format(DatasetFile(BytesIO(content), "the dataset", names, media_type))


@pytest.mark.parametrize(
    ("content", "name", "media_type", "kind"),
    [
        (b"x", "rows.csv", None, CSV),
        (b"x", "ROWS.CSV", "application/octet-stream", CSV),
        (b"x", "rows.tsv", "text/plain; charset=utf-8", CSV),
        (b"x", "export", "text/csv; charset=utf-8", CSV),
        (b"x", "rows.dat", "Application/JSON", JSON),
        (b"x", "rows.csv", "application/json", JSON),
        (b"x", "export", "application/vnd.acme.rows+json", JSON),
        (b"x", "rows.jsonl", None, JSON_LINES),
        (b"x", "rows.ndjson", "binary/octet-stream", JSON_LINES),
        (b"x", "rows", "application/x-ndjson", JSON_LINES),
        (b'{"a": 1}\n{"a": 2}\n', "rows.json", "application/json", JSON_LINES),
        (b'{"a": 1}\n\n', "rows.json", None, JSON),
        (b'{\n"a": 1}', "rows.json", None, JSON),
        (b"x", "rows.parquet", None, PARQUET),
        (b"x", "rows", "application/vnd.apache.parquet", PARQUET),
        (b"PAR1...", "rows.csv", "text/csv", PARQUET),
        (b"x", "rows.yml", None, YAML),
        (b"x", "rows", "application/yaml", YAML),
        (b"\xef\xbb\xbf [1]", "rows", None, JSON),
        (b'{"a": 1}\n{"a": 2}\n', "rows", None, JSON_LINES),
        (b"id;user_input\r\n1;x", "rows", None, CSV),
        (b'"input"\n1', "rows", None, CSV),
        (b"scenarios:\n- name: x", "rows", None, YAML),
    ],
)
def test_a_format_is_known(content: bytes, name: str, media_type: str | None, kind: DatasetFormat) -> None:
    assert found(content, name, media_type=media_type) is kind


def test_the_users_name_is_believed_before_that_of_a_redirects_target() -> None:
    assert found(b"x", "rows.csv", "rows.json") is CSV
    assert found(b"x", "latest", "rows.json") is JSON


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


def test_every_format_of_the_package_is_registered_and_no_name_means_two() -> None:
    modules = [import_module(f"{formats.__name__}.{module.name}") for module in iter_modules(formats.__path__)]
    declared = {one.name for module in modules for one in vars(module).values() if isinstance(one, DatasetFormat)}
    assert declared == {one.name for one in FORMATS}
    names = [name for one in FORMATS for name in (*one.suffixes, *one.media_types)]
    assert len(names) == len(set(names))
