"""From a location to a file that can be read: opened where it lies on this machine, downloaded elsewhere.

Called by `testbench.sources.dataset` and `gate.py`. A download goes piece by piece into a temporary file that never has
a name, so that nothing is left behind whatever ends the process, and memory does not grow with the dataset. The library
of each kind of place is imported where it is used: a run needs one of them at most.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, cast

from testbench import defaults
from testbench.errors import InputError, StoreError, TestbenchError
from testbench.safe_text import redact_url
from testbench.sources.formats.dataset_format import DatasetFile
from testbench.sources.location import FileLocation, HttpLocation, Location, ObjectLocation, file_name

if TYPE_CHECKING:
    import httpx

    from testbench.net.object_store import StoreSettings

_NOTHING_THERE: Final = (404, 410)
_REFUSED: Final = (401, 403)
_PIECE_BYTES: Final = 1 << 20


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


@contextmanager
def open_dataset(location: Location, environment: Mapping[str, str]) -> Iterator[DatasetFile]:
    """Open the dataset at `location` for as long as the block lasts.

    `environment` names the object store and its credentials.

    Raises:
        InputError: there is nothing of that name.
        StoreError: it could not be reached, read or kept.
    """
    if isinstance(location, FileLocation):
        with _open_here(location) as content:
            yield DatasetFile(content, location.shown, (location.name,))
    else:
        with _temporary_file() as content:
            delivered = _fill(content, _choose_download(location, environment))
            yield DatasetFile(content, location.shown, (location.name, delivered.name), delivered.media_type)


def _choose_download(location: HttpLocation | ObjectLocation, environment: Mapping[str, str]) -> Download:
    if isinstance(location, HttpLocation):
        return partial(download_url, location)
    from testbench.net.object_store import store_settings

    return partial(download_object, location, store_settings(environment))


@contextmanager
def _open_here(location: FileLocation) -> Iterator[BinaryIO]:
    try:
        file = location.path.open("rb")
    except FileNotFoundError as error:
        raise InputError(f"{location.shown}: no such file", hint="Check the dataset's path.") from error
    except IsADirectoryError as error:
        raise InputError(f"{location.shown}: is a folder", hint="Give the path of one file.") from error
    except OSError as error:
        reason = error.strerror or error
        raise StoreError(f"{location.shown}: cannot be read: {reason}", hint="Check its permissions.") from error
    with file:
        if file.seekable():
            yield file
        else:
            with _temporary_file() as copy:
                _fill(copy, partial(_copy, file))
                yield copy


def _copy(source: BinaryIO, target: BinaryIO) -> Delivered:
    shutil.copyfileobj(source, target)
    return Delivered()


def _temporary_file() -> BinaryIO:
    try:
        return cast(BinaryIO, tempfile.TemporaryFile())
    except OSError as error:
        raise _no_room_error(error) from error


def _fill(content: BinaryIO, download: Download) -> Delivered:
    try:
        delivered = download(content)
        content.seek(0)
    except OSError as error:
        raise _no_room_error(error) from error
    return delivered


def _no_room_error(error: OSError) -> StoreError:
    return StoreError(
        f"the dataset could not be kept in a temporary file: {error.strerror or error}",
        hint="Check free space, or name another folder in TMPDIR.",
    )


# --- a web server ----------------------------------------------------------------------------------------------------


def download_url(
    location: HttpLocation, target: BinaryIO, *, timeout_seconds: float = defaults.FETCH_TIMEOUT_S
) -> Delivered:
    """Write what the server answers into `target`; redirects to http and https addresses are followed.

    No message repeats what httpx says about a URL: a redirect's target often carries a signature.

    Raises:
        InputError: the server knows no such file, or the URL cannot be used.
        StoreError: it was not reached, refused, answered anything but success, or broke off.
    """
    import httpx

    try:
        with (
            httpx.Client(follow_redirects=True, timeout=timeout_seconds) as client,
            client.stream("GET", location.url) as response,
        ):
            if not response.is_success:
                raise _status_error(location, response.status_code)
            for piece in response.iter_bytes():
                target.write(piece)
            return Delivered(response.headers.get("content-type"), file_name(str(response.url)))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _http_error(location, error) from None  # the cause may quote a URL with its secrets


def _status_error(location: HttpLocation, status: int) -> TestbenchError:
    said = f"{location.shown}: the server answered {status}"
    if status in _NOTHING_THERE:
        return InputError(f"{said}: there is no such file", hint="Check the dataset's URL.")
    if status in _REFUSED:
        return StoreError(
            f"{said}: access is denied", hint="Check the credentials in the URL, or whether its signature has expired."
        )
    return StoreError(said, hint="Look at the server's log, or try again later.")


def _http_error(location: HttpLocation, error: httpx.HTTPError | httpx.InvalidURL) -> TestbenchError:
    import httpx

    place = location.shown
    match error:
        case httpx.TimeoutException():
            return StoreError(f"{place}: no answer in time", hint="Check that the server is up, or try again later.")
        case httpx.UnsupportedProtocol() | httpx.InvalidURL():
            return InputError(
                f"{place}: the address, or one that it redirects to, is not a usable http(s) URL",
                hint="Give the final address of the file.",
            )
        case httpx.TooManyRedirects():
            return InputError(f"{place}: redirects without end", hint="Give the final address of the file.")
        case httpx.ConnectError() | httpx.ProxyError():
            return StoreError(
                f"{place}: cannot be reached: {error}", hint="Check host and port, and that the server is up."
            )
        case _:
            return StoreError(
                f"{place}: the answer broke off or is not valid HTTP ({type(error).__name__})",
                hint="Try again; if it stays so, look at the server's log.",
            )


# --- an object store -------------------------------------------------------------------------------------------------


def download_object(
    location: ObjectLocation,
    settings: StoreSettings,
    target: BinaryIO,
    *,
    timeout_seconds: float = defaults.FETCH_TIMEOUT_S,
) -> Delivered:
    """Write the object of a store that speaks S3 (AWS, MinIO and their like) into `target`.

    Raises:
        InputError: there is no such bucket or key.
        StoreError: the store was not reached, refused, or broke off.
    """
    import obstore
    from obstore.exceptions import BaseError

    from testbench.net.object_store import open_bucket

    try:
        reply = obstore.get(open_bucket(location.bucket, settings, timeout_seconds), location.key)
        media_type = reply.attributes.get("Content-Type")
        for piece in reply.stream(min_chunk_size=_PIECE_BYTES):
            target.write(piece)
    except (FileNotFoundError, BaseError, ValueError) as error:
        raise _store_error(location, settings, error) from error
    return Delivered(media_type)


def _store_error(location: ObjectLocation, settings: StoreSettings, error: Exception) -> TestbenchError:
    from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

    at = redact_url(settings.endpoint) if settings.endpoint else f"AWS ({settings.region})"
    place = f"{location.shown} at {at}"
    match error:
        case FileNotFoundError():
            return InputError(
                f"{place}: there is no such bucket or key",
                hint="Check the address, and AWS_ENDPOINT_URL for the store.",
            )
        case PermissionDeniedError() | UnauthenticatedError():
            return StoreError(
                f"{place}: access is denied",
                hint="Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or MINIO_ACCESS_KEY and MINIO_SECRET_KEY).",
            )
        case _:
            return StoreError(
                f"{place}: cannot be read: {type(error).__name__}",
                hint="Check that the store is up, its endpoint (AWS_ENDPOINT_URL or MINIO_ENDPOINT) and its region.",
            )
