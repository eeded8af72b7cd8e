"""The formats of datasets, and which of them a file is in.

A new format is a module of this package that declares it, and its line in `FORMATS`. A file's format is known by its
first bytes where they are certain, else by media type, then by suffix. Query strings play no part, since names come
from a URL's path. Where neither says anything, the first characters decide. Called by `testbench.sources.dataset`.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import BinaryIO, Final

from testbench.errors import InputError, NothingToDo
from testbench.sources.formats.csv import CSV
from testbench.sources.formats.dataset_format import BYTE_ORDER_MARK, DatasetFile, DatasetFormat
from testbench.sources.formats.excel import EXCEL
from testbench.sources.formats.json import JSON, JSON_LINES
from testbench.sources.formats.parquet import PARQUET
from testbench.sources.formats.yaml import YAML

FORMATS: Final[tuple[DatasetFormat, ...]] = (CSV, EXCEL, JSON, JSON_LINES, PARQUET, YAML)

_BY_SUFFIX: Final = {suffix: one for one in FORMATS for suffix in one.suffixes}
_BY_MEDIA_TYPE: Final = {media_type: one for one in FORMATS for media_type in one.media_types}
_HEAD_BYTES: Final = 1 << 20


def detect_format(file: DatasetFile) -> DatasetFormat:
    """Return the format of `file`, which is read from its beginning and wound back.

    Raises:
        InputError: it is in none that is known.
        NothingToDo: it is empty.
    """
    head = _read_head(file.content)
    start = head.removeprefix(BYTE_ORDER_MARK).lstrip()
    if not start:
        raise NothingToDo(f"{file.origin}: is empty", hint="Give a dataset with at least one row.")
    for one in FORMATS:
        if one.magic is not None and head.startswith(one.magic):
            return one
    if start[:1] == b"<":
        raise InputError(
            f"{file.origin}: is an HTML or XML page, not a dataset",
            hint="Open the address in a browser: it may want a login, or be a page about the file.",
        )
    found = _declared_format(file) or next((one for one in FORMATS if one.recognize(start)), None)
    if found is None:
        hint = f"Known are {', '.join(sorted(_BY_SUFFIX))}, and the media types of these formats."
        raise InputError(f"{file.origin}: its format is not known{_quote_media_type(file)}", hint=hint)
    return next((variant for variant in found.variants if variant.recognize(start)), found)


def _declared_format(file: DatasetFile) -> DatasetFormat | None:
    media_type = _bare_media_type(file)
    if media_type.endswith("+json"):
        return JSON
    suffixes = (PurePosixPath(name).suffix.lower() for name in file.names)
    by_suffix = (_BY_SUFFIX[suffix] for suffix in suffixes if suffix in _BY_SUFFIX)
    return _BY_MEDIA_TYPE.get(media_type) or next(by_suffix, None)


def _read_head(content: BinaryIO) -> bytes:
    head = content.read(_HEAD_BYTES)
    content.seek(0)
    return head


def _bare_media_type(file: DatasetFile) -> str:
    return (file.media_type or "").partition(";")[0].strip().lower()


def _quote_media_type(file: DatasetFile) -> str:
    media_type = _bare_media_type(file)
    return f" (the sender calls it {media_type!r})" if media_type else ""
