"""A dataset from a web server, piece by piece.

Behind `testbench.sources.dataset_file.Download`. No message repeats what httpx says about a URL: a redirect's target
often carries a signature.
"""

from __future__ import annotations

from typing import BinaryIO

import httpx

from testbench import defaults
from testbench.errors import InputError, StoreError, TestbenchError
from testbench.sources.dataset_file import Delivered
from testbench.sources.location import HttpLocation, file_name

_NOTHING_THERE = (404, 410)
_REFUSED = (401, 403)


def download_url(
    location: HttpLocation, target: BinaryIO, *, timeout_seconds: float = defaults.FETCH_TIMEOUT_S
) -> Delivered:
    """Write what the server answers into `target`; redirects to http and https addresses are followed.

    Raises:
        InputError: the server knows no such file, or the URL cannot be used.
        StoreError: it was not reached, refused, answered anything but success, or broke off.
    """
    try:
        with (
            httpx.Client(follow_redirects=True, timeout=timeout_seconds) as client,
            client.stream("GET", location.url) as response,
        ):
            if not response.is_success:
                raise _refusal(location, response.status_code)
            for piece in response.iter_bytes():
                target.write(piece)
            return Delivered(response.headers.get("content-type"), file_name(str(response.url)))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _http_failure(location, error) from None  # the cause may quote a URL with its secrets


def _refusal(location: HttpLocation, status: int) -> TestbenchError:
    said = f"{location.shown}: the server answered {status}"
    if status in _NOTHING_THERE:
        return InputError(f"{said}: there is no such file", hint="Check the dataset's URL.")
    if status in _REFUSED:
        return StoreError(
            f"{said}: access is denied", hint="Check the credentials in the URL, or whether its signature has expired."
        )
    return StoreError(said, hint="Look at the server's log, or try again later.")


def _http_failure(location: HttpLocation, error: httpx.HTTPError | httpx.InvalidURL) -> TestbenchError:
    place = location.shown
    match error:
        case httpx.TimeoutException():
            return StoreError(f"{place}: no answer in time", hint="Check that the server is up, or try again later.")
        case httpx.UnsupportedProtocol() | httpx.InvalidURL():
            return InputError(
                f"{place}: the address, or one that it redirects to, is no usable http(s) URL",
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
                f"{place}: the answer broke off or is no valid HTTP ({type(error).__name__})",
                hint="Try again; if it stays so, look at the server's log.",
            )
