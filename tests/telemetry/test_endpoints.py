"""The OTEL_* variables: which one decides, what it means, and that no secret of them is ever shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbench.errors import InputError
from testbench.telemetry.endpoints import Signal, is_configured, is_switched_off, resolve

GENERAL = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.mark.parametrize(
    ("environ", "signal", "url"),
    [
        ({}, "metrics", "http://localhost:4318/v1/metrics"),
        ({GENERAL: ""}, "logs", "http://localhost:4318/v1/logs"),
        ({GENERAL: "http://lgtm:4318"}, "logs", "http://lgtm:4318/v1/logs"),
        ({GENERAL: "http://lgtm:4318/"}, "traces", "http://lgtm:4318/v1/traces"),
        ({GENERAL: "https://otlp.example.com/otlp"}, "metrics", "https://otlp.example.com/otlp/v1/metrics"),
        ({GENERAL: "https://otlp.example.com/otlp?key=1"}, "metrics", "https://otlp.example.com/otlp/v1/metrics?key=1"),
        ({GENERAL: "lgtm:4318"}, "metrics", "http://lgtm:4318/v1/metrics"),
        ({GENERAL: "[::1]:4318"}, "metrics", "http://[::1]:4318/v1/metrics"),
        (
            {GENERAL: "http://one", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://two/api/v1/otlp/v1/metrics"},
            "metrics",
            "http://two/api/v1/otlp/v1/metrics",
        ),
        ({GENERAL: "http://one", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://two"}, "logs", "http://one/v1/logs"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "two:4318/v1/traces"}, "traces", "http://two:4318/v1/traces"),
    ],
)
def test_address(environ: dict[str, str], signal: Signal, url: str) -> None:
    assert resolve(signal, environ).url == url


@pytest.mark.parametrize("value", ["ftp://lgtm", "http://", "http://lgtm:port", "http://[::1", "http://a b", "lgtm:0"])
def test_an_address_that_is_none_names_its_variable(value: str) -> None:
    with pytest.raises(InputError, match=GENERAL):
        resolve("metrics", {GENERAL: value})


def test_headers_are_decoded_and_those_of_the_signal_win() -> None:
    environ = {
        "OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Bearer%20abc, x-scope=a%2Cb,",
        "OTEL_EXPORTER_OTLP_LOGS_HEADERS": "x-other=1",
    }
    assert resolve("metrics", environ).headers == {"authorization": "Bearer abc", "x-scope": "a,b"}
    assert resolve("logs", environ).headers == {"x-other": "1"}


@pytest.mark.parametrize(
    "value", ["hunter2secret", "na me=hunter2secret", "key=hunter2secret%0d%0ax: 1", "=hunter2secret"]
)
def test_a_header_that_cannot_be_read_is_an_error_without_its_value(value: str) -> None:
    with pytest.raises(InputError, match="OTEL_EXPORTER_OTLP_HEADERS") as caught:
        resolve("metrics", {"OTEL_EXPORTER_OTLP_HEADERS": value})
    assert "hunter2" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, 10.0),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "2500"}, 2.5),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "2500", "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT": "500"}, 0.5),
    ],
)
def test_timeouts_are_milliseconds(environ: dict[str, str], seconds: float) -> None:
    assert resolve("metrics", environ).timeout_s == seconds
    assert resolve("metrics", environ, timeout_s=7).timeout_s == 7


@pytest.mark.parametrize("value", ["soon", "-1", "0", "nan", "inf"])
def test_a_time_that_is_none_is_an_error(value: str) -> None:
    with pytest.raises(InputError, match="OTEL_EXPORTER_OTLP_TIMEOUT"):
        resolve("metrics", {"OTEL_EXPORTER_OTLP_TIMEOUT": value})


def test_compression() -> None:
    environ = {"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip", "OTEL_EXPORTER_OTLP_LOGS_COMPRESSION": "none"}
    assert (resolve("metrics", environ).compression, resolve("logs", environ).compression) == ("gzip", "none")
    with pytest.raises(InputError, match="zstd"):
        resolve("metrics", {"OTEL_EXPORTER_OTLP_COMPRESSION": "zstd"})


def test_only_protobuf_over_http_is_spoken() -> None:
    environ = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    with pytest.raises(InputError, match="grpc"):
        resolve("metrics", environ)
    resolve("metrics", environ | {"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/protobuf"})


def test_certificates_must_exist_and_be_certificates(tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    with pytest.raises(InputError, match="OTEL_EXPORTER_OTLP_CERTIFICATE: no such file"):
        resolve("metrics", {"OTEL_EXPORTER_OTLP_CERTIFICATE": str(missing)})
    (tmp_path / "text.pem").write_text("no certificate")
    endpoint = resolve("metrics", {"OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE": str(tmp_path / "text.pem")})
    with pytest.raises(InputError, match=r"text\.pem"):
        endpoint.check_certificates()
    endpoint = resolve("metrics", {"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": str(tmp_path / "text.pem")})
    with pytest.raises(InputError, match=r"text\.pem"):
        endpoint.check_certificates()


def test_no_secret_is_shown() -> None:
    environ = {
        GENERAL: "http://user:hunter2@lgtm:4318/otlp?token=tok3n",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20s3cret",
    }
    endpoint = resolve("metrics", environ)
    shown = f"{endpoint} {endpoint!r} {endpoint.shown}"
    assert not any(secret in shown for secret in ("hunter2", "tok3n", "s3cret"))
    assert endpoint.shown == "http://lgtm:4318/otlp/v1/metrics"
    said = endpoint.redact("no such key: Bearer s3cret, s3cret, hunter2, token=tok3n")
    assert not any(secret in said for secret in ("hunter2", "tok3n", "s3cret"))


def test_an_address_that_is_none_shows_no_password() -> None:
    with pytest.raises(InputError) as caught:
        resolve("metrics", {GENERAL: "ftp://user:hunter2@lgtm"})
    assert "hunter2" not in caught.value.message + caught.value.hint


def test_whether_a_signal_is_wanted() -> None:
    assert not is_configured("traces", {})
    assert is_configured("traces", {GENERAL: "http://lgtm:4318"})
    assert not is_configured("traces", {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://lgtm:4318"})
    assert not is_configured("traces", {GENERAL: "http://lgtm:4318", "OTEL_TRACES_EXPORTER": "none"})
    assert not is_configured("traces", {GENERAL: "http://lgtm:4318", "OTEL_SDK_DISABLED": "true"})
    assert not is_switched_off("logs", {"OTEL_LOGS_EXPORTER": "otlp"})
