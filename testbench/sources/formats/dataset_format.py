"""What a format of datasets is: how its files are known, and a reader that makes rows or an experiment of one.

    DatasetFile -> DatasetFormat.read -> Table of Rows, or the document of an experiment

Each module of this package declares one `DatasetFormat` (or more); `testbench.sources.formats.registry` lists them.
`testbench.sources.columns` turns rows into steps, and says with `row_fault` what is wrong with one of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, TextIO

from testbench.errors import InputError

INPUT_COLUMNS: Final = ("user_input", "input")
"""The names of the one column that every dataset has; the first of them that is there counts."""
BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class DatasetFile:
    """A dataset that can be read and sought in, open for as long as `testbench.sources.download.open_dataset` holds it.

    `origin` is for messages and holds no secret; `names` are the file names that it goes by, the user's first.
    """

    content: BinaryIO
    origin: str
    names: tuple[str, ...]
    media_type: str | None = None

    def text(self, *, newline: str | None = None) -> TextIO:
        """Return the content as UTF-8 text from its beginning, without a byte order mark.

        Not to be mixed with reads from `content`.
        """
        text = open(self.content.fileno(), encoding="utf-8-sig", newline=newline, closefd=False)  # noqa: SIM115
        text.seek(0)
        return text


@dataclass(frozen=True)
class Row:
    """One row. `number` counts data rows from 1; `line` is where it begins in the file, if the file has lines."""

    number: int
    values: Mapping[str, Any]
    line: int | None = None


@dataclass(frozen=True)
class Table:
    """The rows of a dataset, read as they are asked for.

    `columns` is None where every row brings its own keys. `cells_are_text` is true of a format that knows no other
    type, so that a list arrives as text.
    """

    origin: str
    rows: Iterator[Row]
    columns: tuple[str, ...] | None = None
    cells_are_text: bool = False


ExperimentDocument = dict[str, Any]
"""An experiment as it stands in its file, not yet validated."""


def _recognize_nothing(start: bytes) -> bool:
    return False


@dataclass(frozen=True)
class DatasetFormat:
    """A format that Testbench reads.

    `suffixes` (with their dot) and `media_types` are in lower case. `magic` are first bytes that are certain, whatever
    name and media type say. `recognize` is asked about the beginning of a file, white space left out, where name and
    media type say nothing. `variants` go by the same names: the first one that recognizes the beginning is meant.

    `read` may raise an InputError: the file is broken, or holds neither rows nor an experiment; also from the rows.
    """

    name: str
    read: Callable[[DatasetFile], Table | ExperimentDocument]
    suffixes: tuple[str, ...]
    media_types: tuple[str, ...]
    magic: bytes | None = None
    recognize: Callable[[bytes], bool] = _recognize_nothing
    variants: tuple[DatasetFormat, ...] = ()


def check_header(origin: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return the columns of a header; one without a name stays empty, and is left out by the reader.

    Raises:
        InputError: two columns have the same name, so that one would hide the other.
    """
    columns = tuple(name.strip() for name in names)
    repeated = [name for name, times in Counter(columns).items() if name and times > 1]
    if repeated:
        raise InputError(
            f"{origin}: more than one column is named {repeated[0]!r}", hint="Rename or remove one of them."
        )
    return columns


class CellError(ValueError):
    """A value that cannot be what its column says; `row_fault` adds the place."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def row_fault(origin: str, row: Row, error: CellError, column: str | None = None) -> InputError:
    """Return the error that a user sees: file, row, line and column, what is wrong, and what to do."""
    line = f" (line {row.line})" if row.line is not None else ""
    where = f", column {column!r}" if column is not None else ""
    return InputError(f"{origin}: row {row.number}{line}{where}: {error.message}", hint=error.hint)
