"""What a report costs: seconds and memory to write it, its size, and how soon a browser shows and searches it.

    python benchmarks/report.py [STEPS ...]

Writes reports of 200, 2,000 and 20,000 steps by `visualize.py` in processes of their own, and opens each in the
system's Chromium where there is one. Prints figures and asserts nothing about them: figures compare only with others of
the same machine in the same hour.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

SEARCH = "marrowgate cancelled"
COLUMNS = ("steps", "input MB", "write s", "CPU s", "MiB", "report MB", "open s", "first search s", "next search s")


def main(sizes: list[int]) -> None:
    """Measure each size and print one line for it."""
    print("  ".join(f"{title:>14}" for title in COLUMNS))
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            source, report = Path(folder, f"{size}.json"), Path(folder, f"{size}.html")
            write_input(source, size)
            seconds, cpu, memory = write_report(source, report)
            figures = (size, source.stat().st_size / 1e6, seconds, cpu, memory, report.stat().st_size / 1e6)
            shown = [f"{value:14,.2f}" if isinstance(value, float) else f"{value:14,}" for value in figures]
            print("  ".join([*shown, *in_browser(report)]), flush=True)


def write_input(path: Path, steps: int) -> None:
    """An evaluated experiment, made in a process of its own so that its memory is not this one's."""
    code = (
        "import sys; from pathlib import Path; from testbench.schema.files import write_model; "
        "from tests.support.report_factory import experiment; "
        "write_model(Path(sys.argv[1]), experiment(int(sys.argv[2])))"
    )
    subprocess.run([sys.executable, "-c", code, str(path), str(steps)], check=True, cwd=ROOT)


def write_report(source: Path, report: Path) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak memory in MiB of one `visualize.py`."""
    arguments = ["testbench/visualize.py", "bench", "exec", "1", "--input", str(source), "--output", str(report)]
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit(f"visualize.py ended with {os.waitstatus_to_exitcode(status)}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def in_browser(report: Path) -> list[str]:
    """Seconds until the rows are there, until the first search is answered, and until a second one is."""
    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    if browser_path is None:
        return ["    no Chromium"]
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()

        def ready() -> None:
            page.goto(report.as_uri())
            page.wait_for_selector("html[data-ready]", state="attached")

        def search(text: str) -> None:
            before = page.locator("html").get_attribute("data-found")
            page.fill("#search", text)
            page.wait_for_selector(f'html[data-found]:not([data-found="{before}"])', state="attached")

        times = [timed(ready), timed(lambda: search(SEARCH)), timed(lambda: search("no such words"))]
        browser.close()
    return [f"{seconds:14.2f}" for seconds in times]


def timed(work: Callable[[], None]) -> float:
    """Wall seconds of `work`."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [200, 2_000, 20_000])
