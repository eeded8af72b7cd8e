"""What publish costs: scores a second, bytes a score on the wire, and peak memory of the whole process.

    python benchmarks/publish.py [SCORES ...]

Publishes experiments of 1,000, 10,000 and 100,000 scores, plain and with gzip, to a receiver on loopback that counts
the points and events it is sent. Prints figures and asserts only that everything arrived: figures compare only with
others of the same machine in the same hour.
"""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path

ROOT = Path(__file__).parents[1]
STEPS_OF_A_SCENARIO = 10
METRICS = ("Faithfulness", "AnswerRelevancy", "builtin.tool_calls", "builtin.contains", "builtin.rouge")


def write_experiment(path: Path, scores: int) -> None:
    steps = [_step(number) for number in range(scores // len(METRICS))]
    scenarios = [
        {
            "id": f"scn_{first:016x}",
            "name": f"scenario {first}",
            "trace_id": f"{first + 1:032x}",
            "steps": steps[first : first + STEPS_OF_A_SCENARIO],
        }
        for first in range(0, len(steps), STEPS_OF_A_SCENARIO)
    ]
    path.write_text(json.dumps({"id": "exp_0", "scenarios": scenarios}))


def _step(number: int) -> dict[str, object]:
    question = f"What is the weather like in town number {number} on the day after tomorrow?"
    reason = f"The answer names town {number} and a temperature that the tool returned. " * 2
    return {
        "id": f"stp_{number:016x}",
        "input": question,
        "status": "ok",
        "span_id": f"{number + 1:016x}",
        "turns": [{"type": "human", "content": question}, {"type": "agent", "content": f"Sunny in town {number}."}],
        "evaluations": [
            {
                "metric": {"metric_name": name, "threshold": 0.5},
                "result": {
                    "result": "pass" if number % 4 else "fail",
                    "score": (number % 100) / 100,
                    "reason": reason,
                    "usage": {"input_tokens": 500, "output_tokens": 50, "cost_usd": 0.0001},
                },
            }
            for name in METRICS
        ],
    }


def serve(parent: Connection) -> None:
    """Count points and events until the parent says stop; its own cost is kept out of the publishing process."""
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    bodies: list[tuple[str, bytes]] = []

    class Counter(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            bodies.append((self.path, gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Counter)
    server.timeout = 0.05
    parent.send(server.server_address[1])
    while not parent.poll():
        server.handle_request()
    points = sum(
        len(metric.gauge.data_points)
        for path, body in bodies
        if path == "/v1/metrics"
        for metric in ExportMetricsServiceRequest.FromString(body).resource_metrics[0].scope_metrics[0].metrics
        if metric.name == "testbench_evaluation_metric"
    )
    events = sum(
        len(ExportLogsServiceRequest.FromString(body).resource_logs[0].scope_logs[0].log_records)
        for path, body in bodies
        if path == "/v1/logs"
    )
    parent.send((points, events))


def publish(path: Path, compression: str) -> tuple[float, float, dict[str, int]]:
    """Wall seconds, peak resident MiB, and what the script says of itself."""
    ours, theirs = multiprocessing.Pipe()
    receiver = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,))
    receiver.start()
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TESTBENCH_"))}
    environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{ours.recv()}"
    environ["OTEL_EXPORTER_OTLP_COMPRESSION"] = compression
    script = [
        sys.executable,
        str(ROOT / "testbench" / "publish.py"),
        "bench",
        "exec",
        "1",
        "--input",
        str(path),
        "--json",
    ]
    begin = time.perf_counter()
    process = subprocess.Popen(script, stdout=subprocess.PIPE, env=environ)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"publish ended with exit code {process.returncode}")
    ours.send("stop")
    said: dict[str, int] = json.loads(printed)
    arrived = ours.recv()
    receiver.join()
    if arrived != (said["scores"], said["events"]):
        sys.exit(f"{arrived} points and events arrived of {said['scores']} and {said['events']}")
    return seconds, usage.ru_maxrss / 1024, said


def main(sizes: list[int]) -> None:
    print(f"{'scores':>8} {'file MiB':>9} {'coding':>7} {'wall s':>7} {'scores/s':>9} {'B/score':>8} {'peak MiB':>9}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "evaluated_experiment.json"
        for scores in sizes:
            # in a process of its own: a child's peak memory counts from that of the process that starts it
            writer = multiprocessing.get_context("spawn").Process(target=write_experiment, args=(path, scores))
            writer.start()
            writer.join()
            for compression in ("none", "gzip"):
                seconds, memory, said = publish(path, compression)
                figures = f"{seconds:>7.2f} {scores / seconds:>9.0f} {said['bytes'] / scores:>8.0f} {memory:>9.0f}"
                print(f"{scores:>8} {path.stat().st_size / 2**20:>9.1f} {compression:>7} {figures}")
    print("B/score counts the point and its event; wall time and memory are of the whole process.")


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [1_000, 10_000, 100_000])
