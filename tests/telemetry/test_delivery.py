"""Delivery to a real receiver that fails in every way: everything arrived, or the error says what and why."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData, ResourceMetrics
from opentelemetry.sdk.resources import Resource

from testbench.errors import InputError, TelemetryError
from testbench.net.clock import FakeClock
from testbench.telemetry.adapter import OtlpAdapter
from testbench.telemetry.batches import BATCH_SIZE, ExportBatch, metric_batches
from testbench.telemetry.delivery import Delivery, deliver, open_exporter
from testbench.telemetry.endpoints import Endpoint, resolve
from testbench.telemetry.points import Point
from tests.support.certificates import write_certificate
from tests.support.servers.loopback import LoopbackServer, Reply
from tests.support.servers.otlp_receiver import OtlpReceiver, plain_body
from tests.support.servers.scripting import Request

NO_HURRY_S = 60.0
"""A time limit that a passing test never reaches: its waits go by the fake clock."""


def points(number: int) -> list[Point]:
    return [Point("testbench_evaluation_metric", 0.5, {"sample_hash": f"stp_{each}"}) for each in range(number)]


def batches(number: int) -> Iterator[ExportBatch]:
    return metric_batches(points(number), {"service.name": "testbench"}, time_ns=1)


def endpoint_of(otlp: OtlpReceiver, **environ: str) -> Endpoint:
    return resolve("metrics", {"OTEL_EXPORTER_OTLP_ENDPOINT": otlp.endpoint, **environ}, timeout_s=NO_HURRY_S)


async def fails(endpoint: Endpoint, number: int = 1, clock: FakeClock | None = None) -> TelemetryError:
    with pytest.raises(TelemetryError) as caught:
        await deliver(endpoint, batches(number), clock or FakeClock())
    assert endpoint.shown in caught.value.message
    return caught.value


async def test_everything_arrives_in_batches(otlp: OtlpReceiver) -> None:
    done = await deliver(endpoint_of(otlp), batches(2 * BATCH_SIZE + 1), FakeClock())
    assert (done.items, done.requests) == (2 * BATCH_SIZE + 1, 3)
    assert {point.attributes["sample_hash"] for point in otlp.points} == {
        f"stp_{each}" for each in range(2 * BATCH_SIZE + 1)
    }
    assert len(otlp.points) == 2 * BATCH_SIZE + 1
    assert {point.time_ns for point in otlp.points} == {1}


async def test_nothing_to_send_is_no_request(otlp: OtlpReceiver) -> None:
    assert await deliver(endpoint_of(otlp), batches(0), FakeClock()) == Delivery(f"{otlp.endpoint}/v1/metrics")
    assert otlp.requests == []


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
async def test_compressed_where_asked(otlp: OtlpReceiver, compression: str) -> None:
    done = await deliver(endpoint_of(otlp, OTEL_EXPORTER_OTLP_COMPRESSION=compression), batches(100), FakeClock())
    assert otlp.requests[0].headers["content-encoding"] == compression
    assert done.sent_bytes == len(otlp.requests[0].body) < len(plain_body(otlp.requests[0]))
    assert len(otlp.points) == 100


async def test_headers_are_sent(otlp: OtlpReceiver) -> None:
    await deliver(endpoint_of(otlp, OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20abc"), batches(1), FakeClock())
    sent = otlp.requests[0].headers
    assert (sent["authorization"], sent["content-type"]) == ("Bearer abc", "application/x-protobuf")


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_what_can_be_tried_again_is(otlp: OtlpReceiver, status: int) -> None:
    clock = FakeClock()
    otlp.statuses(status, status, 200)
    done = await deliver(endpoint_of(otlp), batches(10), clock)
    assert (done.items, len(otlp.points), len(otlp.requests)) == (10, 10, 3)
    assert 0 <= clock.sleeps[0] <= 1
    assert 0 <= clock.sleeps[1] <= 2


async def test_the_servers_wish_to_wait_is_obeyed(otlp: OtlpReceiver) -> None:
    clock = FakeClock()
    otlp.fail_next(status=429, retry_after=7)
    await deliver(endpoint_of(otlp), batches(1), clock)
    assert 7.0 <= clock.sleeps[0] <= 8.0  # the common back-off comes on top


async def test_a_wait_beyond_the_deadline_is_not_begun(otlp: OtlpReceiver) -> None:
    clock = FakeClock()
    otlp.fail_next(status=503, retry_after=3600)
    error = await fails(endpoint_of(otlp), clock=clock)
    assert "answered 503 Service Unavailable" in error.message
    assert (clock.sleeps, len(otlp.requests)) == ([], 1)


async def test_an_outage_ends_at_the_deadline(otlp: OtlpReceiver) -> None:
    clock = FakeClock()
    otlp.fail_next(100, status=503)
    error = await fails(endpoint_of(otlp), clock=clock)
    assert "scripted 503" in error.message
    assert NO_HURRY_S / 3 < sum(clock.sleeps) < NO_HURRY_S


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 500])
async def test_a_refusal_is_final(otlp: OtlpReceiver, status: int) -> None:
    otlp.fail_next(status=status, body="label value too long")
    error = await fails(endpoint_of(otlp))
    assert f"answered {status}" in error.message
    assert "label value too long (no data points had arrived)" in error.message
    assert len(otlp.requests) == 1


async def test_a_refusal_in_the_middle_says_what_had_arrived(otlp: OtlpReceiver) -> None:
    otlp.statuses(200, 400)
    error = await fails(endpoint_of(otlp), number=3 * BATCH_SIZE)
    assert f"({BATCH_SIZE} data points had arrived)" in error.message
    assert len(otlp.requests) == 2


async def test_a_redirect_is_not_followed(otlp: OtlpReceiver) -> None:
    otlp.fail_next(status=302)
    assert "answered 302 Found" in (await fails(endpoint_of(otlp))).message


async def test_a_page_instead_of_an_answer(otlp: OtlpReceiver) -> None:
    otlp.garbage_next()
    error = await fails(endpoint_of(otlp))
    assert "not as an OTLP collector" in error.message


async def test_partial_success_is_counted_over_all_batches(otlp: OtlpReceiver) -> None:
    otlp.reject(3, "too many series")
    error = await fails(endpoint_of(otlp), number=2 * BATCH_SIZE)
    assert f"rejected 6 of {2 * BATCH_SIZE} data points: too many series" in error.message
    assert len(otlp.requests) == 2


async def test_a_hanging_collector_costs_the_time_limit(otlp: OtlpReceiver) -> None:
    otlp.hang()
    error = await fails(replace(endpoint_of(otlp), timeout_s=0.2))
    assert "gave no answer within 0.2 s" in error.message
    assert "OTEL_EXPORTER_OTLP_TIMEOUT" in error.hint


class DrippingCollector(LoopbackServer):
    """Answers drop by drop and never to the end, so that no single read waits for long."""

    def __init__(self) -> None:
        self.enough = Event()
        super().__init__()

    def reply_to(self, request: Request) -> Reply:
        return Reply(200, pieces=self._drops())

    def _drops(self) -> Iterator[bytes]:
        while not self.enough.wait(0.02):
            yield b"\0"


async def test_a_dripping_collector_costs_the_time_limit() -> None:
    with DrippingCollector() as collector:
        endpoint = resolve("metrics", {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.origin}, timeout_s=0.2)
        error = await fails(endpoint)
        collector.enough.set()
    assert "gave no answer within 0.2 s" in error.message


async def test_a_delivery_that_is_cancelled_ends_at_once(otlp: OtlpReceiver) -> None:
    """The time limit is an hour: a test that waited for it would not end."""
    otlp.hang()
    delivery = asyncio.ensure_future(deliver(replace(endpoint_of(otlp), timeout_s=3600), batches(1), FakeClock()))
    await asyncio.to_thread(otlp.wait_in_flight, 1)
    delivery.cancel()
    with pytest.raises(asyncio.CancelledError):
        await delivery
    await asyncio.get_running_loop().shutdown_default_executor()


class StuckClock(FakeClock):
    """Its waits end when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.waits, self.goes_on = Event(), Event()

    async def sleep(self, seconds: float) -> None:
        self.waits.set()
        await asyncio.to_thread(self.goes_on.wait)


async def test_what_was_given_up_is_not_tried_again(otlp: OtlpReceiver) -> None:
    clock = StuckClock()
    otlp.fail_next(99, status=503)
    delivery = asyncio.ensure_future(deliver(endpoint_of(otlp), batches(1), clock))
    await asyncio.to_thread(clock.waits.wait)
    tries = [thread for thread in threading.enumerate() if thread.name == "otlp"]
    delivery.cancel()
    with pytest.raises(asyncio.CancelledError):
        await delivery
    await asyncio.get_running_loop().shutdown_default_executor()
    clock.goes_on.set()
    for thread in tries:
        thread.join()
    assert len(otlp.requests) == 1


async def test_what_the_exporter_does_not_send_is_no_success(otlp: OtlpReceiver) -> None:
    no_scope = MetricsData([ResourceMetrics(Resource({}), ["none"], "")])  # type: ignore[list-item]  # it is meant
    with pytest.raises(TelemetryError, match=r"cannot encode the batch \(1 data points had arrived\)"):
        await deliver(endpoint_of(otlp), [*batches(1), ExportBatch(no_scope, 1)], FakeClock())
    assert len(otlp.requests) == 1


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(lambda otlp: otlp.fail_next(status=302), id="redirect"),
        pytest.param(lambda otlp: otlp.fail_next(status=503, retry_after=3600), id="outage"),
        pytest.param(lambda otlp: otlp.garbage_next(), id="page"),
        pytest.param(lambda otlp: otlp.reject(1), id="partial"),
    ],
)
def test_the_exporter_itself_fails_and_does_not_try_again(otlp: OtlpReceiver, fault: Any) -> None:
    fault(otlp)
    endpoint = endpoint_of(otlp)
    [batch] = batches(2)
    exporter = open_exporter(endpoint, OtlpAdapter(endpoint, FakeClock()))
    assert exporter.export(batch.data) is MetricExportResult.FAILURE
    assert len(otlp.requests) == 1
    exporter.shutdown()


async def test_what_the_exporter_takes_for_lost_is_no_success(
    otlp: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("testbench.telemetry.adapter.BytesIO", list)  # a reply that the session cannot read
    error = await fails(endpoint_of(otlp))
    assert "has accepted what the exporter takes for lost" in error.message


async def test_a_cut_connection_is_tried_again(otlp: OtlpReceiver) -> None:
    otlp.drop_next()
    done = await deliver(endpoint_of(otlp), batches(1), FakeClock())
    assert (done.items, len(otlp.requests)) == (1, 2)


async def test_nobody_there(nobody: str) -> None:
    clock = FakeClock()
    error = await fails(resolve("metrics", {"OTEL_EXPORTER_OTLP_ENDPOINT": nobody}), clock=clock)
    assert "cannot be reached" in error.message
    assert clock.sleeps


async def test_an_answer_shows_no_secret(otlp: OtlpReceiver) -> None:
    otlp.fail_next(status=401, body="no such token: s3cret-token")
    error = await fails(endpoint_of(otlp, OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20s3cret-token"))
    assert "no such token: [redacted]" in error.message
    assert "OTEL_EXPORTER_OTLP_HEADERS" in error.hint


async def test_only_the_credentials_of_the_endpoint_are_sent(
    otlp: OtlpReceiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("default login somebody password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=of-another-collector")
    await deliver(endpoint_of(otlp, OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20abc"), batches(1), FakeClock())
    with_user = {"OTEL_EXPORTER_OTLP_ENDPOINT": otlp.endpoint.replace("//", "//user:pass@")}
    await deliver(resolve("metrics", with_user), batches(1), FakeClock())
    await deliver(endpoint_of(otlp), batches(1), FakeClock())
    sent = [request.headers for request in otlp.requests]
    assert [headers.get("authorization") for headers in sent] == ["Bearer abc", "Basic dXNlcjpwYXNz", None]
    assert not any("x-key" in headers or "cookie" in headers for headers in sent)


async def test_a_proxy_of_the_environment_is_used(otlp: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", otlp.endpoint.replace("//", "//me:hunter2@"))
    endpoint = resolve("metrics", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector.invalid"})
    error = await fails(endpoint)
    assert otlp.requests[0].path == "http://collector.invalid/v1/metrics"
    assert "hunter2" not in error.message + error.hint


async def test_tls_against_a_collector_without(otlp: OtlpReceiver) -> None:
    clock = FakeClock()
    error = await fails(replace(endpoint_of(otlp), url=otlp.endpoint.replace("http:", "https:")), clock=clock)
    assert "failed in TLS" in error.message
    assert clock.sleeps == []


class _Collector(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Not wanted in a test's output."""


@contextmanager
def tls_collector(folder: Path, *, wants_client: bool = False) -> Iterator[str]:
    """A collector behind TLS; `folder` gets `cert.pem` and `key.pem`, which client and server share."""
    certificate, key = write_certificate(folder)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificate)
    context.load_cert_chain(certificate, key)
    context.verify_mode = ssl.CERT_REQUIRED if wants_client else ssl.CERT_NONE
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Collector)
    server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]  # a refused handshake
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_a_certificate_of_an_unknown_authority_is_refused_at_once(tmp_path: Path) -> None:
    clock = FakeClock()
    with tls_collector(tmp_path) as url:
        error = await fails(resolve("metrics", {"OTEL_EXPORTER_OTLP_ENDPOINT": url}), clock=clock)
    assert "failed in TLS" in error.message
    assert "certificate verify failed" in error.message
    assert "OTEL_EXPORTER_OTLP_CERTIFICATE" in error.hint
    assert clock.sleeps == []


async def test_the_given_authority_is_trusted(tmp_path: Path) -> None:
    with tls_collector(tmp_path) as url:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_CERTIFICATE": str(tmp_path / "cert.pem")}
        assert (await deliver(resolve("metrics", environ), batches(1), FakeClock())).items == 1


async def test_the_authority_of_the_machine_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    with tls_collector(tmp_path) as url:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": url}
        assert (await deliver(resolve("metrics", environ), batches(1), FakeClock())).items == 1


async def test_a_client_shows_its_certificate(tmp_path: Path) -> None:
    with tls_collector(tmp_path, wants_client=True) as url:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_CERTIFICATE": str(tmp_path / "cert.pem")}
        await fails(resolve("metrics", environ))
        environ["OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"] = str(tmp_path / "cert.pem")
        with pytest.raises(InputError, match="no usable certificate or key"):
            resolve("metrics", environ).check_certificates()
        environ["OTEL_EXPORTER_OTLP_CLIENT_KEY"] = str(tmp_path / "key.pem")
        assert (await deliver(resolve("metrics", environ), batches(1), FakeClock())).items == 1
