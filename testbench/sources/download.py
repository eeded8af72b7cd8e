"""From a location to a file that can be read: opened where it lies on this machine, downloaded elsewhere.

Called by `testbench.sources.dataset`. A download goes piece by piece into a temporary file that never has a name, so
that nothing is left behind whatever ends the process, and memory does not grow with the dataset.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import BinaryIO, cast

from testbench.errors import InputError, StoreError
from testbench.sources.dataset_file import DatasetFile, Delivered, Download
from testbench.sources.location import FileLocation, HttpLocation, Location, ObjectLocation


@contextmanager
def opened(location: Location, environment: Mapping[str, str]) -> Iterator[DatasetFile]:
    """The dataset at `location`; `environment` names the object store and its credentials.

    Raises:
        InputError: there is nothing of that name.
        StoreError: it could not be reached, read or kept.
    """
    if isinstance(location, FileLocation):
        with _local(location) as content:
            yield DatasetFile(content, location.shown, (location.name,))
    else:
        with _temporary() as content:
            delivered = _fill(content, _download_from(location, environment))
            yield DatasetFile(content, location.shown, (location.name, delivered.name), delivered.media_type)


def _download_from(location: HttpLocation | ObjectLocation, environment: Mapping[str, str]) -> Download:
    # imported here: each brings its own library, and a run needs one of them at most
    if isinstance(location, HttpLocation):
        from testbench.sources.http_download import download_url

        return partial(download_url, location)
    from testbench.net.object_store import store_settings
    from testbench.sources.object_store import download_object

    return partial(download_object, location, store_settings(environment))


@contextmanager
def _local(location: FileLocation) -> Iterator[BinaryIO]:
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
            with _temporary() as copy:
                _fill(copy, partial(_copy, file))
                yield copy


def _copy(source: BinaryIO, target: BinaryIO) -> Delivered:
    shutil.copyfileobj(source, target)
    return Delivered()


def _temporary() -> BinaryIO:
    try:
        return cast(BinaryIO, tempfile.TemporaryFile())
    except OSError as error:
        raise _no_room(error) from error


def _fill(content: BinaryIO, download: Download) -> Delivered:
    try:
        delivered = download(content)
        content.seek(0)
    except OSError as error:
        raise _no_room(error) from error
    return delivered


def _no_room(error: OSError) -> StoreError:
    return StoreError(
        f"the dataset could not be kept in a temporary file: {error.strerror or error}",
        hint="Check free space, or name another folder in TMPDIR.",
    )
