"""A dataset from an object store that speaks S3 (AWS, MinIO and their like), piece by piece.

Behind `testbench.sources.dataset_file.Download`; `testbench.net.object_store` knows which store and with
whose credentials.
"""

from __future__ import annotations

from typing import BinaryIO

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

from testbench import defaults
from testbench.errors import InputError, StoreError, TestbenchError
from testbench.net.object_store import StoreSettings, open_bucket
from testbench.safe_text import shown_url
from testbench.sources.dataset_file import Delivered
from testbench.sources.location import ObjectLocation

_PIECE_BYTES = 1 << 20


def download_object(
    location: ObjectLocation,
    settings: StoreSettings,
    target: BinaryIO,
    *,
    timeout_seconds: float = defaults.FETCH_TIMEOUT_S,
) -> Delivered:
    """Write the object into `target`.

    Raises:
        InputError: there is no such bucket or key.
        StoreError: the store was not reached, refused, or broke off.
    """
    try:
        reply = obstore.get(open_bucket(location.bucket, settings, timeout_seconds), location.key)
        media_type = reply.attributes.get("Content-Type")
        for piece in reply.stream(min_chunk_size=_PIECE_BYTES):
            target.write(piece)
    except (FileNotFoundError, BaseError, ValueError) as error:
        raise _store_failure(location, settings, error) from error
    return Delivered(media_type)


def _store_failure(location: ObjectLocation, settings: StoreSettings, error: Exception) -> TestbenchError:
    at = shown_url(settings.endpoint) if settings.endpoint else f"AWS ({settings.region})"
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
