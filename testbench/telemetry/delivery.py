"""Exporting over OTLP/HTTP with an account of every item: what was sent arrived, or there is a TelemetryError.

    ExportBatch -> OpenTelemetry's exporter of the signal -> requests.Session -> OtlpAdapter -> collector

The exporters encode and compress; whether something arrived, `testbench.telemetry.adapter` says, because they do not
know it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from requests import Session

from testbench.errors import TelemetryError
from testbench.net.clock import Clock
from testbench.telemetry.adapter import OtlpAdapter, describe
from testbench.telemetry.batches import ExportBatch
from testbench.telemetry.endpoints import PREFIX, Endpoint, Signal
from testbench.telemetry.replies import ExportReply, Kind

EXPORTERS: Final[dict[Signal, Any]] = {
    "metrics": OTLPMetricExporter,
    "logs": OTLPLogExporter,
    "traces": OTLPSpanExporter,
}
NOUNS: Final[dict[Signal, str]] = {"metrics": "data points", "logs": "events", "traces": "spans"}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Delivery:
    """What arrived: `items` were accepted in `requests`; `sent_bytes` counts bodies as sent, compressed."""

    endpoint: str
    items: int = 0
    requests: int = 0
    sent_bytes: int = 0


class OtlpSender:
    """Sends batches of one signal through OpenTelemetry's exporter, one at a time, and counts what was taken."""

    def __init__(self, endpoint: Endpoint, clock: Clock) -> None:
        """Open the exporter; nothing is sent yet.

        Raises:
            InputError: a certificate cannot be read.
        """
        endpoint.check_certificates()
        self.delivered = 0
        self.complaint = "was not reached in time"
        """What the collector last said, or did, where that was no success."""
        self._adapter = OtlpAdapter(endpoint, clock)
        self._exporter = open_exporter(endpoint, self._adapter)

    @property
    def sent_bytes(self) -> int:
        """Bytes of all bodies that were accepted."""
        return self._adapter.sent_bytes

    def send(self, batch: ExportBatch) -> ExportReply:
        """Return what became of the batch. Both the collector and the exporter must say that it is delivered."""
        self._adapter.reply = None
        result = self._exporter.export(batch.data)
        reply = self._adapter.reply or ExportReply("refused", "was not asked: the exporter cannot encode the batch")
        if reply.kind == "accepted" and result.name != "SUCCESS":
            reply = ExportReply("refused", "has accepted what the exporter takes for lost")
        if reply.kind in ("accepted", "rejected"):
            self.delivered += batch.items - min(reply.rejected, batch.items)
        if reply.kind not in ("accepted", "given_up"):
            self.complaint = reply.text or "gave no reason"
        return reply

    def give_up(self) -> None:
        """End at once what is under way in another thread, and send nothing more."""
        self._adapter.give_up()

    def close(self) -> None:
        """Close the connections."""
        self._exporter.shutdown()


async def deliver(endpoint: Endpoint, batches: Iterable[ExportBatch], clock: Clock) -> Delivery:
    """Send the batches one after another; end at the first that does not arrive.

    A batch of which the collector rejects a part is not sent again; the batches after it still are, so that as much as
    possible arrives, and then the loss is raised.

    Raises:
        TelemetryError: something did not arrive; with the endpoint, its answer, and how much had arrived.
        InputError: a certificate cannot be read.
    """
    sender = OtlpSender(endpoint, clock)
    try:
        return await asyncio.to_thread(_send_all, endpoint, sender, batches)
    except asyncio.CancelledError:
        sender.give_up()
        raise
    finally:
        sender.close()


def _send_all(endpoint: Endpoint, sender: OtlpSender, batches: Iterable[ExportBatch]) -> Delivery:
    items = requests = 0
    for batch in batches:
        reply = sender.send(batch)
        if reply.kind not in ("accepted", "rejected"):
            raise _failure(endpoint, reply, sender.delivered)
        if reply.kind == "accepted" and reply.text:
            logger.warning("%s warns: %s", endpoint.shown, endpoint.redact(reply.text))
        items += batch.items
        requests += 1
    if rejected := items - sender.delivered:
        text = f"rejected {rejected} of {items} {NOUNS[endpoint.signal]}: {sender.complaint}"
        raise _failure(endpoint, ExportReply("rejected", text), None)
    return Delivery(endpoint.shown, items, requests, sender.sent_bytes)


def open_exporter(endpoint: Endpoint, adapter: OtlpAdapter) -> Any:
    """Return OpenTelemetry's exporter of the endpoint's signal, over a session that has nothing but the adapter."""
    # every failure is an ExportReply; the exporters would also log it, before it is known what it means
    logging.getLogger("opentelemetry.exporter.otlp.proto.http").setLevel(logging.CRITICAL)
    session = Session()
    session.trust_env = False  # or ~/.netrc would replace the credentials
    session.adapters.clear()
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return EXPORTERS[endpoint.signal](
        endpoint=endpoint.url,
        timeout=endpoint.timeout_s,
        compression=Compression(endpoint.compression),
        session=session,
        max_request_size=0,  # what is too large, the collector says
    )


def _failure(endpoint: Endpoint, reply: ExportReply, arrived: int | None) -> TelemetryError:
    noun = NOUNS[endpoint.signal]
    so_far = "" if arrived is None else f" ({arrived or 'no'} {noun} had arrived)"
    return TelemetryError(describe(endpoint, reply.text) + so_far, hint=_hint(endpoint.signal, reply.kind))


def _hint(signal: Signal, kind: Kind) -> str:
    match kind:
        case "unauthorized":
            return f"Give the credentials in {PREFIX}HEADERS, e.g. authorization=Bearer%20TOKEN"
        case "not_found" if signal == "logs":
            return "OTEL_LOGS_EXPORTER=none publishes without events, for a backend that takes metrics only."
        case "not_found" | "not_otlp":
            return f"{PREFIX}ENDPOINT is the OTLP/HTTP address of a collector, usually with port 4318."
        case "tls":
            return f"{PREFIX}CERTIFICATE names the file of the authority; a collector without TLS wants http://"
        case "timeout":
            return f"Give it longer with --timeout (seconds) or {PREFIX}TIMEOUT (milliseconds)."
        case "rejected":
            return "The collector's own log and limits say which items it rejects."
        case "unreachable" | "given_up":
            return f"Start a collector there, or set {PREFIX}ENDPOINT to one that runs."
        case "refused" | "accepted":
            return "The collector's own log says more."
