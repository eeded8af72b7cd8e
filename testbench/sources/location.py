"""Where a dataset lies: an address as a user writes it, and the kind of place that it names.

`parse_location` is the way in, `testbench.sources.download` goes there. `shown` is what messages and logs say: without
user, password and query string, since any of them may be a secret.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from testbench.errors import InputError
from testbench.safe_text import redact_url

KNOWN: Final = "http://, https://, s3://bucket/key, file:///path, or a path"

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")


@dataclass(frozen=True)
class HttpLocation:
    """A file on a web server; `url` may carry credentials or a signature."""

    url: str

    @property
    def shown(self) -> str:
        """The URL without its secrets."""
        return redact_url(self.url)

    @property
    def name(self) -> str:
        """The last part of the path, decoded; the query string plays no part."""
        return file_name(self.url)


@dataclass(frozen=True)
class ObjectLocation:
    """An object in a store that speaks S3. The key is taken literally: nothing in it is decoded."""

    bucket: str
    key: str

    @property
    def shown(self) -> str:
        """The address as a user writes it; it holds no secret."""
        return f"s3://{self.bucket}/{self.key}"

    @property
    def name(self) -> str:
        """The last part of the key."""
        return PurePosixPath(self.key).name


@dataclass(frozen=True)
class FileLocation:
    """A file on this machine."""

    path: Path

    @property
    def shown(self) -> str:
        """The path as it was given."""
        return str(self.path)

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name


Location = HttpLocation | ObjectLocation | FileLocation


def parse_location(text: str) -> Location:
    """Return the place that `text` names.

    Raises:
        InputError: it names none, or one of an unknown kind.
    """
    text = text.strip()
    if not text or "\0" in text:
        raise InputError("the dataset's address is empty or holds a NUL character", hint=f"Give {KNOWN}.")
    scheme = _SCHEME.match(text)
    if scheme is None:
        return FileLocation(Path(text))
    match scheme[1].lower():
        case "http" | "https":
            return _http_location(text)
        case "s3":
            return _object_location(text[scheme.end() :])
        case "file":
            return _file_location(text)
        case other:
            raise InputError(f"datasets cannot be read from {other}:// addresses", hint=f"Give {KNOWN}.")


def file_name(url: str) -> str:
    """Return the last part of a URL's path, decoded."""
    return PurePosixPath(unquote(urlsplit(url).path)).name


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # reading it is what checks it
    except ValueError:
        return None
    return parts


def _http_location(url: str) -> HttpLocation:
    parts = _split(url)
    # the URL is not quoted in the message: it could not be told what of it is a password
    if parts is None or not parts.hostname:
        raise InputError("the dataset's URL names no valid host and port", hint="Write https://host[:port]/path.")
    return HttpLocation(url)


def _object_location(rest: str) -> ObjectLocation:
    bucket, _, key = rest.partition("/")
    if "@" in bucket or ":" in bucket:
        raise InputError(
            "an s3:// address takes no credentials and no host",
            hint="Write s3://bucket/key; credentials and endpoint come from AWS_* or MINIO_* variables.",
        )
    if not _BUCKET.fullmatch(bucket) or not key or key.endswith("/"):
        raise InputError(f"s3://{rest} does not name one object", hint="Write s3://bucket/path/to/dataset.csv.")
    return ObjectLocation(bucket, key)


def _file_location(url: str) -> FileLocation:
    parts = _split(url)
    if parts is None or parts.netloc not in ("", "localhost") or not parts.path.strip("/"):
        raise InputError(
            "a file:// address names a file of this machine by its whole path", hint="Write file:///path/dataset.csv."
        )
    return FileLocation(Path(unquote(parts.path)))
