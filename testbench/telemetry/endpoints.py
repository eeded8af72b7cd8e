"""Where telemetry goes and how, read from the OTEL_EXPORTER_OTLP_* variables as OpenTelemetry's specification says.

A variable of one signal (`OTEL_EXPORTER_OTLP_METRICS_ENDPOINT`) wins over the general one; an empty variable is as
good as none; `/v1/<signal>` is appended to a general endpoint and never to a signal's own. Timeouts are milliseconds,
as specified (the Python SDK takes seconds). Beyond the specification, an endpoint without a scheme means `http://`.

Used by `testbench.telemetry.publication` and `testbench.telemetry.tracing`. An `Endpoint` never shows a secret: neither
its `repr` nor `shown` holds headers, user, password or query.
"""

from __future__ import annotations

import math
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, cast
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from testbench import defaults
from testbench.errors import InputError
from testbench.safe_text import find_secrets, redact_url

Signal = Literal["metrics", "logs", "traces"]
Compression = Literal["none", "gzip", "deflate"]

PREFIX: Final = "OTEL_EXPORTER_OTLP_"
HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")


@dataclass(frozen=True)
class Endpoint:
    """One signal's destination. `headers` and `url` may hold secrets; `shown` is for people."""

    signal: Signal
    url: str = field(repr=False)
    shown: str
    headers: Mapping[str, str] = field(repr=False)
    timeout_s: float
    compression: Compression
    certificate: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None

    def redact(self, text: str) -> str:
        """Return `text`, e.g. a server's answer, without the secrets that were sent to it."""
        for secret in find_secrets(self.url, self.headers.items()):
            text = text.replace(secret, "[redacted]")
        return text

    def check_certificates(self) -> None:
        """Check that the given certificates and key can be read, before anything is sent.

        Raises:
            InputError: one of them cannot.
        """
        if self.certificate is None and self.client_certificate is None:
            return
        at = self.certificate
        try:
            context = ssl.create_default_context(cafile=self.certificate)
            if self.client_certificate is not None:
                at = self.client_certificate
                context.load_cert_chain(self.client_certificate, self.client_key)
        except OSError as error:  # ssl.SSLError is one
            raise InputError(
                f"{at}: no usable certificate or key: {error.strerror or error}",
                hint=f"{PREFIX}CERTIFICATE, {PREFIX}CLIENT_CERTIFICATE and {PREFIX}CLIENT_KEY name PEM files.",
            ) from error


def is_configured(signal: Signal, environ: Mapping[str, str]) -> bool:
    """Return whether the environment names an endpoint for this signal and does not switch the signal off."""
    return not is_switched_off(signal, environ) and bool(_value(signal, "ENDPOINT", environ)[1])


def is_switched_off(signal: Signal, environ: Mapping[str, str]) -> bool:
    """Return whether OTEL_SDK_DISABLED, or the signal's own exporter variable, asks for silence."""
    disabled = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    return disabled or environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").strip().lower() == "none"


def resolve(signal: Signal, environ: Mapping[str, str], *, timeout_s: float | None = None) -> Endpoint:
    """Return the endpoint of a signal; `timeout_s` (seconds) wins over the environment.

    Raises:
        InputError: a variable has a value that cannot be used; its name is shown, a header's value is not.
    """
    _require_protobuf(signal, environ)
    url = _url(signal, environ)
    client_certificate = _path(signal, "CLIENT_CERTIFICATE", environ)
    return Endpoint(
        signal=signal,
        url=url,
        shown=redact_url(url),
        headers=_headers(signal, environ),
        timeout_s=_timeout_s(signal, environ) if timeout_s is None else timeout_s,
        compression=_compression(signal, environ),
        certificate=_path(signal, "CERTIFICATE", environ),
        client_certificate=client_certificate,
        client_key=_path(signal, "CLIENT_KEY", environ) if client_certificate else None,
    )


def _value(signal: Signal, setting: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """The variable that decides, and its value; the general one, empty, where nobody set any."""
    general = PREFIX + setting
    own = f"{PREFIX}{signal.upper()}_{setting}"
    return next(((name, value) for name in (own, general) if (value := environ.get(name, "").strip())), (general, ""))


def _url(signal: Signal, environ: Mapping[str, str]) -> str:
    name, value = _value(signal, "ENDPOINT", environ)
    given = value or defaults.OTLP_ENDPOINT
    given = given if "://" in given else f"http://{given}"
    hint = f"Set {name} to an address like {defaults.OTLP_ENDPOINT}"
    try:
        parts = urlsplit(given)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port is no number, or an IPv6 address has no end
        raise InputError(f"{name} is not an address", hint=hint) from None
    if not usable or any(character.isspace() for character in given):
        raise InputError(f"{name} is not an http or https address: {redact_url(given)}", hint=hint)
    return urlunsplit(parts) if name != f"{PREFIX}ENDPOINT" else _below(parts, f"v1/{signal}")


def _below(parts: SplitResult, path: str) -> str:
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{path}"))


def _headers(signal: Signal, environ: Mapping[str, str]) -> dict[str, str]:
    name, value = _value(signal, "HEADERS", environ)
    headers = {}
    for pair in filter(None, (pair.strip() for pair in value.split(","))):
        key, equals, content = pair.partition("=")
        key, content = unquote(key.strip()).lower(), unquote(content.strip())
        if not equals or not HEADER_NAME.fullmatch(key) or not HEADER_VALUE.fullmatch(content):
            raise InputError(
                f"{name}: a header cannot be read",
                hint="Write key=value,key=value, with a space, comma or other special character percent-encoded.",
            )
        headers[key] = content
    return headers


def _timeout_s(signal: Signal, environ: Mapping[str, str]) -> float:
    name, value = _value(signal, "TIMEOUT", environ)
    if not value:
        return defaults.OTLP_TIMEOUT_S
    try:
        milliseconds = float(value)
    except ValueError:
        milliseconds = math.nan
    if not (milliseconds > 0 and math.isfinite(milliseconds)):
        raise InputError(f"{name} is no time: {value}", hint=f"Give milliseconds, e.g. {name}=10000 for ten seconds.")
    return milliseconds / 1000


def _compression(signal: Signal, environ: Mapping[str, str]) -> Compression:
    name, value = _value(signal, "COMPRESSION", environ)
    word = value.lower() or "none"
    if word not in ("none", "gzip", "deflate"):
        raise InputError(f"{name}: unknown compression: {value}", hint="Use gzip, deflate or none.")
    return cast(Compression, word)


def _path(signal: Signal, setting: str, environ: Mapping[str, str]) -> Path | None:
    name, value = _value(signal, setting, environ)
    if not value:
        return None
    if not Path(value).is_file():
        raise InputError(f"{name}: no such file: {value}", hint="Give the path of a PEM file.")
    return Path(value)


def _require_protobuf(signal: Signal, environ: Mapping[str, str]) -> None:
    name, value = _value(signal, "PROTOCOL", environ)
    if value and value != "http/protobuf":
        raise InputError(
            f"{name} is {value}, and Testbench speaks http/protobuf",
            hint=f"Set {PREFIX}{signal.upper()}_PROTOCOL=http/protobuf and an endpoint for HTTP, usually port 4318.",
        )
