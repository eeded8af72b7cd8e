"""Object stores that speak S3 (AWS, MinIO and their like): which one, with whose credentials, and how it is opened.

Used by `testbench.sources.download` to read datasets and by `testbench.arena.stores` to keep results. The settings
are read from the environment in the names of either world:

    endpoint        AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, AWS_ENDPOINT
                    MINIO_ENDPOINT, MINIO_ENDPOINT_URL, MINIO_URL
    access key      AWS_ACCESS_KEY_ID
                    MINIO_ACCESS_KEY, MINIO_ACCESS_KEY_ID, MINIO_ROOT_USER
    secret key      AWS_SECRET_ACCESS_KEY
                    MINIO_SECRET_KEY, MINIO_SECRET_ACCESS_KEY, MINIO_ROOT_PASSWORD
    session token   AWS_SESSION_TOKEN
                    MINIO_SESSION_TOKEN
    region          AWS_REGION, AWS_DEFAULT_REGION
                    MINIO_REGION, MINIO_REGION_NAME

The world that names an endpoint is asked first (AWS where both or none do), and credentials are taken as a pair from
one world. `MINIO_SECURE=true` makes https of an endpoint without a scheme, which is http otherwise. Without credentials
here, AWS's own ways remain (web identity, container and instance roles), and another endpoint is asked unsigned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from testbench import defaults
from testbench.errors import InputError

if TYPE_CHECKING:
    from obstore.store import S3Store


@dataclass(frozen=True)
class _World:
    """The names that one world gives to its settings, the first one that is set wins."""

    endpoint: tuple[str, ...]
    access_key: tuple[str, ...]
    secret_key: tuple[str, ...]
    session_token: tuple[str, ...]
    region: tuple[str, ...]


_AWS = _World(
    endpoint=("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    access_key=("AWS_ACCESS_KEY_ID",),
    secret_key=("AWS_SECRET_ACCESS_KEY",),
    session_token=("AWS_SESSION_TOKEN",),
    region=("AWS_REGION", "AWS_DEFAULT_REGION"),
)
_MINIO = _World(
    endpoint=("MINIO_ENDPOINT", "MINIO_ENDPOINT_URL", "MINIO_URL"),
    access_key=("MINIO_ACCESS_KEY", "MINIO_ACCESS_KEY_ID", "MINIO_ROOT_USER"),
    secret_key=("MINIO_SECRET_KEY", "MINIO_SECRET_ACCESS_KEY", "MINIO_ROOT_PASSWORD"),
    session_token=("MINIO_SESSION_TOKEN",),
    region=("MINIO_REGION", "MINIO_REGION_NAME"),
)


@dataclass(frozen=True)
class Credentials:
    """Who asks; never shown."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class StoreSettings:
    """Which store, and who asks. Without an endpoint it is AWS; the endpoint has a scheme."""

    region: str
    endpoint: str | None = None
    credentials: Credentials | None = None


def store_settings(environment: Mapping[str, str]) -> StoreSettings:
    """Return the settings that the environment names; the module's docstring has the names and their order.

    Raises:
        InputError: the endpoint is not an http(s) address.
    """
    minio_first = _first(environment, _MINIO.endpoint) and not _first(environment, _AWS.endpoint)
    worlds = (_MINIO, _AWS) if minio_first else (_AWS, _MINIO)
    endpoint = _first(environment, (*worlds[0].endpoint, *worlds[1].endpoint))
    credentials = (_credentials(environment, world) for world in worlds)
    return StoreSettings(
        region=_first(environment, (*worlds[0].region, *worlds[1].region)) or defaults.S3_REGION,
        endpoint=_with_scheme(endpoint, environment) if endpoint else None,
        credentials=next((found for found in credentials if found), None),
    )


def open_bucket(bucket: str, settings: StoreSettings, timeout_seconds: float = defaults.FETCH_TIMEOUT_S) -> S3Store:
    """Return a client of one bucket; nothing is asked yet. Every answer may take `timeout_seconds`."""
    from obstore.store import S3Store

    patience = timedelta(seconds=timeout_seconds)
    options: dict[str, object] = {"region": settings.region, "virtual_hosted_style_request": False}
    if settings.endpoint:
        options["endpoint"] = settings.endpoint
    if settings.credentials:
        options["access_key_id"] = settings.credentials.access_key
        options["secret_access_key"] = settings.credentials.secret_key
        if settings.credentials.session_token:
            options["session_token"] = settings.credentials.session_token
    elif settings.endpoint:
        options["skip_signature"] = True
    return S3Store(
        bucket,
        config=options,  # type: ignore[arg-type]  # its keys are checked by obstore itself
        client_options={
            "allow_http": (settings.endpoint or "").startswith("http://"),
            "connect_timeout": patience,
            "read_timeout": patience,
            "timeout": timedelta(seconds=defaults.FETCH_TOTAL_S),
        },
        retry_config={
            "max_retries": defaults.FETCH_RETRIES,
            "retry_timeout": patience,
            "backoff": {
                "init_backoff": timedelta(seconds=defaults.BACKOFF_BASE_S),
                "max_backoff": timedelta(seconds=defaults.BACKOFF_CAP_S),
            },
        },
    )


def _credentials(environment: Mapping[str, str], world: _World) -> Credentials | None:
    access_key, secret_key = _first(environment, world.access_key), _first(environment, world.secret_key)
    if not access_key or not secret_key:
        return None
    return Credentials(access_key, secret_key, _first(environment, world.session_token))


def _with_scheme(endpoint: str, environment: Mapping[str, str]) -> str:
    if "://" not in endpoint:
        secure = environment.get("MINIO_SECURE", "").strip().lower() in ("1", "true", "yes", "on")
        endpoint = f"{'https' if secure else 'http'}://{endpoint}"
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise InputError(
            "the object store's endpoint is not an http(s) address, or carries credentials",
            hint="Write AWS_ENDPOINT_URL (or MINIO_ENDPOINT) as http://host:port.",
        )
    return endpoint.rstrip("/")


def _first(environment: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((environment[name].strip() for name in names if environment.get(name, "").strip()), None)
