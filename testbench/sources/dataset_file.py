"""A dataset as it lies on this machine, and what fills it: a `Download` writes, and a reader gets a `DatasetFile`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO, Protocol, TextIO


@dataclass(frozen=True)
class Delivered:
    """What the sender said about the bytes: their media type, and the name of the file they really came from."""

    media_type: str | None = None
    name: str = ""


class Download(Protocol):
    """Writes everything that lies at one place into `target`."""

    def __call__(self, target: BinaryIO) -> Delivered:
        """Fill `target`, a piece at a time.

        Raises:
            InputError: there is nothing of that name.
            StoreError: the place could not be reached, refused, or broke off.
        """
        ...


@dataclass(frozen=True)
class DatasetFile:
    """A dataset that can be read and sought in, open for as long as `testbench.sources.download.opened` holds it.

    `origin` is for messages and holds no secret; `names` are the file names that it goes by, the user's first.
    """

    content: BinaryIO
    origin: str
    names: tuple[str, ...]
    media_type: str | None = None

    def text(self, *, newline: str | None = None) -> TextIO:
        """The content as UTF-8 text from its beginning, a byte order mark left out; not to be mixed with `content`."""
        text = open(self.content.fileno(), encoding="utf-8-sig", newline=newline, closefd=False)  # noqa: SIM115
        text.seek(0)
        return text
