"""A job that generates data, for tests: its manifest and bundle, a model with questions, the context of a worker."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from testbench.arena.bundle.bundle import Bundle, BundleFiles
from testbench.arena.conclusion import Conclusion
from testbench.arena.manifest.documents import Documents, load_documents
from testbench.arena.manifest.fields import API_VERSION
from testbench.arena.plan.build import prepare_plan
from testbench.arena.runs.context import JobContext, RunFolder
from testbench.arena.runs.job_types import run_in_this_process
from testbench.arena.runs.target_clients import CredentialSource, TargetClients
from testbench.arena.stores import MemoryStore, ResultStore
from testbench.net.clock import FakeClock

FILES = {"prompts/tides.md": "Questions about tides.", "documents/ebb.md": "Ebb is low.", "documents/flood.md": "High."}
KEY = "sk-never-shown-1234567890"
"""In the variable GPT_KEY."""
WANTED = re.compile(r"Write exactly (\d+) items")


def inventive(first: int = 0) -> Callable[[str], Mapping[str, Any]]:
    """A model that never says the same twice, nor what one says that begins elsewhere."""
    number = count(first)
    return lambda prompt: batch(*(f"{unlike(next(number))}?" for _ in range(wanted(prompt))))


def unlike(number: int) -> str:
    """A text that is like no other one's."""
    return hashlib.sha256(str(number).encode()).hexdigest()


def wanted(prompt: str) -> int:
    found = WANTED.search(prompt)
    assert found is not None
    return int(found.group(1))


def batch(*questions: str) -> Mapping[str, Any]:
    return {"items": [{"user_input": text, "reference": f"The answer to {text}"} for text in questions]}


def repeating() -> Callable[[str], Mapping[str, Any]]:
    """A model that says everything twice."""
    number = count()
    return lambda prompt: batch(*(f"{unlike(next(number) // 2)}?" for _ in range(wanted(prompt))))


def bundle_of(files: Mapping[str, str]) -> Bundle:
    found = BundleFiles("bundle")
    for path, text in files.items():
        found.add(path, text.encode())
    return found.bundle()


def provider(name: str, url: str, **spec: Any) -> dict[str, Any]:
    whole = {"type": "openai", "model": f"{name}-model", "baseURL": url} | spec
    return {"apiVersion": API_VERSION, "kind": "Provider", "metadata": {"name": name}, "spec": whole}


def documents_of(folder: Path, data_gen: Mapping[str, Any], *resources: Mapping[str, Any]) -> Documents:
    refs = {"Provider": "providerRef", "AgentRuntime": "agentRef"}
    entries = [{refs[one["kind"]]: {"name": one["metadata"]["name"]}} for one in resources if one["kind"] in refs]
    spec = {
        "sourceRef": {"name": "s"},
        "type": "datagen",
        "dataGen": dict(data_gen),
        "providers": {"default": entries},
    }
    job = {"apiVersion": API_VERSION, "kind": "ArenaJob", "metadata": {"name": "gen"}, "spec": spec}
    path = folder / "manifest.yaml"
    path.write_text(yaml.safe_dump_all([job, *resources]))
    return load_documents(path)


def context_of(documents: Documents, store: ResultStore | None = None, files: Mapping[str, str] = FILES) -> JobContext:
    bundle = bundle_of(files)
    job = documents.job()
    plan, known = prepare_plan(job, documents, bundle)
    return JobContext(
        job=job,
        documents=known,
        plan=plan,
        store=RunFolder(store or MemoryStore(), "default/gen/run-1"),
        run_id="run-1",
        clients=TargetClients(job, known, CredentialSource(known, environment={"GPT_KEY": KEY})),
        source=bundle,
        clock=FakeClock(),
    )


def run(context: JobContext) -> Conclusion:
    return asyncio.run(run_in_this_process(context))


def files_of(context: JobContext) -> dict[str, bytes]:
    store = context.store.whole
    assert isinstance(store, MemoryStore)
    return {name.removeprefix("default/gen/run-1/"): content for name, content in store.files.items()}


def rows(content: bytes) -> list[Any]:
    return [json.loads(line) for line in content.splitlines()]
