"""What setup costs for a dataset of 50,000 rows, in every format: rows a second, and peak memory of the whole process.

    python benchmarks/setup.py [ROWS]

Prints figures and asserts nothing: they compare only with others of the same machine in the same hour.
"""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
Row = dict[str, Any]


def row(number: int) -> Row:
    return {
        "user_input": f"What is the weather like in town number {number} on the day after tomorrow?",
        "retrieved_contexts": [f"Town {number} lies by the sea. " * 5, f"It often rains in town {number}. " * 5],
        "reference": f"It will be sunny in town number {number}, with {number % 40} degrees Celsius.",
        "reference_topics": ["weather", f"region {number % 100}"],
        "category": f"class {number % 7}",
    }


def write_csv(path: Path, rows: list[Row]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)  # lists as Python writes them, e.g. "['a', 'b']"


def write_json(path: Path, rows: list[Row]) -> None:
    path.write_text(json.dumps(rows))


def write_json_lines(path: Path, rows: list[Row]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def write_parquet(path: Path, rows: list[Row]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), path)


FORMATS: dict[str, Callable[[Path, list[Row]], None]] = {
    "csv": write_csv,
    "json": write_json,
    "jsonl": write_json_lines,
    "parquet": write_parquet,
}


def write_dataset(path: Path, count: int) -> None:
    FORMATS[path.suffix[1:]](path, [row(number) for number in range(count)])


def run(command: list[str]) -> tuple[float, float]:
    """Wall seconds and peak resident MiB of one process."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{shlex.join(command)}: exit {process.returncode}")
    return time.perf_counter() - begin, usage.ru_maxrss / 1024


def main(count: int) -> None:
    print(f"{'format':<8} {'file MiB':>9} {'wall s':>7} {'rows/s':>8} {'peak MiB':>9}   command")
    with tempfile.TemporaryDirectory() as folder:
        for suffix in FORMATS:
            path = Path(folder) / f"dataset.{suffix}"
            # in a process of its own: a child's peak memory counts from that of the process that starts it
            writer = multiprocessing.get_context("spawn").Process(target=write_dataset, args=(path, count))
            writer.start()
            writer.join()
            script = [str(ROOT / "testbench" / "setup.py"), str(path), "--metric", "builtin.exact_match"]
            command = [sys.executable, *script, "--output", str(Path(folder) / "experiment.json")]
            seconds, memory = run(command)
            size = path.stat().st_size / 2**20
            shown = f"python testbench/setup.py {path.name} --metric builtin.exact_match"
            print(f"{suffix:<8} {size:>9.1f} {seconds:>7.2f} {count / seconds:>8.0f} {memory:>9.0f}   {shown}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000)
