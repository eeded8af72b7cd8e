"""What evaluate costs beside the judge's own time: wall over ideal, CPU for each call, the cache, and the imports.

    python benchmarks/evaluate.py [EVALUATIONS]

Judges answers with RAGAS's Faithfulness, which asks twice, against a judge on loopback that takes 100 ms for each
question; once through Testbench, once the way RAGAS's own documentation shows (`llm_factory`). Then the whole script in
a process of its own: 200 steps with two metrics, and 1,000 evaluations from the cache. Prints figures, says of each
promise whether it was kept, and fails only where an evaluation has no score: figures compare only with others of the
same machine in the same hour.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Coroutine
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LATENCY_S = 0.1
CALLS = 2
ANSWERS: dict[str, dict[str, Any]] = {
    "NLIStatementOutput": {"statements": [{"statement": "It is sunny.", "reason": "it says so", "verdict": 1}]},
    "StatementGeneratorOutput": {"statements": ["It is sunny."]},
    "AnswerAccuracyOutput": {"rating": 4},
}


async def judge(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An OpenAI-compatible judge that thinks for 100 ms, as cheap as it can be: it shares the machine."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
            body = await reader.readexactly(length)
            answer = next(value for name, value in ANSWERS.items() if name.encode() in body or _is(name, body))
            await asyncio.sleep(LATENCY_S)
            content = _completion(json.dumps(answer))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
            writer.write(b"content-length: %d\r\n\r\n" % len(content) + content)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def _is(name: str, body: bytes) -> bool:
    return name == "AnswerAccuracyOutput" and b"rating" in body


def _completion(text: str) -> bytes:
    message = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 500, "completion_tokens": 50, "total_tokens": 550}
    whole = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [message], "usage": usage}
    return json.dumps(whole).encode()


def serve(parent: Connection) -> None:
    async def forever() -> None:
        server = await asyncio.start_server(judge, "127.0.0.1", 0, limit=2**20, backlog=512)
        parent.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(forever())


def executed(evaluations: int, metrics: list[str]) -> dict[str, Any]:
    """An executed experiment whose every step is one evaluation by each metric."""
    steps = [
        {
            "id": f"stp_{number:016x}",
            "input": f"What is the weather in town {number}?",
            "status": "ok",
            "reference": {"response": "It is sunny."},
            "custom_values": {"retrieved_contexts": [f"It is sunny in town {number}."]},
            "metrics": [{"metric_name": name, "threshold": 0.5} for name in metrics],
            "turns": [{"type": "human", "content": "?"}, {"type": "agent", "content": f"It is sunny in {number}."}],
        }
        for number in range(evaluations // len(metrics))
    ]
    scenarios = [
        {"id": f"scn_{first:016x}", "name": f"{first}", "steps": steps[first : first + 5]}
        for first in range(0, len(steps), 5)
    ]
    return {"id": "exp_0", "llm_as_a_judge_model": "m", "scenarios": scenarios}


async def ours(evaluations: int, concurrency: int, url: str) -> int:
    from testbench.metrics.evaluation import EvaluationDependencies, EvaluationSettings, evaluate
    from testbench.results.summary import walk_evaluations as all_of
    from testbench.schema.models import ExecutedExperiment

    experiment = ExecutedExperiment.model_validate(executed(evaluations, ["Faithfulness"]))
    settings = EvaluationSettings(concurrency=concurrency, cache=None)
    found = await evaluate(experiment, settings, EvaluationDependencies({"OPENAI_API_BASE": url}))
    return sum(item.status == "pass" for item in all_of(found))


async def stock(evaluations: int, concurrency: int, url: str) -> int:
    from openai import AsyncOpenAI
    from ragas.llms import llm_factory
    from ragas.metrics.collections import Faithfulness

    client = AsyncOpenAI(base_url=url, api_key="k")
    metric = Faithfulness(llm=llm_factory("m", client=client))
    slots = asyncio.Semaphore(concurrency)

    async def score(number: int) -> float:
        async with slots:
            contexts = [f"It is sunny in town {number}."]
            result = await metric.ascore(
                user_input=f"What is the weather in town {number}?",
                response=f"It is sunny in {number}.",
                retrieved_contexts=contexts,
            )
            return float(result.value)

    values = await asyncio.gather(*(score(number) for number in range(evaluations)))
    await client.close()
    return sum(value == 1.0 for value in values)


def measure(parent: Connection, path: str, evaluations: int, concurrency: int, url: str) -> None:
    """Wall and CPU seconds of a path, imports and first connection left out."""
    os.environ["RAGAS_DO_NOT_TRACK"] = "true"
    run: Any = ours if path == "ours" else stock

    def timed(work: Coroutine[Any, Any, int]) -> tuple[float, float, int]:
        wall, cpu = time.perf_counter(), time.process_time()
        scored = asyncio.run(work)
        return time.perf_counter() - wall, time.process_time() - cpu, scored

    timed(run(1, 1, url))
    parent.send(timed(run(evaluations, concurrency, url)))


def measured(path: str, evaluations: int, concurrency: int, url: str) -> tuple[float, float]:
    mine, theirs = multiprocessing.Pipe()
    arguments = (theirs, path, evaluations, concurrency, url)
    process = multiprocessing.get_context("spawn").Process(target=measure, args=arguments)
    process.start()
    wall, cpu, scored = mine.recv()
    process.join()
    if scored != evaluations:
        sys.exit(f"{scored} of {evaluations} evaluations have their score")
    return wall, cpu


def script(folder: Path, evaluations: int, metrics: list[str], url: str, *arguments: str) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak MiB of the whole script, imports included."""
    (folder / "in.json").write_text(json.dumps(executed(evaluations, metrics)))
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TESTBENCH_"))}
    environ |= {"OPENAI_API_BASE": url, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "testbench" / "evaluate.py"), "--input", "in.json", "--output", "out.json"]
    begin = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--json", *arguments], cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    passed = json.loads(printed)["evaluations"]["passed"] if process.returncode == 0 else 0
    if passed != evaluations:
        sys.exit(f"{passed} of {evaluations} evaluations passed, exit code {process.returncode}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main(evaluations: int) -> None:
    mine, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{mine.recv()}/v1"
    heads = f"{'evaluations':>11} {'wall s':>7} {'ideal s':>8} {'ratio':>6} {'CPU ms/call':>12}"
    print(f"load {os.getloadavg()[0]:.1f}\n{'path':>6} {'in flight':>9} {heads}")
    ratios, costs = {}, {}
    for path, concurrency in (("ours", 1), ("ours", 10), ("ours", 64), ("stock", 10), ("stock", 64)):
        number = evaluations if concurrency > 1 else max(1, evaluations // 10)
        wall, cpu = measured(path, number, concurrency, url)
        ideal = number * CALLS * LATENCY_S / concurrency
        ratios[path, concurrency], costs[path, concurrency] = wall / ideal, cpu / (number * CALLS)
        figures = f"{number:>11} {wall:>7.2f} {ideal:>8.2f} {wall / ideal:>6.2f} {1000 * cpu / (number * CALLS):>12.2f}"
        print(f"{path:>6} {concurrency:>9} {figures}", flush=True)
    print(f"\n{'the whole script':<52} {'wall s':>7} {'CPU s':>6} {'peak MiB':>9}")
    walls = {}
    two = ["Faithfulness", "AnswerAccuracy"]
    for title, number, metrics, arguments in (
        ("200 steps, two metrics", 400, two, ("--no-cache",)),
        ("200 steps, two metrics, --concurrency 10", 400, two, ("--no-cache", "--concurrency", "10")),
        ("1,000 evaluations, cold cache, 64 in flight", 1000, ["Faithfulness"], ("--concurrency", "64")),
        ("1,000 evaluations, warm cache", 1000, ["Faithfulness"], ("--concurrency", "64", "--fresh")),
        ("1,000 evaluations, already complete (cache)", 1000, ["Faithfulness"], ("--concurrency", "64")),
        ("1 evaluation from the cache: the imports", 1, ["Faithfulness"], ()),
        ("1,000 builtin evaluations", 1000, ["builtin.similarity"], ()),
    ):
        with tempfile.TemporaryDirectory() as once:
            folder = CACHED if "cache" in title else Path(once)
            wall, cpu, memory = script(folder, number, metrics, url, *arguments)
        walls[title] = wall
        print(f"{title:<52} {wall:>7.2f} {cpu:>6.2f} {memory:>9.0f}", flush=True)
    print(f"\nload {os.getloadavg()[0]:.1f}")
    for promise, found, limit in (
        ("wall over ideal with 10 in flight", ratios["ours", 10], 1.1),
        ("CPU of a question over that of the stock path, 10 in flight", costs["ours", 10] / costs["stock", 10], 1.0),
        ("CPU of a question over that of the stock path, 64 in flight", costs["ours", 64] / costs["stock", 64], 1.0),
        ("seconds for 200 steps with two metrics", walls["200 steps, two metrics"], 10.0),
        ("seconds for 1,000 evaluations from the cache", walls["1,000 evaluations, warm cache"], 10.0),
    ):
        print(f"{promise:<60} {found:>6.2f} < {limit:<5} {'ok' if found < limit else 'MISSED'}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as shared:
        CACHED = Path(shared)
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
